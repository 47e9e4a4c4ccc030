"""The main job end to end, tiny: run folder, gates, verdict, report, resuming, refusals."""

import json
import shutil
import tomllib
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
import tomli_w

from made_sb3 import state_from, write_model
from passline import pipeline
from passline.base_policy import kept_base, newest_policy
from passline.cli import main
from passline.config import from_plain, to_plain
from passline.death_pages import first_deaths
from passline.errors import ConfigError, RunError
from passline.evaluate.judge import BASELINES
from passline.evaluate.replay_choice import page_name
from passline.evaluate.table import append_evaluation, load_evaluations
from passline.evaluate.verdict import UNKNOWN_TRAINING
from passline.final import unseal
from passline.kinds import RunKind, is_forced, kind_of
from passline.learn import kernel
from passline.learn.checkpoint import list_checkpoints
from passline.learn.curriculum import Progress as Steps
from passline.learn.curriculum import load_network
from passline.learn.settings import PPOConfig
from passline.market.clock import EPOCH, trade_date
from passline.openings import read_openings
from passline.recording import Recorder, ResumePoint
from passline.registry import (
    configurations_tried,
    data_fingerprints,
    verify_run,
)
from passline.reproduce import reproduce, table_sha256
from passline.runs import RunStatus, list_runs, open_run

BOOK = """
extends = "apex-intraday-50k"
time_limit_days = 5
"""
SETTINGS: dict[str, Any] = {
    "market": {"strength": 0.0, "start_date": "2020-01-02", "end_date": "2020-08-10"},
    "slices": {"test_days": 40, "gate_days": 30, "final_days": 35, "n_episodes": 12},
    "ppo": {"n_lanes": 32, "rollout_steps": 16, "minibatch_size": 128, "hidden": [16, 16]},
    "curriculum": {
        "total_steps": 6 * 512,
        "n_gate_episodes": 8,
        "evaluations_per_phase": 2,
        "checkpoint_every": 1,
    },
}


class Quiet:
    """Keeps what is said."""

    def __init__(self, stop_at: int = 10**9) -> None:
        self.lines: list[str] = []
        self.n_updates = 0
        self.stop_at = stop_at

    def say(self, text: str) -> None:
        """Keeps a line."""
        self.lines.append(text)

    def update(self, phase: str, progress: Any, scalars: Mapping[str, float]) -> None:
        """Counts, and stops as Ctrl-C would."""
        self.n_updates += 1
        if self.n_updates == self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, Any]:
    book = tmp_path_factory.mktemp("books") / "short.toml"
    book.write_text(BOOK)
    return SETTINGS | {"rulebook": str(book)}


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory) -> Any:
    """A forced run through all phases: (outcome, screen, root)."""
    root = tmp_path_factory.mktemp("runs")
    screen = Quiet()
    job = pipeline.start_job(from_plain(settings, "test"), root=root, name="tiny")
    return pipeline.run_job(job, screen, forced=True), screen, root


def weights(run: Any) -> bytes:
    last = max(list_checkpoints(run.path / "checkpoints"), key=lambda info: info.meta["step"])
    return last.tensors.read_bytes()


def test_a_run_explains_itself(finished):
    outcome, screen, root = finished
    manifest = tomllib.loads((outcome.run.path / "run.toml").read_text())
    assert manifest["status"] == "finished"
    assert manifest["config"]["curriculum"]["total_steps"] == 6 * 512
    assert manifest["seeds"] == {"training": 0, "test": pipeline.TEST_SEED}
    assert manifest["markets"] == ["SYN"]
    assert len(next(iter(manifest["data"].values()))["sha256"]) == 64
    assert manifest["rulebook"]["automation"]["policy"] == "forbidden"
    assert manifest["packages"]["jax"]
    assert manifest["hardware"]["jax_backend"]
    assert manifest["hardware"]["products"] in ("amx", "avx512", "xla")
    fitting = PPOConfig(precision="bfloat16", hidden=(64, 32))
    assert pipeline._products(fitting) == (kernel.instructions() or "xla")
    assert pipeline._products(replace(fitting, hidden=(100, 100))) == "xla"
    assert pipeline._products(replace(fitting, precision="float32")) == "xla"
    phases = ["entry", "exit", "manage", "account"]
    assert [gate["phase"] for gate in manifest["progress"]["gates"]] == [*phases[:3], *phases[2:]]
    best = manifest["progress"]["best"]
    assert [item["phase"] for item in best] == phases
    kept = {
        info.path.stem: info.meta for info in list_checkpoints(outcome.run.path / "checkpoints")
    }
    assert all(kept[item["checkpoint"]]["gate_value"] == item["value"] for item in best)
    assert [run.id for run in list_runs(root)] == [outcome.run.id]
    assert any("gate of phase 'entry'" in line for line in screen.lines)


