"""The words and numbers of a report, ready for the template; no markup and no drawing."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from passline.evaluate.null_test import WORDS
from passline.evaluate.replay_choice import DEATHS
from passline.evaluate.table import AGENT, EvaluationTable
from passline.evaluate.verdict import (
    PolicyScore,
    Verdict,
    VerdictWord,
    verdict,
)
from passline.kinds import origin_of
from passline.report import figures
from passline.report.amounts import interval, percent, points, usd
from passline.report.breakdown import MIN_DATES, Group, by_chance, dimensions_of
from passline.report.data import REPLAYS, ReportData, final_rows, policy_scores
from passline.sim.layout import DoneReason

__all__ = [
    "automation",
    "banner",
    "breakdown",
    "conduct",
    "deaths",
    "endings",
    "headline",
    "leading_cause",
    "null_test",
    "policy_row",
    "policy_rows",
    "ruling_of",
    "ruling_view",
    "shifts",
    "tiles",
]

MILLS_PER_USD = 1000
FAR = 0.3
"""Distance from which training and evaluation are said to differ plainly."""

REASONS = {
    DoneReason.TARGET: "Reached the profit target",
    DoneReason.FLOOR: "Equity touched the floor",
    DoneReason.DAILY_LIMIT: "Daily loss limit",
    DoneReason.LATE_FLAT: "Position open at flat-by",
    DoneReason.TIME_LIMIT: "Ran out of time",
    DoneReason.DATA_END: "Bars ended",
    DoneReason.WINDOW_END: "Evaluation window ended",
    DoneReason.NONE: "Did not end",
}

AUTOMATION = {
    "forbidden": "This firm forbids automated trading at this stage",
    "conditions": "This firm allows automated trading only under conditions",
    "allowed": "This firm allows automated trading at this stage",
    "unknown": "Whether this firm allows automated trading is not known",
}

NOTES = {
    "oracle": "knows the hidden drift; not a rival",
    "flat": "never trades",
    "random legal": "any legal action",
    "random entry": "as often a day and as large as the agent",
    "always long": "smallest size whenever it may",
    "opening range": "first close beyond 09:30–10:00 ET",
    "VWAP reversion": "two deviations from it, back to it",
    "moving averages": "mean of 60 minutes over 240",
    "shuffled features": "the agent shown another day's market",
    "untrained": "the network before training",
}
"""What each policy does, in a few words."""

_CORRECTIONS = {
    "none": "without a correction",
    "sidak": "corrected by Šidák's formula",
    "reality check": "corrected by White's reality check",
}
"""How the configurations tried entered a null test, in words."""

_TONES = {VerdictWord.EDGE: "good", VerdictWord.NO_EDGE: "bad", VerdictWord.UNDECIDED: "warn"}


def ruling_of(data: ReportData) -> Verdict | None:
    """Returns the verdict on the run; None if it was not evaluated."""
    if data.evaluations is None or final_rows(data) is None:
        return None
    return verdict(
        data.evaluations,
        span_days=data.span_days,
        origin=origin_of(data.manifest),
    )


def banner(data: ReportData) -> dict[str, Any]:
    """Returns the banner of a run: its verdict, or its null test's where it has nothing else."""
    ruling, found = ruling_of(data), data.null_test
    if ruling is not None or found is None:
        return ruling_view(ruling)
    word, _, rest = found.sentence.partition(": ")
    return {
        "word": word,
        "tone": "good" if found.is_edge else "bad",
        "sentence": rest[:1].upper() + rest[1:],
        "reasons": [
            "This run is a null test of bars: every training is weighed and thrown away, so that "
            "it holds no agent, no evaluation and no replay."
        ],
    }


def ruling_view(ruling: Verdict | None) -> dict[str, Any]:
    """Returns a verdict: word, tone, sentence and reasons."""
    if ruling is None:
        return {
            "word": "Not evaluated",
            "tone": "idle",
            "sentence": "This run has no held-out evaluation, so nothing can be said of it yet.",
            "reasons": [],
        }
    word = ruling.word.value.capitalize()
    return {
        "word": word,
        "tone": _TONES[ruling.word],
        "sentence": ruling.sentence.removeprefix(f"{word}. "),
        "reasons": ruling.reasons,
    }


