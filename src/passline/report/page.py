"""The report of a run: one HTML file that needs nothing else, for a trader with a minute.

The page is built from ReportData alone. Numbers are written here; their definitions hang on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from passline.evaluate.stats import Estimate, clusters_by_span, mean_interval
from passline.evaluate.table import AGENT, EvaluationTable
from passline.evaluate.verdict import (
    ORACLES,
    PolicyScore,
    Verdict,
    VerdictWord,
    final_phase,
    last_evaluations,
    score_policies,
    verdict,
)
from passline.report import figures
from passline.report.data import ReportData
from passline.report.definitions import DEFINITIONS
from passline.report.svg import DARK, LIGHT, PAGE, Palette, figure_to_png, figure_to_svg
from passline.runs import Run, replace_file
from passline.sim.layout import DoneReason

__all__ = ["render_report", "report_figures", "write_figures", "write_report"]

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

_TONES = {VerdictWord.EDGE: "good", VerdictWord.NO_EDGE: "bad", VerdictWord.UNDECIDED: "warn"}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with what stands around it.

    Attributes:
        name: unique on the page.
        title: above the figure.
        key: definition of what it shows.
        caption: sample in words.
        figure: the figure, drawn.
        is_wide: it takes the page's whole width.
    """

    name: str
    title: str
    key: str
    caption: str
    figure: Figure
    is_wide: bool = False


def write_report(run: Run, context: ReportData, out: Path) -> Path:
    """Writes the report of a run as one HTML file, in place of an earlier one.

    Args:
        run: the run that the report is of.
        context: what its files hold (see `load_report_data`).
        out: file to write.
    """
    replace_file(out, render_report(run.id, context).encode())
    return out


def write_figures(context: ReportData, folder: Path, *, is_dark: bool = False) -> list[Path]:
    """Writes every figure of the report as PNG into a folder, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    palette = DARK if is_dark else LIGHT
    written = []
    for drawing in report_figures(context, palette):
        drawing.figure.set_facecolor(palette.surface)
        path = folder / f"{drawing.name}.png"
        replace_file(path, figure_to_png(drawing.figure))
        written.append(path)
    return written


def render_report(run_id: str, data: ReportData) -> str:
    """Returns the report as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    ruling = _ruling(data)
    drawings = {
        drawing.name: {
            "title": drawing.title,
            "key": drawing.key,
            "caption": drawing.caption,
            "is_wide": drawing.is_wide,
            "svg": figure_to_svg(drawing.figure, drawing.name, drawing.title),
        }
        for drawing in report_figures(data, PAGE)
    }
    template = environment.get_template("template.html.j2")
    return template.render(
        run_id=run_id,
        style=files("passline.report").joinpath("style.css").read_text(),
        variables={"light": vars(LIGHT), "dark": vars(DARK)},
        definitions=DEFINITIONS,
        manifest=data.manifest,
        status=data.status,
        headline=_headline(data),
        ruling=_ruling_view(ruling),
        automation=_automation(data.manifest),
        tiles=_tiles(data, ruling),
        endings=_endings(data),
        conduct=_conduct(data),
        policies=_policies(data),
        drawings=drawings,
        shifts=_shifts(data),
        facts=_facts(data.manifest),
        settings=_flatten(data.manifest.get("config", {})),
    )


def report_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    """Draws all figures for which the run holds data."""
    return [*_outcome_figures(data, palette), *_training_figures(data, palette)]