def test_an_untrained_agent_is_no_edge_and_the_forced_gate_is_marked(finished):
    outcome, _, _ = finished
    assert outcome.verdict.word.value == "no edge found"
    assert open_run(outcome.run.path).manifest["progress"]["forced"] is True


def test_every_evaluation_is_kept_with_slice_start_and_reason(finished):
    outcome, _, _ = finished
    table = load_evaluations(outcome.run.path / "evaluations.npz")
    assert set(table.phase) == {"entry", "exit", "manage", "account"}
    tested = table.where(phase="account", path="worst")
    tested = tested.select(np.char.startswith(tested.slice, "test-SYN-"))
    assert set(tested.policy) == {
        "agent",
        "flat",
        "random legal",
        "random entry",
        "always long",
        "opening range",
        "VWAP reversion",
        "moving averages",
        "shuffled features",
        "oracle",
        "untrained",
    }
    for policy in set(tested.policy):
        rows = tested.where(policy=str(policy))
        assert rows.start_bar.tolist() == tested.where(policy="agent").start_bar.tolist()
    assert (tested.where(policy="flat").n_trips == 0).all()
    assert set(tested.where(policy="flat").outcome) == {3}
    assert len(set(tested.start_bar)) == 12
    agents = table.where(policy="agent", path="worst")
    assert len(set(agents.timesteps)) >= 5
    with np.load(outcome.run.path / "evaluations.npz", allow_pickle=False) as stored:
        assert {"timesteps", "results", "ep_lengths"} <= set(stored.files)


def test_no_training_bar_is_a_gate_or_test_bar(settings, finished):
    outcome, _, _ = finished
    job = pipeline.continue_job(open_run(outcome.run.path))
    (_, stop), *_ = job.split.train
    assert stop < min(s.first_bar for s in job.split.gate)
    assert max(s.stop_bar for s in job.split.gate) < min(s.first_bar for s in job.split.test)


def garbled(make: Any, first_hidden: date) -> Any:
    """Returns synthesize with other prices and volumes from a trading day on."""

    def synthesize(config: Any, *, seed: int) -> Any:
        market = make(config, seed=seed)
        bars = market.bars
        at = int(np.searchsorted(trade_date(bars.ts), (first_hidden - EPOCH).days))
        columns = {}
        for name in ("open", "high", "low", "close"):
            columns[name] = getattr(bars, name).copy()
            columns[name][at:] = 7 * getattr(bars, name)[at:][::-1]
        drift = market.drift.copy()
        drift[at:] = 99.0
        return replace(market, bars=replace(bars, **columns), drift=drift)

    return synthesize


def test_no_bar_of_the_sealed_window_moves_a_bit_of_training_or_judgment(
    settings, finished, tmp_path, monkeypatch
):
    outcome, _, _ = finished
    sealed_from, last = outcome.run.manifest["slices"]["final"]
    assert (sealed_from, last) == (date(2020, 7, 4), date(2020, 8, 7))
    garbage = garbled(pipeline.synthesize, sealed_from)
    monkeypatch.setattr(pipeline, "synthesize", garbage)
    job = pipeline.start_job(from_plain(settings, "test"), root=tmp_path)
    spoiled = pipeline.run_job(job, Quiet(), forced=True)
    (before,), (after,) = (run.manifest["data"].values() for run in (outcome.run, spoiled.run))
    assert before["sha256"] != after["sha256"]
    assert before["visible_sha256"] == after["visible_sha256"]
    assert weights(spoiled.run) == weights(outcome.run)
    for name in ("evaluations.npz", "distributions.npz", "equity.npz"):
        with np.load(outcome.run.path / name) as a, np.load(spoiled.run.path / name) as b:
            assert a.files == b.files
            for key in a.files:
                np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_the_report_comes_from_the_folder_alone(finished):
    outcome, _, _ = finished
    before = outcome.report.read_text()
    assert "No edge found" in before
    assert "forbids automated trading" in before
    outcome.report.unlink()
    assert pipeline.publish(open_run(outcome.run.path)).read_text() == before


