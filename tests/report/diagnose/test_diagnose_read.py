"""Logs are read as they were written, damaged ones as far as they go, hostile ones not at all."""

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from old_system import write_evaluations, write_events, write_old_system
from tensorboardX import SummaryWriter
from tensorboardX.proto import event_pb2

from passline.errors import RunError
from passline.report.diagnose.events import read_events
from passline.report.diagnose.read import read_logs
from passline.report.diagnose.read_npz import read_sb3_evaluations
from passline.runs import Run

RISING = {"rollout/ep_rew_mean": np.arange(20.0), "time/fps": np.full(20, 900.0)}


# --- event files ---------------------------------------------------------------------------------


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return write_events(tmp_path / "PPO_1", RISING, 2000)


def test_scalars_are_read_with_their_steps(events):
    log = read_events([events])
    curve = log.curves["rollout/ep_rew_mean"]
    assert curve.step.tolist() == list(range(100, 2100, 100))
    assert curve.value.tolist() == list(range(20))
    assert (log.n_damaged, log.n_cut, log.n_restarts) == (0, 0, 0)


@pytest.mark.parametrize("n_bytes", [1, 5, 20])
def test_a_last_record_cut_off_is_left_out(events, n_bytes):
    events.write_bytes(events.read_bytes()[:-n_bytes])
    log = read_events([events])
    assert len(log.curves["time/fps"].step) == 19
    assert log.n_cut == 1


def records(path: Path) -> list[tuple[int, int]]:
    """Returns (offset, length of the data) of each record."""
    content, offset, found = path.read_bytes(), 0, []
    while offset < len(content):
        (length,) = struct.unpack_from("<Q", content, offset)
        found.append((offset, length))
        offset += length + 16
    return found


def test_a_damaged_record_is_skipped(events):
    content = bytearray(events.read_bytes())
    offset, length = records(events)[10]
    content[offset + 12 + length // 2] ^= 0xFF
    events.write_bytes(content)
    log = read_events([events])
    assert log.n_damaged == 1
    assert sum(len(curve.step) for curve in log.curves.values()) == 39


def test_checksums_that_a_writer_left_out_are_not_missed(events):
    content = bytearray(events.read_bytes())
    for offset, length in records(events):
        content[offset + 8 : offset + 12] = b"\0\0\0\0"
        content[offset + 12 + length : offset + 16 + length] = b"\0\0\0\0"
    events.write_bytes(content)
    assert len(read_events([events]).curves["time/fps"].step) == 20


def test_what_follows_a_lost_length_is_left_out(events):
    content = bytearray(events.read_bytes())
    offset, _ = records(events)[10]
    content[offset : offset + 8] = b"\xff" * 8
    events.write_bytes(content)
    log = read_events([events])
    assert log.n_damaged == 1
    assert 0 < sum(len(curve.step) for curve in log.curves.values()) < 40


@pytest.mark.parametrize("content", [b"no events here, only words", b"\0" * 40, b"\xff" * 400])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(content)
    with pytest.raises(RunError, match="no TensorBoard record in"):
        read_events([path])


@pytest.mark.parametrize("name", ["ok.csv", "es.parquet", "empty.txt"])
def test_sound_files_that_are_no_log_are_not_called_damaged(tmp_path, name):
    path = tmp_path / name
    path.write_bytes({"ok.csv": b"time,close\n1,2\n", "es.parquet": b"PAR1" * 40}.get(name, b""))
    with pytest.raises(
        RunError, match=r"is no training log\. diagnose reads .* data check"
    ) as told:
        read_logs(path)
    assert "restore" not in str(told.value)


def test_a_resumed_run_hides_what_it_writes_again(tmp_path):
    first = write_events(tmp_path / "a", {"time/fps": np.arange(10.0)}, 1000)
    with SummaryWriter(str(tmp_path / "b"), purge_step=601) as writer:
        for step in (700, 800):
            writer.add_scalar("time/fps", -1.0, global_step=step)
    (second,) = (tmp_path / "b").iterdir()
    log = read_events([first, second])
    assert log.curves["time/fps"].step.tolist() == [100, 200, 300, 400, 500, 600, 700, 800]
    assert log.curves["time/fps"].value[-2:].tolist() == [-1.0, -1.0]
    assert log.n_restarts == 0


def test_two_runs_in_one_directory_are_noticed(tmp_path):
    paths = [write_events(tmp_path / name, RISING, 2000) for name in "ab"]
    assert read_events(paths).n_restarts == 1


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": 1, "float_val": [2.5]},
        {"dtype": 1, "tensor_content": struct.pack("<f", 2.5)},
        {"dtype": 2, "tensor_content": struct.pack("<d", 2.5)},
    ],
)
def test_scalars_stored_as_tensors_are_read(tmp_path, tensor):
    event = event_pb2.Event(step=7)
    value = event.summary.value.add(tag="train/loss")
    value.tensor.dtype = tensor.pop("dtype")
    for name, content in tensor.items():
        if name == "float_val":
            value.tensor.float_val.extend(content)
        else:
            value.tensor.tensor_content = content
    data = event.SerializeToString()
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(struct.pack("<Q", len(data)) + b"\0" * 4 + data + b"\0" * 4)
    assert read_events([path]).curves["train/loss"].value.tolist() == [2.5]


