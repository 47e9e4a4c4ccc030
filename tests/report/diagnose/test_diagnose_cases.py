"""Whole cases: the old system's logs, a healthy training, a passline run; and the command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from old_system import write_events, write_old_system

from passline.cli import main
from passline.cli.diagnose import diagnose as command
from passline.report.diagnose.checks import CHECKS
from passline.report.diagnose.diagnosis import Diagnosis, diagnose, dynamics
from passline.report.diagnose.read import read_logs
from passline.runs import Run


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_old_system(tmp_path_factory.mktemp("logs") / "old")


@pytest.fixture(scope="module")
def found(old: Path) -> Diagnosis:
    return diagnose(read_logs(old))


def problems(found: Diagnosis, check: str) -> dict[str, tuple[str, str, str]]:
    """Returns (severity, evidence, remedies) by phase."""
    return {
        item.phase: (
            item.problem.severity.value,
            item.problem.evidence,
            " ".join(item.problem.remedies),
        )
        for item in found.findings
        if item.check == check
    }


# --- the old system: its four problems -----------------------------------------------------------


def test_training_and_evaluation_do_not_match(found):
    severity, evidence, remedies = problems(found, "horizon_mismatch")["phase2"]
    assert severity == "critical"
    for words in ("1,846 bars at 4M", "327 bars at 8M", "-282 in evaluation", "12 times as long"):
        assert words in evidence
    assert "min_episode_bars" in remedies
    assert "compliance episodes" in remedies


def test_the_evaluation_covers_too_little(found):
    spread = problems(found, "evaluation_spread")
    assert set(spread) == {"phase1", "phase2"}
    assert all(severity == "critical" for severity, _, _ in spread.values())
    assert "std 0" in spread["phase1"][1]
    assert "several fixed slices" in spread["phase2"][2]
    few = problems(found, "few_checkpoints")
    assert "only 1 evaluated checkpoint, at 4M" in few["phase1"][1]
    assert "only 2 evaluated checkpoints, at 4M, 8M" in few["phase2"][1]
    lost = problems(found, "lost_logs")
    assert "logs/phase2/evaluations.npz carries no name of its run" in lost["phase2"][1]
    assert "timestamp or the run's id into the log_path" in lost["phase2"][2]


def test_a_weak_base_was_handed_on(found):
    severity, evidence, remedies = problems(found, "weak_base")[""]
    assert severity == "critical"
    assert "phase1 was handed on with -1.65 held out at 4M" in evidence
    assert "reward scaling" in remedies


def test_a_rule_is_broken_each_time(found):
    breach = problems(found, "rule_breach")
    assert set(breach) == {"phase2"}
    severity, evidence, remedies = breach["phase2"]
    assert severity == "critical"
    assert "-1,191 over 1,846 bars at 4M, -282 over 327 bars at 8M" in evidence
    assert "between 3 and 115" in evidence
    assert "trailing drawdown" in evidence
    assert "done_reason, action mask and compliance flags" in remedies


def test_its_blind_spots_are_named(found):
    _, evidence, remedies = problems(found, "blind_spots")[""]
    assert "how often each action is chosen" in evidence
    assert "configuration (steps, markets, seeds, versions)" in remedies


def test_what_went_well_is_said(found):
    clear = {(check.name, phase) for check, phase, _ in found.clear()}
    for name in ("frozen", "jumps", "entropy_collapse", "value_collapse", "throughput"):
        assert {(name, "phase1"), (name, "phase2")} <= clear


def test_nothing_else_is_claimed(found):
    assert {item.check for item in found.findings} == {
        "horizon_mismatch", "evaluation_spread", "few_checkpoints", "lost_logs", "weak_base",
        "rule_breach", "blind_spots",
    }  # fmt: skip


def test_its_dynamics_are_the_published_figures(found):
    first, second = found.log.phases
    of = {item.measure: item for item in dynamics(first)}
    for measure, start, end in (
        ("reward", -2.22, -1.47),
        ("episode length", 230, 2700),
        ("explained variance", -0.35, 0.95),
    ):
        assert (of[measure].first, of[measure].last) == pytest.approx((start, end))
        assert of[measure].trend == "rises"
    of = {item.measure: item for item in dynamics(second)}
    assert (of["reward"].least, of["reward"].most) == pytest.approx((3, 115), abs=1)
    assert of["KL"].last == pytest.approx(0.005)
    assert of["entropy"].last == pytest.approx(0.36)
    assert of["steps/s"].last == 1600


def test_evaluations_alone_show_three_of_the_four(old):
    alone = diagnose(read_logs(old / "logs"))
    assert {item.check for item in alone.findings} >= {
        "evaluation_spread", "few_checkpoints", "weak_base", "rule_breach",
    }  # fmt: skip


# --- healthy trainings ---------------------------------------------------------------------------


def write_healthy(root: Path) -> Path:
    time, generator = np.linspace(0, 1, 60), np.random.default_rng(0)
    folder = root / "20260412-ppo"
    write_events(
        folder / "PPO_1",
        {
            "rollout/ep_rew_mean": -1 + 2 * time + 0.1 * generator.standard_normal(60),
            "rollout/ep_len_mean": 900 + 40 * generator.standard_normal(60),
            "train/explained_variance": 0.9 * time**0.2,
            "train/approx_kl": 0.006 + 0.001 * generator.standard_normal(60),
            "train/clip_fraction": np.full(60, 0.07),
            "train/entropy_loss": -1.6 + 0.8 * time,
            "train/value_loss": 0.5 - 0.2 * time,
            "actions/hold": np.full(60, 0.7),
            "rollout/invalid_actions": np.zeros(60),
            "done/floor": np.full(60, 0.2),
            "time/fps": np.full(60, 45_000.0),
        },
        6_000_000,
    )
    np.savez(
        folder / "evaluations.npz",
        timesteps=np.arange(1, 7) * 1_000_000,
        results=0.2 * np.arange(6)[:, None] + generator.standard_normal((6, 40)),
        ep_lengths=generator.integers(700, 1400, (6, 40)),
    )
    (folder / "config.yml").write_text("seed: 1\n")
    return root


def test_a_healthy_training_is_left_alone(tmp_path):
    found = diagnose(read_logs(write_healthy(tmp_path / "x")))
    assert found.findings == []
    assert found.sentence().startswith("nothing wrong found: 16 looked at and right")


def test_a_passline_run_is_diagnosed(run: Run):
    found = diagnose(read_logs(run.path))
    assert problems(found, "evaluation_spread")["account"][:2] == (
        "warning",
        "all 96 episodes come from one slice, 2022.",
    )
    clear = {(check.name, phase): answer.evidence for check, phase, answer in found.clear()}
    assert clear["few_checkpoints", "account"] == "3 evaluated checkpoints (14M, 20M, 26M)."
    assert clear["lost_logs", "entry"] == "40 updates and 3 evaluations, no gap."
    assert clear["unfinished", ""] == "the run finished."
    assert ("blind_spots", "") in clear
    assert ("invalid_actions", "account") in clear


def test_the_page_on_it_names_every_check():
    page = Path(__file__).parents[3] / "docs" / "diagnose.md"
    if not page.is_file():
        pytest.skip("not run from a checkout")
    text = page.read_text()
    assert [check.name for check in CHECKS if f"| `{check.name}` |" not in text] == []


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def ask() -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(command, [str(argument) for argument in arguments])

    return run


def test_the_text_fits_its_columns(ask, old):
    done = ask(old)
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 100
    for words in (
        "7 problems found (4 critical, 2 warning, 1 note)",
        "CRITICAL: A weak base policy was handed on",
        "reward              -2.22  -1.47",
        "looked at, and right",
        "not told by these logs",
    ):
        assert words in done.output


def test_json_holds_the_same(ask, old):
    told: dict[str, Any] = json.loads(ask(old, "--json").output)
    assert told["kind"] == "stable-baselines3"
    assert [phase["name"] for phase in told["phases"]] == ["phase1", "phase2"]
    assert told["phases"][1]["evaluations"][0]["mean_reward"] == -1191
    assert told["phases"][0]["training"][0]["measure"] == "reward"
    assert {item["severity"] for item in told["findings"]} == {"critical", "warning", "note"}
    assert all(item["remedies"] for item in told["findings"])


def test_nothing_wrong_is_said(ask, tmp_path):
    done = ask(write_healthy(tmp_path / "x"))
    assert done.exit_code == 0
    assert "nothing wrong found" in done.output
    assert "entropy" in done.output


def test_a_run_is_found_by_its_id(ask, run: Run):
    done = ask(run.id, "--root", run.path.parent, "--json")
    assert json.loads(done.output)["kind"] == "passline"


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_unreadable_input_ends_with_code_2(tmp_path, capsys, content):
    path = tmp_path / "evaluations.npz"
    path.write_bytes(content)
    for given in (path, tmp_path, tmp_path / "gone.npz", "no-such-run"):
        with pytest.raises(SystemExit) as ended:
            main(["diagnose", str(given)])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert err.startswith("passline: ")
        assert err.count("\n") == 1