def test_the_first_deaths_of_each_rule_are_replayed_beside_the_report(finished):
    outcome, _, _ = finished
    table = load_evaluations(outcome.run.path / "evaluations.npz")
    expected = {page_name(item, table) for item in first_deaths(table)}
    assert expected
    assert {page.name for page in (outcome.run.path / "replays").iterdir()} == expected
    text = outcome.report.read_text()
    for name in expected:
        assert f'href="replays/{name}#bar=end"' in text


def test_the_verdict_is_kept_as_data(finished):
    outcome, _, _ = finished
    told = json.loads((outcome.run.path / "verdict.json").read_text())
    assert told["verdict"] == outcome.verdict.word.value
    assert {p["policy"] for p in told["policies"]} >= {"agent", *BASELINES}
    for policy in told["policies"][1:]:
        assert policy["advantage"]["n"] == policy["advantage_redrawn"]["n"] == 12


def test_a_stopped_run_goes_on_to_the_same_weights(settings, finished, tmp_path):
    whole, _, _ = finished
    config = from_plain(settings, "test")
    job = pipeline.start_job(config, root=tmp_path, name="stopped")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run_job(job, Quiet(stop_at=4), forced=True)
    run = open_run(job.run.path)
    assert run.status is RunStatus.INTERRUPTED
    assert run.manifest["progress"]["forced_from"] == "entry"
    again = pipeline.run_job(pipeline.continue_job(run), Quiet())  # forced once, forced for good
    assert weights(again.run) == weights(whole.run)
    assert again.run.manifest["config_fingerprint"] == whole.run.manifest["config_fingerprint"]
    progress = open_run(again.run.path).manifest["progress"]
    assert {gate["phase"] for gate in progress["gates"]} == {"entry", "exit", "manage", "account"}
    assert progress["forced"] is True
    lines = (again.run.path / "scalars.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))


def test_a_gate_that_is_not_passed_ends_the_curriculum_with_exit_code_3(settings, tmp_path, capsys):
    plain = settings | {"market": settings["market"] | {"strength": 0.0}}
    config = tmp_path / "settings.toml"
    config.write_text(tomli_w.dumps(plain))
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", str(config), "--root", str(tmp_path), "--json"])
    assert stop.value.code == 3
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["stopped_at"] == "entry"
    assert answer["verdict"] == "no edge found"
    assert "gate of phase 'entry' NOT passed" in err
    assert "--force" in err


def test_settings_that_leave_nothing_to_train_on_leave_no_run_behind(settings, tmp_path):
    plain = settings | {"slices": {"test_days": 120, "gate_days": 60}}
    with pytest.raises(ConfigError, match="trading days are left for training"):
        pipeline.start_job(from_plain(plain, "test"), root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_settings_name_the_place(settings):
    with pytest.raises(ConfigError, match=r"test: \[task\] unknown key stop_art"):
        from_plain(settings | {"task": {"stop_art": 2}}, "test")


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("task", "stop_atr", float("nan")),
        ("task", "stop_atr", float("inf")),
        ("task", "target_r", 1e9),
        ("task", "target_r", 0.0),
        ("task", "slippage_ticks", 100_000),
        ("task", "commission_mills", -1),
        ("ppo", "n_lanes", 100_000_000),
    ],
)
def test_settings_that_no_account_could_have_are_refused(section, name, value, settings):
    with pytest.raises(ConfigError, match=f"{name}.* was"):
        from_plain(settings | {section: {name: value}}, "test")


def test_odd_widths_are_refused_before_anything_is_made(settings):
    odd = settings | {"ppo": {"hidden": [16, 15]}}
    with pytest.raises(ConfigError, match=r"hidden was \(16, 15\); .*--symmetric never"):
        from_plain(odd, "test")
    from_plain(odd | {"curriculum": {"symmetric": "never"}}, "test")
    from_plain(odd | {"base_sha256": "ab" * 32}, "test")
    with pytest.raises(ConfigError, match="even widths"):
        from_plain(odd | {"base_sha256": "ab" * 32, "curriculum": {"symmetric": "always"}}, "test")