# --- evaluations.npz -----------------------------------------------------------------------------


def test_evaluations_are_read(tmp_path):
    path = tmp_path / "evaluations.npz"
    np.savez(
        path,
        timesteps=[100, 200],
        results=[[1.0, 3.0], [5.0, np.nan]],
        ep_lengths=[[10, 30], [50, np.nan]],
        successes=[[True, False], [True, False]],
    )
    first, second = read_sb3_evaluations(path)
    assert (first.step, first.mean_reward, first.mean_length, first.n_passed) == (100, 2, 20, 1)
    assert (second.rewards.tolist(), second.lengths.tolist(), second.n_passed) == ([5], [50], 1)


class Bomb:
    def __reduce__(self):
        return (Path("unpickled").touch, ())


GOOD = {
    "timesteps": np.array([1]),
    "results": np.array([[1.0, 2.0]]),
    "ep_lengths": np.array([[3, 4]]),
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"results": np.array([[Bomb(), 2.0]], dtype=object)}, "Object arrays"),
        ({"results": np.array([1.0])}, r"results \(1,\)"),
        ({"timesteps": np.array([[1]])}, r"timesteps has shape \(1, 1\)"),
        ({"ep_lengths": np.array([[3]])}, r"ep_lengths has shape \(1, 1\)"),
        ({"successes": np.array([1])}, r"successes has shape \(1,\)"),
        ({"results": np.array([["a", "b"]])}, "results holds <U1"),
        ({"results": np.array([[np.nan, np.inf]])}, "no episode with finite reward"),
        ({"ep_lengths": np.array([[np.nan, np.inf]])}, "no episode with finite reward"),
        ({"timesteps": np.array([-1])}, "negative"),
        ({"timesteps": np.array([np.nan])}, "negative or no number"),
        ({"results": np.zeros((0, 2)), "timesteps": np.zeros(0), "ep_lengths": np.zeros((0, 2))},
         "holds no evaluation"),
    ],
)  # fmt: skip
def test_hostile_arrays_are_refused(tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evaluations.npz"
    np.savez(path, **(GOOD | changes))
    with pytest.raises(RunError, match=words):
        read_sb3_evaluations(path)
    assert not Path("unpickled").exists()


def test_hostile_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evaluations.npz"
    for content in (b"", b"PK\x03\x04 nothing", pickle.dumps(Bomb())):
        path.write_bytes(content)
        with pytest.raises(RunError, match="cannot be read as evaluations"):
            read_sb3_evaluations(path)
    np.savez_compressed(path, **GOOD)
    content = bytearray(path.read_bytes())
    content[60:70] = b"x" * 10
    path.write_bytes(content)
    with pytest.raises(RunError, match="cannot be read as evaluations"):
        read_sb3_evaluations(path)
    np.savez(path, timesteps=[1])
    with pytest.raises(RunError, match="no array 'results', only 'timesteps'"):
        read_sb3_evaluations(path)
    assert not Path("unpickled").exists()


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "evaluations.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("timesteps.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(9):
            member.write(bytes(2**26))
    assert path.stat().st_size < 2**20
    with pytest.raises(RunError, match="unpacks to 603,979,776 bytes"):
        read_sb3_evaluations(path)


# --- trees ---------------------------------------------------------------------------------------


def test_a_tree_is_read_phase_by_phase(tmp_path):
    log = read_logs(write_old_system(tmp_path / "old"))
    assert [phase.name for phase in log.phases] == ["phase1", "phase2"]
    assert [len(phase.evaluations) for phase in log.phases] == [1, 2]
    assert all(len(phase.curves["time/fps"].step) == 40 for phase in log.phases)
    assert log.phases[1].file is not None
    assert log.phases[1].file.path == "logs/phase2/evaluations.npz"
    assert not log.phases[1].file.is_named_by_run
    assert not log.has_config


def test_either_kind_alone_is_enough(tmp_path):
    root = write_old_system(tmp_path / "old")
    for path in (root / "logs" / "phase2", root / "logs" / "phase2" / "evaluations.npz"):
        (phase,) = read_logs(path).phases
        assert (phase.name, len(phase.evaluations), phase.curves) == ("phase2", 2, {})
    folder = root / "tensorboard_logs" / "phase1" / "PPO_1"
    for path in (folder, next(folder.iterdir())):
        (phase,) = read_logs(path).phases
        assert len(phase.curves["time/fps"].step) == 40
        assert phase.evaluations == ()


def test_the_last_of_several_attempts_is_read(tmp_path):
    for number, level in ((1, 1.0), (2, 2.0), (10, 10.0)):
        write_events(tmp_path / "tb" / f"PPO_{number}", {"time/fps": np.full(5, level)}, 500)
    write_evaluations(tmp_path / "logs", [(500, 1.0, 9)])
    (phase,) = read_logs(tmp_path).phases
    assert phase.n_attempts == 3
    assert phase.level("time/fps") == 10.0
    assert len(phase.evaluations) == 1


def test_phases_are_in_their_natural_order(tmp_path):
    for name in ("phase10", "phase2", "phase1"):
        write_evaluations(tmp_path / "logs" / name, [(500, 1.0, 9)])
    assert [p.name for p in read_logs(tmp_path).phases] == ["phase1", "phase2", "phase10"]


@pytest.mark.parametrize("name", ["20260412-phase2", "2026-04-12", "PPO_3", "a1b2c3d"])
def test_a_path_that_names_the_run_is_seen(tmp_path, name):
    write_evaluations(tmp_path / "x" / "logs" / name, [(500, 1.0, 9)])
    (phase,) = read_logs(tmp_path / "x").phases
    assert phase.file is not None
    assert phase.file.is_named_by_run


def test_means_that_tensorboard_has_stand_in_for_a_missing_file(tmp_path):
    curves = {"eval/mean_reward": np.array([1.0, -2.0]), "eval/mean_ep_length": np.full(2, 70.0)}
    write_events(tmp_path, curves | RISING, 2000)
    (phase,) = read_logs(tmp_path).phases
    assert [e.step for e in phase.evaluations] == [1000, 2000]
    assert [e.mean_reward for e in phase.evaluations] == [1.0, -2.0]
    assert all(e.is_mean_only and e.mean_length == 70 for e in phase.evaluations)


def test_a_passline_run_is_read(run: Run):
    log = read_logs(run.path)
    assert (log.kind, log.status) == ("passline", "finished")
    assert [phase.name for phase in log.phases] == ["entry", "manage", "account"]
    assert [len(phase.evaluations) for phase in log.phases] == [3, 3, 3]
    account = log.phases[-1]
    assert len(account.curves["time/fps"].step) == 40
    detail = account.evaluations[-1].detail
    assert detail is not None
    assert sum(detail.done_reasons.values()) == len(account.evaluations[-1].rewards) == 96
    alone = read_logs(run.path / "evaluations.npz")
    assert [phase.name for phase in alone.phases] == ["entry", "manage", "account"]


def test_what_cannot_be_read_is_refused(tmp_path, run: Run):
    with pytest.raises(RunError, match="no such file"):
        read_logs(tmp_path / "nowhere")
    with pytest.raises(RunError, match="nothing to diagnose"):
        read_logs(tmp_path)
    with pytest.raises(RunError, match="Name one of them"):
        read_logs(run.path.parent)