def _outcome_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    rows = _final_rows(data)
    if rows is None:
        return []
    agent = rows.where(policy=AGENT)
    scores = score_policies(_table(data), span_days=data.span_days)
    names = [score.policy for score in scores]
    n = f"n = {len(agent):,} episodes"
    shares = {name: _reason_shares(rows.where(policy=name)) for name in names}
    shown = names[:1] + [name for name in names[1:] if name not in ("flat", "oracle")][:1]
    results = {name: rows.where(policy=name).result_mills / MILLS_PER_USD for name in shown}
    actions = {name: figures.action_shares(rows.where(policy=name)) for name in shown}
    versus = " and the best baseline that trades" if len(shown) > 1 else ""
    drawings = [
        Drawing(
            name="pass-rates",
            title="Pass rate by policy",
            key="pass_rate",
            caption=f"{n} each on the same starts; bars are 95% intervals",
            figure=figures.pass_rate_figure(scores, palette),
        ),
        Drawing(
            name="reasons",
            title="How episodes ended",
            key="reason_share",
            caption=f"{n} each",
            figure=figures.reason_figure(shares, palette),
        ),
        Drawing(
            name="results",
            title="Net results",
            key="result_distribution",
            caption=f"{n} each; agent{versus}",
            figure=figures.result_figure(results, palette),
        ),
        Drawing(
            name="actions",
            title="What it chose where it had a choice",
            key="choice_share",
            caption=f"{int(agent.choice_counts.sum()):,} choices of the agent",
            figure=figures.action_figure(actions, rows.action_names, palette),
            is_wide=True,
        ),
    ]
    if data.equity is not None and len(data.equity.n_days):
        drawings.append(
            Drawing(
                name="equity",
                title="Equity and floor by day",
                key="equity",
                caption=f"{len(data.equity.n_days):,} accounts; the floor is the median account's",
                figure=figures.equity_figure(data.equity, palette),
            )
        )
    return drawings


def _training_figures(data: ReportData, palette: Palette) -> list[Drawing]:
    drawings = []
    points = _checkpoints(data)
    if points:
        counts = sum(len(steps) for _, steps, _ in points)
        drawings.append(
            Drawing(
                name="checkpoints",
                title="Held-out reward by checkpoint",
                key="checkpoint_reward",
                caption=f"{counts} evaluations by training step; bars are 95% intervals",
                figure=figures.checkpoint_figure(points, palette),
                is_wide=True,
            )
        )
    if figures.curve_names(data.scalars):
        drawings.append(
            Drawing(
                name="curves",
                title="Training curves",
                key="curves",
                caption=f"{len(data.scalars.step):,} updates; rewards of phases differ in unit",
                figure=figures.training_figure(data.scalars, palette),
                is_wide=True,
            )
        )
    for phase, pairs in list(data.distributions.items())[-1:]:
        drawings.append(
            Drawing(
                name="distributions",
                title=f"Training and evaluation, phase {figures.title_of(phase)}",
                key="ks",
                caption="Shares of episodes (of states for legal actions)",
                figure=figures.distribution_figure(pairs, palette),
                is_wide=True,
            )
        )
    return drawings


def _table(data: ReportData) -> EvaluationTable:
    if data.evaluations is None:
        raise AssertionError("asked for episodes of a run without any")
    return data.evaluations


def _final_rows(data: ReportData) -> EvaluationTable | None:
    """Returns the last evaluation of every policy in the agent's final phase."""
    table = data.evaluations
    if table is None or not len(table.where(policy=AGENT, path="worst")):
        return None
    rows = last_evaluations(table, phase=final_phase(table))
    return rows if len(rows.where(policy=AGENT)) else None


def _ruling(data: ReportData) -> Verdict | None:
    if _final_rows(data) is None:
        return None
    return verdict(_table(data), span_days=data.span_days)


def _ruling_view(ruling: Verdict | None) -> dict[str, Any]:
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


def _headline(data: ReportData) -> dict[str, str]:
    manifest = data.manifest
    book = manifest.get("rulebook", {})
    markets = manifest.get("markets", [])
    symbols = [str(m.get("contract", "")) for m in markets if isinstance(m, Mapping)]
    firm = " · ".join(str(book[key]) for key in ("firm", "plan") if key in book)
    return {
        "title": str(manifest.get("name") or "passline run"),
        "subject": " · ".join(part for part in (firm, ", ".join(filter(None, symbols))) if part),
        "created": str(manifest.get("created", ""))[:10],
    }


def _automation(manifest: Mapping[str, Any]) -> dict[str, str] | None:
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


