"""`passline replay`: one stored evaluation episode, bar by bar."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from passline.cli.output import as_plain, money_text, print_facts, print_json, print_table
from passline.cli.training import root_option, use_cache
from passline.death_pages import scores
from passline.errors import CheckpointError, ConfigError, RunError
from passline.evaluate.replay import Agent, Replay
from passline.evaluate.replay import replay as play_again
from passline.evaluate.replay_bars import NONE, BarTable, bar_table, replay_to_dict, word
from passline.evaluate.replay_choice import (
    Stored,
    choose_evaluation,
    end_bar_of,
    find_episode,
    find_row,
    list_stored,
    page_name,
)
from passline.evaluate.table import EvaluationTable, load_evaluations
from passline.kinds import require_agent
from passline.learn import network
from passline.learn.checkpoint import CheckpointInfo, list_checkpoints
from passline.learn.curriculum import load_policy
from passline.market.clock import EASTERN
from passline.pipeline import Job, continue_job
from passline.report.data import EVALUATIONS_FILE, REPLAYS
from passline.report.replay_page import Death, render_deaths, render_replay
from passline.runs import Run, open_run, replace_file
from passline.sim.layout import FillReason, OrderKind, Reject
from passline.task.actions import ACTION_NAMES
from passline.task.phases import Phase
from passline.task.prepare import phase_params

__all__ = ["replay"]

INTO_RUN = "-"
"""What --html without a value stands for."""
LAST_BARS = 6
"""Bars before the end that are shown whether something happened in them or not."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A run with what its episodes are replayed from."""

    run: Run
    job: Job
    table: EvaluationTable


