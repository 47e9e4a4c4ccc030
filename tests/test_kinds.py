"""Every command given every kind of run: it works, or says in one line what to use instead."""

from pathlib import Path
from typing import Any

import pytest

from passline.cli import main
from passline.kinds import NULL_RESULTS_FILE, Origin, RunKind, kind_of, origin_of
from passline.runs import Run, create_run, list_runs

NEEDS_AGENT = {
    "evaluate": ["evaluate", "RUN"],
    "replay": ["replay", "RUN", "--list"],
    "reproduce": ["reproduce", "RUN"],
    "unseal": ["unseal", "RUN"],
    "diagnose": ["diagnose", "RUN"],
    "odds": ["odds", "RUN", "--rulebook", "apex-intraday-50k"],
    "train --from": ["train", "--from", "RUN", "--bars", "none.parquet",
                     "--rulebook", "apex-intraday-50k"],
}  # fmt: skip


@pytest.fixture
def walk(tmp_path: Path) -> Run:
    return create_run(tmp_path, "walk", {"config": {"walkforward": {"folds": 2, "seeds": 1}}})


@pytest.fixture
def null(tmp_path: Path) -> Run:
    run = create_run(tmp_path, "null", {"config": {"bars": ["es.parquet"]}})
    (run.path / NULL_RESULTS_FILE).write_text("")
    return run


@pytest.fixture
def model(tmp_path: Path) -> Run:
    return create_run(tmp_path, "theirs", {"config": {"model_sha256": "ab" * 32}})


def said(arguments: list[str], capsys: Any) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0), capsys.readouterr().err


def test_a_kind_is_told_from_what_the_directory_holds(walk, null, tmp_path) -> None:
    assert kind_of(walk) is RunKind.WALK_FORWARD
    assert kind_of(null) is RunKind.NULL_TEST
    (null.path / "checkpoints").mkdir()
    assert kind_of(null) is RunKind.NULL_TEST
    (null.path / "checkpoints" / "1-entry.toml").write_text("")
    assert kind_of(null) is RunKind.TRAINING, "trained since, or the null test of a training"
    (walk.path / "run.toml").write_text("status = ")
    assert [kind_of(run) for run in list_runs(tmp_path) if run.id == walk.id] == [RunKind.UNKNOWN]


@pytest.mark.parametrize("kind", ["walk", "null"])
@pytest.mark.parametrize("command", NEEDS_AGENT)
def test_a_command_that_needs_an_agent_says_what_to_use(command, kind, request, capsys) -> None:
    run: Run = request.getfixturevalue(kind)
    arguments = [str(run.path) if a == "RUN" else a for a in NEEDS_AGENT[command]]
    code, err = said(arguments, capsys)
    word, goes_on = {
        "walk": ("walk-forward", f"passline walkforward --resume {run.id}"),
        "null": ("null test", f"passline nulltest {run.id}"),
    }[kind]
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"passline: {run.id}: is a {word} and keeps no agent")
    assert f"passline report {run.id}" in last
    assert goes_on in last


@pytest.mark.parametrize("arguments", [["train", "--resume"], ["nulltest"]])
def test_a_walk_forward_goes_on_as_one_only(arguments, walk, capsys) -> None:
    code, err = said([*arguments, str(walk.path)], capsys)
    assert (code, "passline walkforward --resume" in err) == (2, True)


def test_only_a_walk_forward_goes_on_as_one(null, tmp_path, capsys) -> None:
    plain = create_run(tmp_path, "plain", {"config": {}})
    for run, instead in ((null, "passline nulltest"), (plain, "passline train --resume")):
        code, err = said(["walkforward", "--resume", str(run.path)], capsys)
        assert code == 2
        assert f"no walk-forward. Go on with it: {instead} {run.id}" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--resume", "RUN"],
        ["train", "--from", "RUN", "--bars", "none.parquet"],
        ["reproduce", "RUN"],
        ["unseal", "RUN"],
        ["nulltest", "RUN"],
        ["walkforward", "--resume", "RUN"],
    ],
)
def test_what_needs_a_training_says_that_a_judged_model_has_none(arguments, model, capsys) -> None:
    assert kind_of(model) is RunKind.MODEL
    code, err = said([str(model.path) if a == "RUN" else a for a in arguments], capsys)
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith(f"passline: {model.id}: is a ")
    assert f"passline evaluate {model.id}" in last


def test_the_report_of_an_empty_walk_forward_says_how_to_fill_it(walk, capsys) -> None:
    code, err = said(["report", str(walk.path)], capsys)
    assert code == 2
    assert f"passline walkforward --resume {walk.id}" in err


GATES = [{"phase": "entry", "is_passed": True}, {"phase": "account", "is_passed": False}]


@pytest.mark.parametrize(
    ("manifest", "origin"),
    [
        ({}, Origin()),
        ({"progress": {"gates": GATES[:1]}}, Origin()),
        ({"progress": {"gates": GATES}}, Origin(passed_gates=False)),
        ({"progress": {"gates": GATES[:1], "forced": True}}, Origin(passed_gates=False)),
        ({"lineage": {"base_forced": True}}, Origin(passed_gates=False)),
        ({"config": {"model_sha256": "ab" * 32}}, Origin(is_trained_here=False)),
    ],
)
def test_how_an_agent_came_to_be_is_told_from_its_manifest(manifest, origin) -> None:
    assert origin_of(manifest) == origin
    assert origin_of(manifest, GATES).passed_gates is False
