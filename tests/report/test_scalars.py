"""Scalars carry their step, survive a crash, and go on after a resume without doubled points."""

import contextlib
import json
import math
import resource
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from passline.errors import RunError
from passline.report.tensorboard import SCALARS_FILE, ScalarWriter, read_scalars


def events(folder):
    """All events of a folder, read by the records' own framing."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event()
            event.ParseFromString(data[12 : 12 + size])
            found.append(event)
            data = data[16 + size :]
    return found


def points(folder):
    """Every point that TensorBoard would draw, in order."""
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(folder / "tensorboard")
        for value in event.summary.value
    ]


def test_every_scalar_has_its_step_in_both_files(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write(2048, "entry", {"rollout/ep_rew_mean": -0.5, "time/fps": 1000})
        writer.write(4096, "manage", {"rollout/ep_rew_mean": 0.25, "train/approx_kl": math.nan})
    scalars = read_scalars(tmp_path / SCALARS_FILE)
    assert scalars.step.tolist() == [2048, 4096]
    assert scalars.phase.tolist() == ["entry", "manage"]
    assert scalars.values["rollout/ep_rew_mean"].tolist() == [-0.5, 0.25]
    assert math.isnan(scalars.values["time/fps"][1])
    assert math.isnan(scalars.values["train/approx_kl"][1])
    drawn = points(tmp_path)
    assert (2048, "rollout/ep_rew_mean", -0.5) in drawn
    assert (4096, "rollout/ep_rew_mean", 0.25) in drawn
    assert len(drawn) == 3  # no point for what is no number


def test_a_resumed_training_continues_the_same_curve(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        for step in (100, 200, 300):
            writer.write(step, "entry", {"a": step})
    with ScalarWriter(tmp_path, resume_step=200) as writer:
        with pytest.raises(RunError, match="step 150 follows 200"):
            writer.write(150, "entry", {"a": 0})
        writer.write(300, "entry", {"a": -300})
    scalars = read_scalars(tmp_path / SCALARS_FILE)
    assert scalars.step.tolist() == [100, 200, 300]
    assert scalars.values["a"].tolist() == [100, 200, -300]
    assert points(tmp_path) == [(100, "a", 100), (200, "a", 200), (300, "a", -300)]


def test_events_that_a_killed_process_never_wrote_come_back_from_the_lines(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write(100, "entry", {"a": 1, "b": math.inf})
        writer.write(200, "entry", {"a": 2})
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:40])
    with ScalarWriter(tmp_path, resume_step=200) as writer:
        writer.write(300, "entry", {"a": 3})
    assert points(tmp_path) == [(100, "a", 1), (200, "a", 2), (300, "a", 3)]
    times = [e.wall_time for e in events(tmp_path / "tensorboard") if e.step]
    assert times == sorted(times)
    first = json.loads((tmp_path / SCALARS_FILE).read_text().splitlines()[0])
    assert times[0] == pytest.approx(first["time"])


def write_many(writer):
    """A hundred updates of twenty scalars."""
    for step in range(100):
        writer.write(step, "entry", {f"scalar/{i}": float(i) for i in range(20)})


def test_a_full_disk_is_told_at_once_and_nothing_waits_for_it(tmp_path):
    """The kernel itself refuses: no file may grow beyond some bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = ScalarWriter(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        with pytest.raises(RunError, match=r"scalars.jsonl: could not be written: File too large"):
            write_many(writer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with contextlib.suppress(RunError):
        writer.close()
    kept = read_scalars(tmp_path / SCALARS_FILE).step
    with ScalarWriter(tmp_path, resume_step=int(kept[-1])) as writer:
        writer.write(200, "entry", {"scalar/0": 1.0})
    assert read_scalars(tmp_path / SCALARS_FILE).step.tolist() == [*kept.tolist(), 200]


def test_a_new_training_never_writes_over_an_old_one(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write(1, "entry", {"a": 1})
    with pytest.raises(RunError, match="has scalars already"):
        ScalarWriter(tmp_path)
    with ScalarWriter(tmp_path, resume_step=0):
        pass
    assert read_scalars(tmp_path / SCALARS_FILE).step.tolist() == []


def test_a_line_cut_off_by_a_crash_is_left_out_and_a_damaged_one_is_told(tmp_path):
    with ScalarWriter(tmp_path) as writer:
        writer.write(1, "entry", {"a": 1})
    file = tmp_path / SCALARS_FILE
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"step": 2, "phase": "en')
    assert read_scalars(file).step.tolist() == [1]
    with ScalarWriter(tmp_path, resume_step=1) as writer:
        writer.write(2, "entry", {"a": 2})
    assert read_scalars(file).step.tolist() == [1, 2]
    file.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(RunError, match="line 1 is not a record of scalars"):
        read_scalars(file)
    assert read_scalars(tmp_path / "none").values == {}
