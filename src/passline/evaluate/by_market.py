"""The verdict market by market, beside the one on all of them together.

Markets of a run share one policy, and a pooled pass rate can hide that it lives on one of them.
Everything here is computed from an EvaluationTable alone.
"""

from collections.abc import Mapping

from passline.evaluate.table import EvaluationTable
from passline.evaluate.verdict import Verdict, final_phase, last_evaluations, verdict
from passline.kinds import Origin

__all__ = ["luck_sentence", "verdicts_by_market"]


def verdicts_by_market(
    table: EvaluationTable, *, span_days: int, origin: Origin | None = None
) -> dict[str, Verdict]:
    """Returns the verdict on each contract of the agent's latest evaluation, by symbol.

    Each is spoken by the rule of the whole (see `verdict`) on the episodes of its contract alone.
    Fewer episodes make wider intervals, so that several markets may show nothing each and an edge
    together.

    Args:
        table: all stored episodes.
        span_days: longest an episode may last, calendar days.
        origin: how the agent came to be (see `verdict`).

    Returns:
        Empty where the evaluation holds fewer than two contracts.
    """
    phase = final_phase(table)
    symbols = sorted(set(last_evaluations(table, phase=phase).market.tolist()))
    if len(symbols) < 2:
        return {}
    rows = table.where(phase=phase)
    return {
        symbol: verdict(rows.select(rows.market == symbol), span_days=span_days, origin=origin)
        for symbol in symbols
    }


def luck_sentence(found: Mapping[str, Verdict]) -> str:
    """Says what looking at several markets does to the meaning of each verdict."""
    return (
        f"Each of the {len(found)} markets is judged at its own 95 %; the more there are, the more "
        "likely luck alone makes one stand out. The verdict on all of them is the one that counts."
    )