def headline(data: ReportData) -> dict[str, str]:
    """Returns what the page is about: title, firm and markets, date."""
    manifest = data.manifest
    book = manifest.get("rulebook", {})
    markets = manifest.get("markets", [])
    symbols = [str(m.get("contract", "") if isinstance(m, Mapping) else m) for m in markets]
    firm = " · ".join(str(book[key]) for key in ("firm", "plan") if key in book)
    return {
        "title": str(manifest.get("name") or "passline run"),
        "subject": " · ".join(part for part in (firm, ", ".join(filter(None, symbols))) if part),
        "created": str(manifest.get("created", ""))[:10],
    }


def automation(manifest: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns what the firm says of automated trading; None for a run without a rulebook."""
    book = manifest.get("rulebook")
    if not book:
        return None
    told = book.get("automation", {})
    policy = told.get("policy", "unknown")
    return {
        "policy": policy,
        "title": AUTOMATION.get(policy, AUTOMATION["unknown"]),
        "note": told.get("note", ""),
        "source": str(book.get("source", "")),
        "as_of": str(book.get("as_of", "")),
    }


def tiles(ruling: Verdict | None, data: ReportData) -> list[dict[str, str]]:
    """Returns the few figures under the banner."""
    if ruling is None:
        return []
    rate, result = ruling.agent.pass_rate, ruling.agent.result_usd
    tiles = [
        _tile("pass_rate", "Pass rate", percent(rate.value), interval(rate, percent)),
        _tile("result", "Mean net result", usd(result.value), interval(result, usd)),
    ]
    if ruling.rival is not None and ruling.rival.advantage is not None:
        gap = ruling.rival.advantage
        tiles.append(
            _tile(
                "advantage",
                f"Against {figures.title_of(ruling.rival.policy)}",
                f"{points(gap.value)} pts",
                interval(gap, points),
            )
        )
    cause = leading_cause(data)
    if cause is None:
        note = f"{rate.n:,} episodes in {rate.n_clusters} blocks of dates"
        tiles.append(_tile("n_effective", "Effective n", f"{rate.n_effective:,.0f}", note))
    else:
        share = f"{percent(cause['share'])}, {cause['n']} of {rate.n:,} accounts"
        tiles.append(_tile("death_cause", "What kills it most", cause["reason"], share))
    return tiles


def _tile(key: str, label: str, value: str, note: str) -> dict[str, str]:
    return {"key": key, "label": label, "value": value, "note": note}


def leading_cause(data: ReportData) -> dict[str, Any] | None:
    """Returns the ending that killed most accounts; None if none died."""
    return next((ending for ending in endings(data) if ending["is_death"]), None)


def deaths(data: ReportData) -> dict[str, Any] | None:
    """Returns how many accounts died, in words and shares, and how to open them all."""
    told = endings(data)
    if not told:
        return None
    killed = [ending for ending in told if ending["is_death"]]
    n = sum(ending["count"] for ending in told)
    n_dead = sum(ending["count"] for ending in killed)
    causes = [f"{cause['reason'].lower()} {cause['percent']}" for cause in killed]
    if not killed:
        sentence = f"None of {n:,} accounts was ended by a rule."
    else:
        sentence = (
            f"{percent(n_dead / n)} of the accounts ({n_dead:,} of {n:,}) were ended by a rule"
            f" without a pass: {', '.join(causes)}."
        )
    return {
        "sentence": sentence,
        "command": f"passline replay {data.manifest.get('id', 'RUN')} --deaths --html",
        "has_pages": any(ending["pages"] for ending in told),
    }


def endings(data: ReportData) -> list[dict[str, Any]]:
    """Returns how the agent's episodes ended, the most frequent first."""
    rows = final_rows(data)
    if rows is None:
        return []
    agent = rows.where(policy=AGENT)
    counts = {reason: int((agent.done_reason == reason).sum()) for reason in DoneReason}
    endings = []
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        if not count:
            continue
        own = agent.select(agent.done_reason == reason)
        endings.append(
            {
                "reason": REASONS[reason],
                "word": reason.name.lower(),
                "tone": _ending_tone(reason),
                "share": count / len(agent),
                "percent": percent(count / len(agent)),
                "n": f"{count:,}",
                "result": usd(float(own.result_mills.mean()) / MILLS_PER_USD),
                "days": f"{np.median(own.n_days):g}",
                "count": count,
                "is_death": reason in DEATHS,
                "pages": _pages_of(data, agent, reason),
            }
        )
    return endings


def _pages_of(data: ReportData, agent: EvaluationTable, reason: DoneReason) -> list[dict[str, str]]:
    """Returns links to the replay pages of the episodes that ended so, those that were written."""
    pages = []
    order: dict[str, int] = {}
    for index, name in enumerate(agent.slice.tolist()):
        episode = order.get(name, 0)
        order[name] = episode + 1
        page = f"{name}-{episode}.html"
        if agent.done_reason[index] == reason and page in data.replays:
            label = str(agent.start_day[index].astype("datetime64[D]"))
            pages.append({"href": f"{REPLAYS}/{page}#bar=end", "label": label})
    return pages


def breakdown(data: ReportData) -> dict[str, Any] | None:
    """Returns the round trips by month, weekday, hour and the like, and luck's share."""
    dimensions = dimensions_of(data)
    if not dimensions:
        return None
    chance = by_chance(dimensions)
    sentence = (
        f"{chance.n_groups} {'group has' if chance.n_groups == 1 else 'groups have'} at least"
        f" {MIN_DATES} trade dates; the whole interval lies above zero in {chance.n_above} of them"
        f" and below it in {chance.n_below}. Without any real"
        f" difference luck alone would put about {chance.expected:.1f} on either side, so a good"
        " month or hour is no reason to trade only then."
    )
    return {
        "sentence": sentence,
        "dimensions": [
            {
                "key": d.key,
                "title": d.title,
                "has_passes": any(group.passes is not None for group in d.groups),
                "rows": [_group_row(group) for group in d.groups],
            }
            for d in dimensions
        ],
    }


def _group_row(group: Group) -> dict[str, str]:
    net, passes = group.net_usd, group.passes
    return {
        "label": group.label,
        "thin": "thin" if group.is_thin else "",
        "n": f"{group.n:,}",
        "n_dates": f"{group.n_dates:,}",
        "net": "" if net is None else usd(net.value),
        "net_interval": "" if net is None else interval(net, usd),
        "begun": "" if passes is None else f"{passes.n:,}",
        "passes": "" if passes is None else percent(passes.value),
        "passes_interval": "" if passes is None else interval(passes, percent),
    }


def null_test(data: ReportData) -> dict[str, Any] | None:
    """Returns what the null test found; None if none was made."""
    found = data.null_test
    if found is None:
        return None
    return {
        "sentence": found.sentence,
        "tone": "good" if found.is_edge else "bad",
        "p": f"{found.p_corrected:.3f}",
        "actual": f"{found.actual:+.3f} {found.unit}",
        "statistic": found.statistic,
        "tried": f"{found.n_configurations:,}",
        "correction": _CORRECTIONS.get(found.correction, found.correction),
        "kinds": [
            {
                "kind": _words(kind.kind),
                "words": WORDS[kind.kind],
                "n": f"{len(kind.nulls):,}",
                "median": f"{np.median(kind.nulls):+.3f}",
                "highest": f"{np.max(kind.nulls):+.3f}",
                "p": f"{kind.p:.3f}",
                "p_corrected": f"{kind.p_corrected:.3f}",
            }
            for kind in found.kinds
        ],
    }


def _ending_tone(reason: DoneReason) -> str:
    if reason is DoneReason.TARGET:
        return "good"
    kills = (DoneReason.FLOOR, DoneReason.DAILY_LIMIT, DoneReason.LATE_FLAT)
    return "bad" if reason in kills else "idle"


def conduct(data: ReportData) -> list[dict[str, str]]:
    """Returns small facts on how the agent lived, for the lines under the endings."""
    rows = final_rows(data)
    if rows is None:
        return []
    agent = rows.where(policy=AGENT)
    n_actions = max(int(agent.action_counts.sum()), 1)
    n_bars = max(int(agent.ep_length.sum()), 1)
    traded = agent.n_trips > 0
    cushion = float(np.median(agent.min_cushion_mills)) / MILLS_PER_USD
    facts = [
        ("trips", "Round trips each", f"{agent.n_trips.mean():.1f}"),
        ("min_cushion", "Closest to the floor", usd(cushion)),
        ("commissions", "Commissions each", usd(_mean_usd(agent.commissions_mills))),
        ("late_flat", "Liquidated at flat-by", f"{agent.n_late_flat.mean():.2f}"),
        ("ambiguous", "Ambiguous bars", f"{agent.n_ambiguous.sum() / n_bars:.2%}"),
        ("invalid", "Masked actions sent", f"{agent.n_invalid.sum() / n_actions:.2%}"),
    ]
    if traded.any():
        mean_r = np.average(agent.mean_r[traded], weights=agent.n_trips[traded])
        facts.insert(1, ("mean_r", "Mean round trip", f"{mean_r:+.3f} R"))
    return [{"key": key, "label": label, "value": value} for key, label, value in facts]


def policy_rows(data: ReportData) -> list[dict[str, str]]:
    """Returns the lines of the table of policies, the agent first."""
    return [policy_row(score) for score in policy_scores(data)]


def policy_row(score: PolicyScore) -> dict[str, str]:
    """Returns a line of the table of policies."""
    gap, redrawn = score.advantage, score.advantage_redrawn
    usd_gap, usd_redrawn = score.result_advantage, score.result_advantage_redrawn
    return {
        "policy": figures.title_of(score.policy),
        "note": NOTES.get(score.policy, ""),
        "is_agent": "agent" if score.policy == AGENT else "",
        "rate": percent(score.pass_rate.value),
        "rate_interval": interval(score.pass_rate, percent),
        "n": f"{score.pass_rate.n:,}",
        "n_effective": f"{score.pass_rate.n_effective:,.0f}",
        "result": usd(score.result_usd.value),
        "result_interval": interval(score.result_usd, usd),
        "trips": f"{score.n_trips:.1f}",
        "trips_per_day": f"{score.trips_per_day:.1f} a day",
        "gap": "" if gap is None else points(gap.value),
        "gap_interval": "" if gap is None else interval(gap, points),
        "gap_redrawn": "" if redrawn is None else interval(redrawn, points),
        "ahead": "" if gap is None or gap.low <= 0 else "ahead",
        "usd_gap": "" if usd_gap is None else usd(usd_gap.value),
        "usd_gap_interval": "" if usd_gap is None else interval(usd_gap, usd),
        "usd_gap_redrawn": "" if usd_redrawn is None else interval(usd_redrawn, usd),
    }


def shifts(data: ReportData) -> list[dict[str, Any]]:
    """Returns how far each phase's training lies from its evaluation."""
    rows = []
    for phase, pairs in data.distributions.items():
        for name, pair in pairs.items():
            if not len(pair.train) or not len(pair.evaluation):
                continue
            rows.append(
                {
                    "phase": figures.title_of(phase),
                    "quantity": figures.QUANTITIES.get(name, figures.title_of(name)),
                    "train": f"{np.median(pair.train):,.4g}",
                    "evaluation": f"{np.median(pair.evaluation):,.4g}",
                    "n": f"{len(pair.train):,} / {len(pair.evaluation):,}",
                    "distance": f"{pair.distance:.2f}",
                    "is_far": pair.distance > FAR,
                }
            )
    return rows


def _words(key: str) -> str:
    return key.replace("_", " ")


def _mean_usd(mills: np.ndarray[Any, Any]) -> float:
    return float(mills.mean()) / MILLS_PER_USD