def test_a_run_with_other_settings_than_it_began_with_is_refused(finished, tmp_path):
    outcome, _, _ = finished
    copy = tmp_path / outcome.run.id
    copy.mkdir()
    text = (outcome.run.path / "run.toml").read_text()
    (copy / "run.toml").write_text(text.replace("n_lanes = 32", "n_lanes = 64"))
    with pytest.raises(RunError):
        pipeline.continue_job(open_run(copy))


def test_commands_evaluate_and_report(finished, capsys):
    outcome, _, root = finished
    with pytest.raises(SystemExit) as stop:
        main(["report", outcome.run.id, "--root", str(root), "--json"])
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["run"] == outcome.run.id
    before = len(load_evaluations(outcome.run.path / "evaluations.npz"))
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", outcome.run.id, "--root", str(root), "--json"])
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["verdict"] == "no edge found"
    assert len(load_evaluations(outcome.run.path / "evaluations.npz")) > before


def test_the_final_window_is_judged_only_when_opened_and_each_opening_is_counted(finished, capsys):
    outcome, _, root = finished
    run = open_run(outcome.run.path)
    assert read_openings(run) == []
    assert not (run.path / "final.npz").exists()
    before = (run.path / "evaluations.npz").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["unseal", run.id, "--root", str(root), "--json"])
    assert not stop.value.code
    answer = json.loads(capsys.readouterr().out)
    assert "for the first time" in answer["reasons"][0]
    page = (run.path / "report.html").read_text()
    assert "2020-07-04 to 2020-08-07. The final window was opened for the first time" in page
    assert "<strong>No edge found</strong> on the final window." in page
    second = unseal(run)
    assert "opened 2 times" in second.verdict.reasons[0]
    openings = read_openings(run)
    assert [opening.n_before for opening in openings] == [0, 1]
    assert openings[0].window.first == run.manifest["slices"]["final"][0]
    assert openings[0].result == openings[1].result
    assert openings[0].result["n"] > 0
    table = load_evaluations(run.path / "final.npz")
    assert all(name.startswith("final-SYN-2020-0") for name in set(table.slice))
    assert table.start_day.min() >= (openings[0].window.first - EPOCH).days
    assert (run.path / "evaluations.npz").read_bytes() == before
    assert all(check.is_sound is not False for check in verify_run(run, root))


def test_a_run_that_was_altered_is_found_out(finished, tmp_path):
    outcome, _, _ = finished
    copy = tmp_path / outcome.run.id
    shutil.copytree(outcome.run.path, copy)
    whole = {check.name: check.is_sound for check in verify_run(open_run(copy), tmp_path)}
    assert whole["files"] is whole["checkpoints"] is whole["verdict"] is True
    last = max(list_checkpoints(copy / "checkpoints"), key=lambda info: info.meta["step"])
    last.tensors.write_bytes(last.tensors.read_bytes()[:-1] + b"\x00\x01")
    table = load_evaluations(copy / "evaluations.npz")
    (copy / "evaluations.npz").unlink()
    append_evaluation(copy / "evaluations.npz", [replace(table, outcome=table.outcome * 0 + 1)])
    found = {check.name: check.is_sound for check in verify_run(open_run(copy), tmp_path)}
    assert found["files"] is found["checkpoints"] is found["verdict"] is False
    with pytest.raises(SystemExit) as stop:
        main(["runs", "--verify", outcome.run.id, "--root", str(tmp_path)])
    assert stop.value.code == 3


def test_a_run_trained_again_is_the_same_and_an_altered_one_is_not(finished, capsys):
    outcome, _, root = finished
    found = reproduce(open_run(outcome.run.path), Quiet())
    assert found.is_same
    assert found.weights[0] == found.weights[1]
    assert found.differences == ()
    assert found.again.manifest["progress"]["reproduces"] == outcome.run.id
    assert configurations_tried(root, next(iter(data_fingerprints(outcome.run)))) == 1
    table = load_evaluations(outcome.run.path / "evaluations.npz")
    assert table_sha256(table) != table_sha256(replace(table, reward=table.reward + 1e-9))


