"""`passline replay` up to where it plays: lists, choices, and files it will not touch."""

import json

import numpy as np
import pytest

from passline.cli import main
from passline.evaluate.table import load_evaluations
from passline.sim.layout import DoneReason


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["replay", *map(str, words)])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


@pytest.fixture(scope="module")
def agents(run):
    """The agent's last rows with the worse path."""
    table = load_evaluations(run.path / "evaluations.npz")
    last = table.evaluation[(table.policy == "agent") & (table.path == "worst")].max()
    return table.select(table.evaluation == last)


def test_a_list_names_every_episode_of_the_last_evaluation(capsys, run, agents) -> None:
    code, out, _ = call(capsys, run.path, "--list", "--json", "-")
    told = json.loads(out)
    assert code == 0
    assert told["n_episodes"] == len(agents) == len(told["episodes"])
    names = {(item["slice"], item["episode"]) for item in told["episodes"]}
    assert len(names) == len(agents)
    assert {item["slice"] for item in told["episodes"]} == set(agents.slice.tolist())


def test_deaths_are_grouped_by_what_ended_them(capsys, run, agents) -> None:
    code, out, _ = call(capsys, run.path, "--deaths")
    n_floor = int(np.sum(agents.done_reason == DoneReason.FLOOR))
    n_time = int(np.sum(agents.done_reason == DoneReason.TIME_LIMIT))
    assert code == 0
    assert n_floor > 0
    assert f"floor: {n_floor}\n" in out
    assert ("time limit: " in out) == (n_time > 0)
    assert " passed " not in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name the episode with --slice NAME and --episode E"),
        (("--slice", "x"), "name the episode with"),
        (("--slice", "x", "--episode", "1"), "no slice 'x' with path 'worst'. Stored: "),
        (("--row", "1", "--episode", "1"), "give either --row N, or --slice"),
        (("--row", "100000"), "row 100000: the file holds rows 0 to "),
        (("--list", "--evaluation", "99"), "evaluation 99 is none of the agent's"),
    ],
)
def test_what_cannot_be_chosen_is_told_in_one_line(capsys, run, words, says) -> None:
    code, out, err = call(capsys, run.path, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_files_that_exist_are_left_alone(capsys, run, agents, tmp_path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    where = ("--slice", agents.slice[0], "--episode", "0")
    for option in ("--html", "--json"):
        code, _, err = call(capsys, run.path, *where, option, mine)
        assert code == 2
        assert "exists already. Replace it with --overwrite" in err
    assert mine.read_text() == "mine"