def _tiles(data: ReportData, ruling: Verdict | None) -> list[dict[str, str]]:
    if ruling is None:
        return []
    rate, result = ruling.agent.pass_rate, ruling.agent.result_usd
    tiles = [
        _tile("pass_rate", "Pass rate", _percent(rate.value), _interval(rate, _percent)),
        _tile("result", "Mean net result", _usd(result.value), _interval(result, _usd)),
    ]
    if ruling.rival is not None and ruling.rival.advantage is not None:
        gap = ruling.rival.advantage
        tiles.append(
            _tile(
                "advantage",
                f"Against {figures.title_of(ruling.rival.policy)}",
                f"{_points(gap.value)} pts",
                _interval(gap, _points),
            )
        )
    note = f"{rate.n:,} episodes in {rate.n_clusters} blocks of dates"
    tiles.append(_tile("n_effective", "Effective n", f"{rate.n_effective:,.0f}", note))
    return tiles


def _tile(key: str, label: str, value: str, note: str) -> dict[str, str]:
    return {"key": key, "label": label, "value": value, "note": note}


def _endings(data: ReportData) -> list[dict[str, Any]]:
    rows = _final_rows(data)
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
                "percent": _percent(count / len(agent)),
                "n": f"{count:,}",
                "result": _usd(float(own.result_mills.mean()) / MILLS_PER_USD),
                "days": f"{np.median(own.n_days):g}",
            }
        )
    return endings


def _ending_tone(reason: DoneReason) -> str:
    if reason is DoneReason.TARGET:
        return "good"
    kills = (DoneReason.FLOOR, DoneReason.DAILY_LIMIT, DoneReason.LATE_FLAT)
    return "bad" if reason in kills else "idle"


def _conduct(data: ReportData) -> list[dict[str, str]]:
    """Returns small facts on how the agent lived, for the lines under the endings."""
    rows = _final_rows(data)
    if rows is None:
        return []
    agent = rows.where(policy=AGENT)
    n_actions = max(int(agent.action_counts.sum()), 1)
    n_bars = max(int(agent.ep_length.sum()), 1)
    traded = agent.n_trips > 0
    cushion = float(np.median(agent.min_cushion_mills)) / MILLS_PER_USD
    facts = [
        ("trips", "Round trips each", f"{agent.n_trips.mean():.1f}"),
        ("min_cushion", "Closest to the floor", _usd(cushion)),
        ("commissions", "Commissions each", _usd(_mean_usd(agent.commissions_mills))),
        ("late_flat", "Liquidated at flat-by", f"{agent.n_late_flat.mean():.2f}"),
        ("ambiguous", "Ambiguous bars", f"{agent.n_ambiguous.sum() / n_bars:.2%}"),
        ("invalid", "Masked actions sent", f"{agent.n_invalid.sum() / n_actions:.2%}"),
    ]
    if traded.any():
        mean_r = np.average(agent.mean_r[traded], weights=agent.n_trips[traded])
        facts.insert(1, ("mean_r", "Mean round trip", f"{mean_r:+.3f} R"))
    return [{"key": key, "label": label, "value": value} for key, label, value in facts]


def _policies(data: ReportData) -> list[dict[str, str]]:
    if _final_rows(data) is None:
        return []
    return [_policy_row(score) for score in score_policies(_table(data), span_days=data.span_days)]


def _policy_row(score: PolicyScore) -> dict[str, str]:
    gap = score.advantage
    return {
        "policy": figures.title_of(score.policy),
        "note": "knows the hidden drift; not a rival" if score.policy in ORACLES else "",
        "is_agent": "agent" if score.policy == AGENT else "",
        "rate": _percent(score.pass_rate.value),
        "rate_interval": _interval(score.pass_rate, _percent),
        "n": f"{score.pass_rate.n:,}",
        "n_effective": f"{score.pass_rate.n_effective:,.0f}",
        "result": _usd(score.result_usd.value),
        "result_interval": _interval(score.result_usd, _usd),
        "trips": f"{score.n_trips:.1f}",
        "gap": "" if gap is None else _points(gap.value),
        "gap_interval": "" if gap is None else _interval(gap, _points),
    }