def test_a_training_begins_with_the_weights_of_another(settings, finished, tmp_path):
    outcome, _, _ = finished
    config = from_plain(settings, "test")
    base = newest_policy(open_run(outcome.run.path), config.ppo)
    earlier = replace(config, slices=replace(config.slices, test_days=70, gate_days=20))
    with pytest.raises(ConfigError, match="to judge them"):
        pipeline.start_job(earlier, root=tmp_path, base=base)
    assert list(tmp_path.iterdir()) == []
    job = pipeline.start_job(config, root=tmp_path, base=base)
    lineage = open_run(job.run.path).manifest["lineage"]
    assert lineage["base_run"] == outcome.run.id
    assert lineage["base_forced"] is True
    assert is_forced(open_run(job.run.path).manifest)
    kept = kept_base(open_run(job.run.path), config.ppo)
    for net, layers in base.network.items():
        for name, values in layers.items():
            np.testing.assert_array_equal(kept.network[net][name], values)
    assert job.run.manifest["config_fingerprint"] != outcome.run.manifest["config_fingerprint"]
    with pytest.raises(ConfigError, match="set by --from RUN, not by hand"):
        pipeline.start_job(replace(config, base_sha256="ab" * 32), root=tmp_path)


def test_a_policy_that_tells_the_sides_apart_is_not_kept_symmetric(settings, finished, tmp_path):
    config = from_plain(settings | {"curriculum": {"symmetric": "always"}}, "test")
    base = newest_policy(open_run(finished[0].run.path), config.ppo)
    free = {**base.network["actor"]}
    free["b2"] = free["b2"] + np.arange(len(free["b2"]), dtype=np.float32)
    crooked = replace(base, network={**base.network, "actor": free})
    with pytest.raises(ConfigError, match="tells long and short apart"):
        pipeline.start_job(config, root=tmp_path, base=crooked)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def judged(settings, finished, tmp_path_factory) -> Any:
    """The finished run's agent as a model of stable-baselines3, judged: (run, folder)."""
    outcome, _, _ = finished
    folder = tmp_path_factory.mktemp("judged")
    params, _ = load_network(outcome.run.path / "checkpoints", from_plain(settings, "test").ppo)
    write_model(folder / "theirs.zip", state_from(params))
    (folder / "settings.toml").write_text(tomli_w.dumps(settings))
    words = ["evaluate", folder / "theirs.zip", "--config", folder / "settings.toml"]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in [*words, "--root", folder / "runs", "--json"]])
    assert not stop.value.code
    (run,) = list_runs(folder / "runs")
    return run, folder


def first_judgment(run: Any, path: str) -> Any:
    """The account phase's test episodes of the training itself, not of a later `evaluate`."""
    table = load_evaluations(run.path / "evaluations.npz")
    table = table.where(path=path, phase="account")
    table = table.select(np.char.startswith(table.slice, "test-"))
    return table.select(table.evaluation == table.evaluation.min())


@pytest.mark.parametrize("path", ["worst", "best"])
def test_a_policy_is_worth_the_same_through_either_door(path, finished, judged):
    """Agent and baselines, every number of every episode on the test slices."""
    outcome, _, _ = finished
    run, _ = judged
    ours, theirs = (first_judgment(r, path) for r in (outcome.run, run))
    assert len(theirs) == len(set(theirs.policy)) * 12
    assert set(ours.policy) == set(theirs.policy)
    for policy in sorted(set(ours.policy)):
        pair = [t.where(policy=policy) for t in (ours, theirs)]
        for name in vars(theirs):
            if name not in ("timesteps", "evaluation", "action_names"):
                np.testing.assert_array_equal(*(getattr(t, name) for t in pair), err_msg=name)
    assert set(theirs.timesteps) == {1024}


