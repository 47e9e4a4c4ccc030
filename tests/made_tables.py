"""Evaluation tables of made-up episodes that say no more than a test needs."""

from typing import Any

import numpy as np

from passline.evaluate.table import EvaluationTable
from passline.sim.layout import Outcome

__all__ = ["bare_table"]


def bare_table(is_pass: np.ndarray, days: np.ndarray, **columns: Any) -> EvaluationTable:
    """Returns episodes that passed or not, begun on some days; all else is empty unless given."""
    n, none = len(days), np.zeros(len(days), int)
    known: dict[str, Any] = dict.fromkeys(EvaluationTable.__dataclass_fields__, none)
    known |= dict.fromkeys(("phase", "policy", "slice", "path", "market"), "x")
    known |= {"reward": none * 0.0, "mean_r": none * 0.0, "start_day": days}
    known |= dict.fromkeys(("action_counts", "choice_counts"), np.zeros((n, 1), int))
    known |= {
        "result_mills": np.where(is_pass, 3_000_000, -2_000_000),
        "outcome": np.where(is_pass, int(Outcome.PASSED), int(Outcome.BREACHED)),
    }
    known |= columns
    return EvaluationTable.build({k: v for k, v in known.items() if k != "action_names"}, ("a",))
