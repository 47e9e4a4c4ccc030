"""The verdict as a file of the run: every policy's scores with interval, n and effective n.

It holds nothing that the stored evaluation does not: it is written anew with each report.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from passline.evaluate.stats import Estimate
from passline.evaluate.verdict import PolicyScore, Verdict
from passline.runs import replace_file

__all__ = ["VERDICT_FILE", "score_to_dict", "verdict_to_dict", "write_verdict"]

VERDICT_FILE = "verdict.json"
ESTIMATES = (
    "pass_rate",
    "result_usd",
    "advantage",
    "advantage_redrawn",
    "result_advantage",
    "result_advantage_redrawn",
)


def write_verdict(
    path: Path, verdict: Verdict, markets: Mapping[str, Verdict] | None = None
) -> None:
    """Writes the verdict as JSON; a bound that the sample cannot give is null.

    Args:
        path: the file.
        verdict: on all episodes.
        markets: the same on the episodes of each contract, by symbol, where there are several.
    """
    content = verdict_to_dict(verdict)
    if markets:
        content["markets"] = {symbol: verdict_to_dict(own) for symbol, own in markets.items()}
    replace_file(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def verdict_to_dict(verdict: Verdict) -> dict[str, Any]:
    """Returns a verdict as plain data."""
    return {
        "verdict": verdict.word.value,
        "sentence": verdict.sentence,
        "reasons": list(verdict.reasons),
        "policies": [score_to_dict(score) for score in verdict.scores],
    }


def score_to_dict(score: PolicyScore) -> dict[str, Any]:
    """Returns a policy's scores as plain data; estimates that it lacks are left out."""
    told: dict[str, Any] = {
        "policy": score.policy,
        "n_trips": score.n_trips,
        "trips_per_day": score.trips_per_day,
    }
    for name in ESTIMATES:
        estimate: Estimate | None = score.__dict__[name]
        if estimate is not None:
            told[name] = {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in asdict(estimate).items()
            }
    return told