@click.command("replay")
@click.argument("run")
@click.option("--slice", "slice_name", help="Slice of the episode; the names: --list.")
@click.option("--episode", type=int, help="Index of the episode in its slice, from 0.")
@click.option("--row", type=int, help="Row of the episode in evaluations.npz, instead of both.")
@click.option("--path", default="worst", show_default=True, help="Path rule that it was judged by.")
@click.option("--evaluation", type=int, help="Number of the evaluation; the last one without it.")
@click.option("--list", "is_list", is_flag=True, help="List the stored episodes.")
@click.option("--deaths", "is_deaths", is_flag=True, help="List those that died, by what did it.")
@click.option(
    "--bars",
    "which",
    type=click.Choice(["events", "all", "none"]),
    default="events",
    show_default=True,
    help="Bars of the table: those with events and the last ones, all, or none.",
)
@click.option("--json", "json_to", metavar="FILE", help="Write all as JSON; - prints it.")
@click.option(
    "--html",
    "html_to",
    is_flag=False,
    flag_value=INTO_RUN,
    metavar="[FILE]",
    help="Write the page to step through; into the run if no file is named. With --deaths a page "
    "for each of them and a list, into the folder named.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@root_option
def replay(
    run: str,
    slice_name: str | None,
    episode: int | None,
    row: int | None,
    path: str,
    evaluation: int | None,
    is_list: bool,
    is_deaths: bool,
    which: str,
    json_to: str | None,
    html_to: str | None,
    overwrite: bool,
    root: Path,
) -> None:
    """Play a stored evaluation episode again: identical numbers, or an error.

    Shows every bar: what the agent saw, might have done and did, the fills, and the distance to
    each rule.
    """
    opened = open_run(run, root)
    require_agent(opened, "whose episodes could be replayed")
    table = load_evaluations(opened.path / EVALUATIONS_FILE)
    if is_list or is_deaths:
        if json_to not in (None, "-"):
            _refuse_existing([Path(str(json_to))], overwrite=overwrite)
        number = choose_evaluation(table, path=path, slice_name=slice_name, number=evaluation)
        stored = list_stored(table, number, slice_name=slice_name)
        shown = [item for item in stored if item.is_death] if is_deaths else stored
        pages = _death_pages(opened, table, shown, html_to) if is_deaths and html_to else []
        _refuse_existing(pages, overwrite=overwrite)
        _list(opened, shown, len(stored), is_grouped=is_deaths, json_to=json_to)
        if pages and shown:
            _write_deaths(opened, table, shown, len(stored), pages)
        return
    chosen = _choose(table, slice_name, episode, row, path, evaluation)
    page = None if html_to is None else _page_path(opened, chosen, table, html_to)
    json_file = None if json_to in (None, "-") else Path(str(json_to))
    _refuse_existing([f for f in (page, json_file) if f is not None], overwrite=overwrite)
    use_cache()
    source = _Source(run=opened, job=continue_job(opened), table=table)
    checkpoint, found = _play(source, chosen)
    if json_to is not None:
        text = json.dumps(
            replay_to_dict(found, run=opened.id, checkpoint=checkpoint), allow_nan=False
        )
        if json_file is None:
            click.echo(text)
        else:
            _write(json_file, text)
    if json_to != "-":
        _print(found, checkpoint, which)
    if page is not None:
        _write(page, render_replay(found, run=opened.id, checkpoint=checkpoint))
        click.echo(f"page: {page}", err=json_to == "-")


def _choose(
    table: EvaluationTable,
    slice_name: str | None,
    episode: int | None,
    row: int | None,
    path: str,
    evaluation: int | None,
) -> Stored:
    if row is not None:
        if slice_name is not None or episode is not None:
            raise ConfigError("replay: give either --row N, or --slice NAME and --episode E.")
        return find_row(table, row)
    if slice_name is None or episode is None:
        raise ConfigError(
            "replay: name the episode with --slice NAME and --episode E, or with --row N. "
            "Stored episodes: --list; those that died: --deaths"
        )
    number = choose_evaluation(table, path=path, slice_name=slice_name, number=evaluation)
    return find_episode(table, number, slice_name, episode)


# --- playing -------------------------------------------------------------------------------------


def _play(source: _Source, stored: Stored) -> tuple[str, Replay]:
    """Returns the checkpoint's name and the episode."""
    job = source.job
    phase = _phase(job, str(stored.table.phase[0]))
    info = _checkpoint(source.run, int(stored.table.timesteps[0]))
    trained = load_policy(info, job.config.ppo)
    end_bar = end_bar_of(
        stored,
        source.table,
        job.prepared,
        job.split,
        phase,
        n_gate_episodes=job.config.curriculum.n_gate_episodes,
    )
    params = phase_params(job.prepared, phase, job.split.train)
    agent = Agent(network.act_greedy, scores, trained)
    return info.path.stem, play_again(job.prepared, params, agent, stored, end_bar)


def _phase(job: Job, name: str) -> Phase:
    for phase in job.phases:
        if phase.name == name:
            return phase
    raise RunError(f"{job.run.id}: no phase '{name}' in its curriculum any more; restore it.")


def _checkpoint(run: Run, step: int) -> CheckpointInfo:
    found = list_checkpoints(run.path / "checkpoints")
    for info in found:
        if int(info.meta["step"]) == step:
            return info
    kept = ", ".join(f"{int(info.meta['step']):,}" for info in found) or "none"
    raise CheckpointError(
        f"{run.id}: the checkpoint of step {step:,} that played this episode was not kept. Kept: "
        f"{kept}. Judge one of those: passline evaluate; or keep more with --set "
        "curriculum.keep_every=1"
    )


# --- files ---------------------------------------------------------------------------------------


def _page_path(run: Run, stored: Stored, table: EvaluationTable, html_to: str) -> Path:
    if html_to != INTO_RUN:
        return Path(html_to)
    return run.path / REPLAYS / page_name(stored, table)


def _refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise RunError(f"{there[0]}{more}: exists already. Replace it with --overwrite")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
    replace_file(path, text.encode())


def _death_pages(
    run: Run, table: EvaluationTable, deaths: Sequence[Stored], html_to: str
) -> list[Path]:
    """Returns the files of the list of deaths and of each of them."""
    folder = run.path / REPLAYS if html_to == INTO_RUN else Path(html_to)
    return [folder / "deaths.html", *(folder / page_name(item, table) for item in deaths)]


def _write_deaths(
    run: Run,
    table: EvaluationTable,
    deaths: Sequence[Stored],
    n_episodes: int,
    pages: Sequence[Path],
) -> None:
    """Replays every death and writes its page, and the list that leads to them."""
    index, *paths = pages
    use_cache()
    source = _Source(run=run, job=continue_job(run), table=table)
    for item, path in zip(deaths, paths, strict=True):
        checkpoint, found = _play(source, item)
        _write(path, render_replay(found, run=run.id, checkpoint=checkpoint))
    listed = [Death(item, path.name) for item, path in zip(deaths, paths, strict=True)]
    _write(index, render_deaths(listed, run=run.id, n_episodes=n_episodes))
    click.echo(f"pages: {index}", err=True)


# --- tables --------------------------------------------------------------------------------------

_LIST_COLUMNS = (
    "slice",
    "episode",
    "row",
    "start, UTC",
    "bars",
    "days",
    "trips",
    "result, USD",
    "outcome",
    "reason",
)


def _list(
    run: Run, shown: Sequence[Stored], n_all: int, *, is_grouped: bool, json_to: str | None
) -> None:
    if json_to is not None:
        content = {
            "run": run.id,
            "n_episodes": n_all,
            "episodes": [_listed(item) for item in shown],
        }
        if json_to == "-":
            print_json(content)
        else:
            _write(Path(json_to), json.dumps(as_plain(content), indent=2))
        return
    reasons = list(dict.fromkeys(item.done_reason for item in shown))
    rows: list[tuple[str, ...]] = []
    for reason in sorted(reasons) if is_grouped else [None]:
        part = [item for item in shown if reason is None or item.done_reason == reason]
        if reason is not None:
            rows.append((f"{word(reason)}: {len(part)}",))
        rows += [_list_row(item) for item in part]
    print_table(_LIST_COLUMNS, rows, right=_LIST_COLUMNS[1:3] + _LIST_COLUMNS[4:8])
    if shown:
        number = shown[0].evaluation
        verb = "died" if is_grouped else "are shown"
        click.echo(f"\n{len(shown)} of {n_all} episodes of evaluation {number} {verb}.")
    else:
        click.echo(f"\nnone of {n_all} episodes died.")


def _listed(item: Stored) -> dict[str, Any]:
    table = item.table
    return {
        "row": item.row,
        "evaluation": item.evaluation,
        "slice": item.slice,
        "episode": item.episode,
        "start": _utc(int(table.start_ns[0])),
        "ep_length": int(table.ep_length[0]),
        "n_days": int(table.n_days[0]),
        "n_trips": int(table.n_trips[0]),
        "result_mills": int(table.result_mills[0]),
        "outcome": word(item.outcome),
        "done_reason": word(item.done_reason),
    }


def _list_row(item: Stored) -> tuple[str, ...]:
    told = _listed(item)
    return (
        item.slice,
        str(item.episode),
        str(item.row),
        told["start"].replace("T", " ").removesuffix("Z"),
        f"{told['ep_length']:,}",
        str(told["n_days"]),
        str(told["n_trips"]),
        money_text(told["result_mills"]),
        told["outcome"],
        told["done_reason"],
    )


def _utc(ns: int) -> str:
    return f"{np.datetime64(ns, 'ns').astype('datetime64[m]')}Z"


_BAR_COLUMNS = (
    "bar",
    "time, ET",
    "close",
    "action",
    "position",
    "stop",
    "target",
    "equity",
    "to floor",
    "to target",
    "to limit",
    "reward",
    "what happened",
)


def _print(found: Replay, checkpoint: str, which: str) -> None:
    stored, row = found.stored, found.stored.table
    contract = found.prepared.bars[found.market].contract
    print_facts(
        [
            ("episode", f"{stored.slice}, episode {stored.episode} (row {stored.row})"),
            ("played by", f"checkpoint {checkpoint}, phase {row.phase[0]}, path {row.path[0]}"),
            ("under", f"{found.prepared.rulebook.id}, {contract.symbol}"),
            ("ended", f"{word(stored.outcome)}: {word(stored.done_reason)}"),
            ("result", f"{money_text(int(row.result_mills[0]))} USD"),
            ("bars", f"{len(found):,} on {int(row.n_days[0])} trading days"),
            ("round trips", str(int(row.n_trips[0]))),
            ("identical", "every stored number came out again"),
        ]
    )
    if which == "none":
        return
    click.echo("")
    table = bar_table(found)
    is_shown = table.has_event() if which == "events" else np.ones(len(found), bool)
    is_shown[-LAST_BARS:] = True
    rows = _bar_rows(found, np.flatnonzero(is_shown))
    print_table(_BAR_COLUMNS, rows, right=("bar", "close", *_BAR_COLUMNS[5:12]))
    if which == "events":
        click.echo(f"\n{len(rows):,} of {len(found):,} bars; the others with --bars all")


def _bar_rows(found: Replay, chosen: Any) -> list[tuple[str, ...]]:
    table, steps = bar_table(found), found.steps
    tick = found.prepared.bars[found.market].contract.tick_size
    rows = []
    for t in chosen.tolist():
        money = (table.equity, table.cushion, table.to_target, table.to_daily_limit)
        at = datetime.fromtimestamp(int(table.ts[t]) // 10**9, UTC).astimezone(EASTERN)
        rows.append(
            (
                str(t),
                f"{at:%Y-%m-%d %H:%M}",
                str(int(table.close[t]) * tick),
                ACTION_NAMES[int(steps.action[t])],
                _position(int(table.position[t])),
                *(
                    ("-" if x[t] == NONE else str(int(x[t]) * tick))
                    for x in (table.stop, table.target)
                ),
                *(("-" if x[t] == NONE else money_text(int(x[t]))) for x in money),
                f"{float(steps.reward[t]):.4f}",
                _told(found, table, t),
            )
        )
    return rows


def _position(qty: int) -> str:
    return "flat" if qty == 0 else f"{abs(qty)} {'long' if qty > 0 else 'short'}"


def _told(found: Replay, table: BarTable, t: int) -> str:
    """Says in words what happened in a bar."""
    order = found.steps.order
    tick = found.prepared.bars[found.market].contract.tick_size
    said = []
    if table.reject[t]:
        kind = word(OrderKind(int(order.kind[t])))
        said.append(f"{kind} refused: {word(Reject(int(table.reject[t])))}")
    if table.entry_qty[t]:
        said.append(f"entry at {int(table.entry_price[t]) * tick}")
    if table.exit_qty[t]:
        reason = word(FillReason(int(table.exit_reason[t])))
        net = money_text(int(table.trip_net[t]))
        said.append(f"{reason} at {int(table.exit_price[t]) * tick}: {net}")
    if found.kept_path[t]:
        said.append("ambiguous bar")
    if t == len(found) - 1:
        said.append(f"end: {word(found.stored.done_reason)}")
    return "; ".join(said)