def _shifts(data: ReportData) -> list[dict[str, Any]]:
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


def _checkpoints(
    data: ReportData,
) -> list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    if data.evaluations is None:
        return []
    agent = data.evaluations.where(policy=AGENT, path="worst")
    points = []
    first_seen = {phase: index for index, phase in reversed(list(enumerate(agent.phase.tolist())))}
    for phase in sorted(first_seen, key=lambda name: agent.timesteps[agent.phase == name].min()):
        rows = agent.where(phase=phase)
        numbers = np.unique(rows.evaluation)
        steps, values = [], []
        for number in numbers:
            own = rows.select(rows.evaluation == number)
            clusters = clusters_by_span(own.start_day, data.span_days)
            estimate = mean_interval(own.reward, clusters, is_serial=True)
            steps.append(int(own.timesteps[0]))
            values.append((estimate.value, estimate.low, estimate.high))
        order = np.argsort(steps, kind="stable")
        points.append((str(phase), np.array(steps)[order], np.array(values)[order]))
    return points


def _reason_shares(rows: EvaluationTable) -> dict[DoneReason, float]:
    return {
        reason: float(share)
        for reason in DoneReason
        if (share := (rows.done_reason == reason).mean()) > 0
    }


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what made the run, as label and text."""
    hardware, git = manifest.get("hardware", {}), manifest.get("git", {})
    book, progress = manifest.get("rulebook", {}), manifest.get("progress", {})
    revision = str(git.get("revision", ""))
    if revision and git.get("is_dirty"):
        revision += " with uncommitted changes"
    facts = [
        ("Run", str(manifest.get("id", ""))),
        ("Created", str(manifest.get("created", ""))),
        ("passline", str(manifest.get("passline", ""))),
        ("Commit", revision),
        ("Configuration hash", str(manifest.get("config_fingerprint", ""))),
        ("Rulebook", _join([book.get("id"), book.get("as_of")])),
        ("Rulebook hash", str(book.get("sha256", ""))),
        ("Seeds", _join(f"{key} {value}" for key, value in manifest.get("seeds", {}).items())),
        ("Hardware", _join([hardware.get("cpu"), _cores(hardware), hardware.get("backend")])),
        ("Packages", _join(f"{k} {v}" for k, v in manifest.get("packages", {}).items())),
        ("Progress", _join(f"{_words(k)} {_number(v)}" for k, v in progress.items())),
        ("Lineage", _join(f"{_words(k)} {v}" for k, v in manifest.get("lineage", {}).items())),
        ("Resumed at step", _join(f"{r['step']:,}" for r in manifest.get("resumes", []))),
    ]
    for name, source in manifest.get("data", {}).items():
        told = source.items() if isinstance(source, Mapping) else [("sha256", source)]
        facts.append((f"Data {name}", _join(f"{_words(k)} {_number(v)}" for k, v in told)))
    for index, market in enumerate(manifest.get("markets", []), start=1):
        told = market.items() if isinstance(market, Mapping) else [("contract", market)]
        facts.append((f"Market {index}", _join(f"{_words(k)} {_number(v)}" for k, v in told)))
    return [(label, text) for label, text in facts if text]


def _cores(hardware: Mapping[str, Any]) -> str:
    cores, memory = hardware.get("cores"), hardware.get("memory_gib")
    return _join([f"{cores} cores" if cores else None, f"{memory} GiB" if memory else None])


def _join(parts: Any) -> str:
    return " · ".join(str(part) for part in parts if part)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _number(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _listed(value)))
    return rows


def _listed(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item) for item in value)
    return str(value)


def _mean_usd(mills: np.ndarray[Any, Any]) -> float:
    return float(mills.mean()) / MILLS_PER_USD


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _usd(value: float) -> str:
    if not np.isfinite(value):
        return "unbounded"
    return f"{'−' if value < -0.5 else ''}${abs(value):,.0f}"


def _interval(estimate: Estimate, write: Any) -> str:
    return f"{write(estimate.low)} to {write(estimate.high)}"
