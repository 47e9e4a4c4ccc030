"""Run directories: unique, atomic, locked, found by id, and telling what made them."""

import errno
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest

import passline
from passline import runs
from passline.errors import RunError
from passline.runs import (
    RunStatus,
    config_fingerprint,
    create_run,
    list_runs,
    naming_refusals,
    open_run,
    replace_file,
    sweep_temporaries,
)

HOLD_LOCK = """
import sys, time
from pathlib import Path
from passline.runs import open_run
with open_run(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


class Kind(IntEnum):
    FIRST = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = 3e-4
    kind: Kind = Kind.FIRST
    missing: int | None = None
    widths: tuple[int, ...] = (128, 128)


def manifest(**more: object) -> dict[str, object]:
    return {"config": {"ppo": Settings()}, "seeds": {"train": np.int64(7)}, **more}


@pytest.fixture
def other_process(tmp_path):
    """A second process that holds the lock of the run it is given, until the test ends."""
    started = []

    def start(path: Path) -> subprocess.Popen[str]:
        source = Path(passline.__file__).parents[1]
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD_LOCK, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(source)},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_run_toml_tells_the_whole_story(tmp_path):
    run = create_run(
        tmp_path / "runs",
        "ES 5-minute, Apex!",
        manifest(
            data={"es": "ab" * 32},
            hardware={"backend": "cpu"},
            lineage={"base_run": "20260101T000000Z-x-0a0a0a"},
        ),
    )
    told = tomllib.loads((run.path / "run.toml").read_text())
    assert told["config"] == {"ppo": {"rate": 3e-4, "kind": "first", "widths": [128, 128]}}
    assert told["seeds"] == {"train": 7}
    assert told["passline"] == passline.__version__
    assert told["packages"]["numpy"] == np.__version__
    assert told["hardware"]["cores"] >= 1
    assert told["hardware"]["backend"] == "cpu"
    assert told["lineage"] == {"base_run": "20260101T000000Z-x-0a0a0a"}
    assert told["config_fingerprint"] == config_fingerprint({"ppo": Settings()})
    assert told["id"] == run.id
    stamp, rest = run.id.split("-", 1)
    assert stamp.endswith("Z")
    assert rest.startswith("es-5-minute-apex-")
    assert len(rest.rsplit("-", 1)[1]) == 6


def test_same_name_in_the_same_second_makes_two_runs(tmp_path):
    first, second = (create_run(tmp_path, "twin", manifest()) for _ in range(2))
    assert first.path != second.path
    assert [run.id for run in list_runs(tmp_path)] == sorted([first.id, second.id])


def test_a_taken_directory_is_never_reused(tmp_path, monkeypatch):
    draws = iter(["aaaaaa", "aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(runs, "_now", lambda: "2026-01-01T00:00:00Z")
    first = runs._make_directory(tmp_path, "x")
    stamp = first.name.split("-")[0]
    (tmp_path / f"{stamp}-x-aaaaaa").mkdir(exist_ok=True)
    monkeypatch.setattr(runs.secrets, "token_hex", lambda n: next(draws))
    monkeypatch.setattr(runs, "datetime", _FrozenClock(stamp))
    assert runs._make_directory(tmp_path, "x").name == f"{stamp}-x-bbbbbb"


class _FrozenClock:
    def __init__(self, stamp: str) -> None:
        self.stamp = stamp

    def now(self, zone: object) -> "_FrozenClock":
        return self

    def strftime(self, form: str) -> str:
        return self.stamp


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"config": {}, "colour": 1}, "unknown key 'colour'"),
        ({"seeds": {}}, "no 'config'"),
        ({"config": {"net": {"f": print}}}, r"config\.net\.f is a builtin_function"),
    ],
)
def test_a_manifest_that_cannot_be_told_is_refused(tmp_path, bad, says):
    with pytest.raises(RunError, match=says):
        create_run(tmp_path, "x", bad)


def test_status_and_progress_are_kept(tmp_path):
    run = create_run(tmp_path, "x", manifest())
    with run.lock():
        run.update_status(RunStatus.RUNNING, progress={"steps": 10, "wall_s": 1.5})
        assert run.status is RunStatus.RUNNING
        run.update_status(RunStatus.FINISHED, message="done", progress={"steps": 20})
    again = open_run(run.path)
    assert again.status is RunStatus.FINISHED
    assert again.manifest["message"] == "done"
    assert again.manifest["progress"] == {"steps": 20, "wall_s": 1.5}
    assert again.manifest["config"] == run.manifest["config"]
    with pytest.raises(RunError, match="found out"):
        run.update_status(RunStatus.KILLED)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    target = tmp_path / "file"
    replace_file(target, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunError, match=r"file: could not be written: disk full.* Free space"):
        replace_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_no_empty_run_behind(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"run\.toml: could not be written: No space left"):
        create_run(tmp_path, "x", manifest())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_half_written_is_swept(tmp_path):
    (tmp_path / "figures").mkdir()
    left = [tmp_path / ".run.toml.123-0a1b2c3d", tmp_path / "figures" / ".a-b.png.9-00000000"]
    kept = [tmp_path / "run.toml", tmp_path / ".gitignore", tmp_path / ".last.toml.12.tmp"]
    for path in (*left, *kept):
        path.write_text("x")
    sweep_temporaries(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_refusal_to_write_names_file_and_remedy_and_other_errors_pass(tmp_path, code):
    with (
        pytest.raises(RunError, match=rf"a: could not be written: {os.strerror(code)}.* --resume"),
        naming_refusals(tmp_path),
    ):
        raise OSError(code, os.strerror(code), str(tmp_path / "a"))
    with pytest.raises(ConnectionError), naming_refusals(tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_two_processes_cannot_write_one_run(tmp_path, other_process):
    run = create_run(tmp_path, "x", manifest())
    process = other_process(run.path)
    assert run.status is RunStatus.RUNNING
    with pytest.raises(RunError, match=f"written by process {process.pid} on"):
        run.update_status(RunStatus.FINISHED)
    with pytest.raises(RunError, match="One process at a time"), run.lock():
        pass


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, other_process):
    run = create_run(tmp_path, "x", manifest())
    process = other_process(run.path)
    process.kill()
    process.wait()
    assert run.status is RunStatus.KILLED
    with run.lock():
        assert run.status is RunStatus.RUNNING
        with pytest.raises(RunError, match="One process at a time"), open_run(run.path).lock():
            pass
    run.record_resume(4096)
    assert open_run(run.path).manifest["resumes"][0]["step"] == 4096


def test_runs_are_found_by_path_id_or_part_and_never_guessed(tmp_path):
    run = create_run(tmp_path, "alpha", manifest())
    create_run(tmp_path, "beta", manifest())
    assert open_run(run.path).id == run.id
    assert open_run(run.id, tmp_path).id == run.id
    assert open_run(run.id[-6:], tmp_path).id == run.id
    with pytest.raises(RunError, match="fits 2 runs"):
        open_run("Z-", tmp_path)
    with pytest.raises(RunError, match=r"Did you mean .*alpha"):
        open_run(run.id[:-3] + "zzz", tmp_path)
    with pytest.raises(RunError, match="no run '' among 2"):
        open_run("", tmp_path)
    with pytest.raises(RunError, match="no run 'x' among 0"):
        open_run("x", tmp_path / "none")


def test_a_damaged_run_does_not_hide_the_others(tmp_path):
    good, bad = (create_run(tmp_path, name, manifest()) for name in ("good", "bad"))
    (bad.path / "run.toml").write_text("status = ")
    (tmp_path / "20260101T000000Z-half-0a0a0a").mkdir()
    (tmp_path / "notes").mkdir()
    found = {run.id: run.status for run in list_runs(tmp_path)}
    assert found[good.id] is RunStatus.KILLED
    assert found[bad.id] is RunStatus.UNREADABLE
    assert len(found) == 3
    with pytest.raises(RunError, match="is not TOML"):
        open_run(bad.path)
    assert list_runs(tmp_path / "none") == []


def test_fingerprint_depends_on_values_not_on_order():
    assert config_fingerprint({"a": 1, "b": [1, 2]}) == config_fingerprint({"b": (1, 2), "a": 1})
    assert config_fingerprint({"a": 1}) != config_fingerprint({"a": 2})
    assert config_fingerprint({"a": 1}) != config_fingerprint({"a": 1.5})
    assert config_fingerprint(Settings()) == config_fingerprint(Settings(missing=None))
    assert config_fingerprint(Settings()) != config_fingerprint(Settings(missing=3))


def test_an_edited_configuration_is_noticed(tmp_path):
    run = create_run(tmp_path, "x", manifest())
    open_run(run.path).check_fingerprint()
    file = run.path / "run.toml"
    file.write_text(file.read_text().replace("0.0003", "0.0004"))
    with pytest.raises(RunError, match="edited since"):
        open_run(run.path).check_fingerprint()


def test_importing_runs_does_not_load_jax():
    code = "import sys, passline.runs; sys.exit('jax' in sys.modules or 'scipy' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(passline.__file__).parents[1])}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