def test_a_judged_model_says_that_its_training_is_not_known(judged):
    run, _ = judged
    manifest = tomllib.loads((run.path / "run.toml").read_text())
    assert (manifest["status"], manifest["name"]) == ("finished", "theirs")
    assert kind_of(run) is RunKind.MODEL
    assert manifest["lineage"]["trained_on"] == "unknown"
    assert manifest["lineage"]["model_sha256"] == manifest["config"]["model_sha256"]
    assert manifest["config"]["ppo"] == {"hidden": [16, 16]}
    assert "curriculum" not in manifest["config"]
    assert "train" not in manifest["slices"]
    assert {"gate", "test", "final"} == set(manifest["slices"])
    assert manifest["seeds"] == {"test": pipeline.TEST_SEED}
    assert not (run.path / "distributions.npz").exists()
    told = json.loads((run.path / "verdict.json").read_text())
    assert "On days that its training may have seen the agent passed" in told["sentence"]
    assert told["reasons"][0] == UNKNOWN_TRAINING
    page = (run.path / "report.html").read_text()
    assert UNKNOWN_TRAINING in page
    assert "not played. Whether the model&#39;s training saw it is not known" in page
    assert f"passline unseal {run.id}" not in page
    assert "data it never saw" not in page
    assert all(check.is_sound is not False for check in verify_run(run, run.path.parent))
    (digest,) = {m["sha256"] for m in manifest["data"].values()}
    assert configurations_tried(run.path.parent, digest) == 1


def test_a_judged_model_is_replayed_judged_again_and_compared(finished, judged, tmp_path, capsys):
    outcome, _, _ = finished
    copy = tmp_path / judged[0].id
    shutil.copytree(judged[0].path, copy)
    other = tmp_path / outcome.run.id
    shutil.copytree(outcome.run.path, other)
    before = load_evaluations(copy / "evaluations.npz")
    for words in (
        ["replay", copy.name, "--row", "0", "--json", "-"],
        ["evaluate", copy.name, "--json"],
        ["compare", copy.name, other.name, "--out", str(tmp_path / "both.html"), "--json"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--root", str(tmp_path)])
        assert not stop.value.code, capsys.readouterr().err
        told = json.loads(capsys.readouterr().out)
    assert any("Trained outside passline" in note for note in told["notes"])
    assert len(load_evaluations(copy / "evaluations.npz")) == 2 * len(before)
    assert open_run(copy).status is RunStatus.FINISHED


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["theirs.zip"], "nothing to judge the model on: give --bars FILE"),
        (["missing.zip", "--config", "settings.toml"], "missing.zip: could not be read"),
        (["settings.toml", "--config", "settings.toml"], "File is not a zip file"),
        (["theirs.zip", "--config", "settings.toml", "--rulebook", "apex5k"], "no rulebook"),
        (["theirs.zip", "--config", "settings.toml", "--test-days", "9000"], "held out"),
        (["theirs.zip", "--config", "settings.toml", "--set", 'model_sha256="ab"'], "not by hand"),
        (["runs", "--test-days", "40"], "its own settings; leave out --test-days."),
    ],
)
def test_a_model_that_cannot_be_judged_leaves_no_run_behind(words, told, judged, capsys, tmp_path):
    _, folder = judged
    with pytest.raises(SystemExit) as stop, chdir(folder):
        main(["evaluate", *words, "--root", str(tmp_path / "runs")])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert list(tmp_path.iterdir()) == []


def test_warnings_of_a_training_are_shown_and_kept(settings, tmp_path, phases):
    job = pipeline.start_job(from_plain(settings, "test"), root=tmp_path)
    screen = Quiet()
    with Recorder(job.run, screen, job.phases, job.split, resumed=None) as recorder:
        for step in range(1, 13):
            progress = Steps(step=step, total_steps=99, phase_step=step, phase_steps=99)
            recorder.on_update(phases["entry"], progress, {"train/approx_kl": 1e-9})
    assert [line for line in screen.lines if "the policy is frozen" in line] == screen.lines
    (warned,) = open_run(job.run.path).manifest["progress"]["warnings"]
    assert (warned["kind"], warned["phase"], warned["step"]) == ("frozen", "entry", 10)
    for step, kinds in ((10, ["frozen"]), (9, [])):
        point = ResumePoint(step=step, phase="entry", is_phase_end=False)
        run = open_run(job.run.path)
        with Recorder(run, screen, job.phases, job.split, resumed=point):
            told = open_run(run.path).manifest["progress"]["warnings"]
            assert [w["kind"] for w in told] == kinds
    assert len(screen.lines) == 1


def test_settings_written_to_a_run_are_read_back_as_they_were():
    config = from_plain({"bars": ["a.parquet"]}, "test")
    assert from_plain(to_plain(config), "test") == config
