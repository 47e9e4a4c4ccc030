import os
import stat
from pathlib import Path
from typing import Any

import cue_env as toy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from killing import obeying_permissions
from passline.errors import CheckpointError
from passline.learn import checkpoint, ppo


def tree(scale: float = 1.0) -> dict[str, Any]:
    odd = np.array([np.nan, -0.0, np.inf, 1e-45, scale], np.float32)
    return {
        "floats": jnp.asarray(odd),
        "nested": (jnp.int32(-7), [jnp.arange(6, dtype=jnp.uint32).reshape(2, 3).T]),
        "flags": jnp.array([True, False]),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4), (2, 3)),
    }


def raw(leaf: Any) -> bytes:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def assert_equal_bits(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert raw(x) == raw(y)


def test_round_trip_is_exact_to_the_bit(tmp_path: Path) -> None:
    saved = tree()
    path = checkpoint.save_checkpoint(tmp_path, "last", saved, {"phase": "entry", "n": 3})
    loaded = checkpoint.load_checkpoint(path, jax.tree.map(jnp.zeros_like, saved))
    assert_equal_bits(saved, loaded)
    assert checkpoint.read_checkpoint_info(path).meta == {"phase": "entry", "n": 3}


def test_shapes_alone_are_enough_to_load(tmp_path: Path) -> None:
    path = checkpoint.save_checkpoint(tmp_path, "last", tree())
    assert_equal_bits(checkpoint.load_checkpoint(path, jax.eval_shape(tree)), tree())


def test_training_through_a_file_equals_training_straight_on(tmp_path: Path) -> None:
    config = toy.small_config()
    hyper = ppo.make_hyper(config, 0, 6)

    def go_on(state: ppo.TrainState, n: int) -> ppo.TrainState:
        for _ in range(n):
            state, _ = toy.UPDATE(toy.env_params(), state, hyper)
        return state

    straight = go_on(toy.fresh(config), 6)
    path = checkpoint.save_checkpoint(tmp_path, "half", go_on(toy.fresh(config), 3))
    resumed = go_on(checkpoint.load_checkpoint(path, toy.fresh(config, seed=99)), 3)
    assert_equal_bits(straight, resumed)


def test_replacing_keeps_one_pair_of_files(tmp_path: Path) -> None:
    checkpoint.save_checkpoint(tmp_path, "last", tree(1.0))
    path = checkpoint.save_checkpoint(tmp_path, "last", tree(2.0))
    assert_equal_bits(checkpoint.load_checkpoint(path, tree()), tree(2.0))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("n_files_written", [0, 1])
def test_a_kill_while_replacing_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_files_written: int
) -> None:
    path = checkpoint.save_checkpoint(tmp_path, "last", tree(1.0))
    replace, done = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        if len(done) == n_files_written:
            raise KeyboardInterrupt
        done.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_checkpoint(tmp_path, "last", tree(2.0))
    monkeypatch.undo()
    assert_equal_bits(checkpoint.load_checkpoint(path, tree()), tree(1.0))
    (tmp_path / ".last.toml.123.tmp").write_text("left by a killed process")
    checkpoint.save_checkpoint(tmp_path, "last", tree(3.0))
    assert_equal_bits(checkpoint.load_checkpoint(path, tree()), tree(3.0))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_named_and_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint.save_checkpoint(tmp_path, "last", tree(1.0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        checkpoint.save_checkpoint(tmp_path, "last", tree(2.0))
    monkeypatch.undo()
    assert_equal_bits(checkpoint.load_checkpoint(path, tree()), tree(1.0))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        checkpoint.save_checkpoint(tmp_path / "nowhere", "last", tree())


def test_a_read_only_directory_is_named_and_costs_no_checkpoint(tmp_path: Path) -> None:
    path = checkpoint.save_checkpoint(tmp_path, "last", tree(1.0))
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with obeying_permissions():
        with pytest.raises(CheckpointError, match="Permission denied"):
            checkpoint.save_checkpoint(tmp_path, "last", tree(2.0))
        with pytest.raises(CheckpointError, match="could not be deleted: Permission denied"):
            checkpoint.prune_checkpoints(tmp_path, ["last", "other"], ())
    tmp_path.chmod(stat.S_IRWXU)
    assert_equal_bits(checkpoint.load_checkpoint(path, tree()), tree(1.0))


def test_what_a_killed_process_left_is_swept_and_no_checkpoint_touched(tmp_path: Path) -> None:
    """Killed while it wrote tensors, after them, and between the two deletions of a pruning."""
    path = checkpoint.save_checkpoint(tmp_path, "last", tree(1.0))
    gone = checkpoint.save_checkpoint(tmp_path, "gone", tree(2.0))
    gone.unlink()
    (tmp_path / ".next.0123456789ab.safetensors.123.tmp").write_bytes(b"half")
    (tmp_path / "next.0123456789ab.safetensors").write_bytes(b"whole, and nothing vouches for it")
    checkpoint.sweep_checkpoints(tmp_path)
    assert_equal_bits(checkpoint.load_checkpoint(path, tree()), tree(1.0))
    assert {file.name.split(".")[0] for file in tmp_path.iterdir()} == {"last"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("n_bytes", [0, 5, 100, -1])
def test_truncated_tensors_are_refused(tmp_path: Path, n_bytes: int) -> None:
    path = checkpoint.save_checkpoint(tmp_path, "last", tree())
    tensors = checkpoint.read_checkpoint_info(path).tensors
    tensors.write_bytes(tensors.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match="truncated or altered"):
        checkpoint.load_checkpoint(path, tree())


def test_one_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save_checkpoint(tmp_path, "last", tree())
    tensors = checkpoint.read_checkpoint_info(path).tensors
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.load_checkpoint(path, tree())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "format was None"),
        ("format = 9", "format was 9"),
        ("form", "not readable as TOML"),
        ("format = 1", "allowed: tensors"),
        ('format = 1\ntensors = "../x"\nsha256 = ""\n[meta]', "in the same directory"),
        ('format = 1\ntensors = "gone.safetensors"\nsha256 = ""\n[meta]', "could not be read"),
    ],
)
def test_a_bad_toml_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "last.toml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load_checkpoint(path, tree())


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.toml: could not be read"):
        checkpoint.load_checkpoint(tmp_path / "absent.toml", tree())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"floats": jnp.zeros(6)}, r"floats was float32\[5\]; this program's is float32\[6\]"),
        ({"flags": jnp.zeros(2)}, r"flags was bool\[2\]; this program's is float32\[2\]"),
        ({"more": jnp.zeros(2)}, r"1 arrays \(more\) missing, 0 arrays unknown"),
        ({"keys": jax.random.split(jax.random.key(0), 5)}, "keys#prng_key was"),
        ({"key": jnp.zeros(2)}, r"\(key\) missing, 1 arrays \(key#prng_key\) unknown"),
    ],
)
def test_another_program_s_checkpoint_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = checkpoint.save_checkpoint(tmp_path, "last", tree())
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load_checkpoint(path, tree() | change)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_names_that_leave_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="plain file name"):
        checkpoint.save_checkpoint(tmp_path, name, tree())


def test_pruning_keeps_the_last_and_what_it_is_told_to(tmp_path: Path) -> None:
    names = [f"u{i:03d}" for i in range(8)]
    for name in [*names, "other"]:
        checkpoint.save_checkpoint(tmp_path, name, {"x": jnp.zeros(2)})
    gone = checkpoint.prune_checkpoints(tmp_path, names, {"u000", "u003", "u004", "u006"})
    assert gone == ["u001", "u002", "u005"]
    left = [info.path.stem for info in checkpoint.list_checkpoints(tmp_path)]
    assert left == ["other", "u000", "u003", "u004", "u006", "u007"]
    assert len(list(tmp_path.iterdir())) == 2 * len(left)
