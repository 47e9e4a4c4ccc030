"""The kernel's networks against the same in XLA and in NumPy."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.learn import kernel, mlp, network
from passline.learn.kernel import library

needs_kernel = pytest.mark.skipif(
    not kernel.is_ready(), reason="the processor has no products of bfloat16, or no compiler"
)

SHAPES = [
    # rows, features, outputs, hidden
    (8192, 68, 11, (128, 128)),
    (1, 1, 1, (32,)),
    (77, 40, 2, (32, 64, 160)),
    (257, 33, 17, (128,)),
    (1000, 45, 33, (64, 96)),
    (512, 96, 12, (128, 128)),
]


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Lets compiled programs be kept in another folder."""
    before = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    jax.config.update("jax_compilation_cache_dir", str(folder))
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def drawn(rows: int, features: int, outputs: int, hidden: tuple[int, ...]) -> network.Params:
    params = network.init_params(jax.random.key(rows), features, outputs, hidden)
    key = jax.random.key(features)
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(key, x.shape), params)


def observations(rows: int, features: int) -> jax.Array:
    return mlp.packed(1.5 * jax.random.normal(jax.random.key(7), (rows, features)), "bfloat16")


def with_gradient(net: mlp.Net, obs: jax.Array, grad: jax.Array) -> tuple[jax.Array, mlp.Net]:
    outputs, back = jax.vjp(lambda n: mlp.outputs_t(n, obs, "bfloat16"), net)
    return outputs, back(grad)[0]


def by_numpy(
    net: mlp.Net, obs: jax.Array, grad: jax.Array
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Outputs and gradients in float64."""
    layers = {name: np.asarray(x, np.float64) for name, x in net.items()}
    last = len(layers) // 2 - 1
    weights = [np.atleast_2d(layers[f"w{i}"]) for i in range(last + 1)]
    wide = mlp.widen(jax.lax.bitcast_convert_type(obs, jnp.bfloat16))
    inputs = [np.asarray(wide, np.float64).T]
    for i in range(last):
        inputs.append(np.tanh(weights[i] @ inputs[i] + layers[f"b{i}"][:, None]))
    outputs = weights[last] @ inputs[last] + np.atleast_1d(layers[f"b{last}"])[:, None]
    back, grads = np.atleast_2d(np.asarray(grad, np.float64)), {}
    for i in range(last, -1, -1):
        grads[f"w{i}"] = (back @ inputs[i].T).reshape(layers[f"w{i}"].shape)
        grads[f"b{i}"] = back.sum(axis=1).reshape(layers[f"b{i}"].shape)
        back = weights[i].T @ back * (1.0 - inputs[i] ** 2)
    return outputs.reshape(np.asarray(grad).shape), grads


def stray(found: jax.Array, exact: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(found) - exact) / np.linalg.norm(exact))


@needs_kernel
@pytest.mark.parametrize("name", ["actor", "critic"])
@pytest.mark.parametrize(("rows", "features", "outputs", "hidden"), SHAPES)
def test_outputs_and_gradients_are_those_of_the_network(
    rows: int, features: int, outputs: int, hidden: tuple[int, ...], name: str
) -> None:
    net, obs = drawn(rows, features, outputs, hidden)[name], observations(rows, features)
    assert kernel.fits(net, obs)
    shape = (rows,) if name == "critic" else (outputs, rows)
    grad = jax.random.normal(jax.random.key(3), shape)
    found, grads = jax.jit(with_gradient)(net, obs, grad)
    exact, exact_grads = by_numpy(net, obs, grad)
    assert found.shape == shape
    assert stray(found, exact) < 0.01
    for key, expected in exact_grads.items():
        assert grads[key].shape == expected.shape
        assert grads[key].dtype == jnp.float32
        assert stray(grads[key], expected) < 0.02, key
    alone = jax.jit(mlp.outputs_t, static_argnums=2)(net, obs, "bfloat16")
    np.testing.assert_array_equal(alone, found)


@needs_kernel
@pytest.mark.parametrize("name", ["actor", "critic"])
def test_it_strays_no_further_than_xla_in_the_same_precision(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, obs = drawn(2000, 68, 11, (128, 128))[name], observations(2000, 68)
    shape = (2000,) if name == "critic" else (11, 2000)
    grad = jax.random.normal(jax.random.key(3), shape)
    ours = with_gradient(net, obs, grad)
    monkeypatch.setattr(kernel, "fits", lambda net, obs: False)
    theirs = with_gradient(net, obs, grad)
    exact = by_numpy(net, obs, grad)
    assert stray(ours[0], exact[0]) < 1.1 * stray(theirs[0], exact[0])
    for key, expected in exact[1].items():
        assert stray(ours[1][key], expected) < 2.0 * stray(theirs[1][key], expected) + 1e-6, key


@needs_kernel
def test_saturated_units_are_one_and_have_no_gradient() -> None:
    net = {
        "w0": jnp.full((32, 1), 100.0),
        "b0": jnp.zeros(32),
        "w1": jnp.ones((1, 32)),
        "b1": jnp.zeros(1),
    }
    obs = mlp.packed(jnp.array([[1.0], [-1.0], [1e30], [-jnp.inf]]), "bfloat16")
    found, grads = with_gradient(net, obs, jnp.ones((1, 4)))
    np.testing.assert_array_equal(found, [[32.0, -32.0, 32.0, -32.0]])
    np.testing.assert_array_equal(grads["w1"], jnp.zeros((1, 32)))
    np.testing.assert_array_equal(grads["b0"], jnp.zeros(32))


@needs_kernel
@pytest.mark.parametrize("where", ["obs", "w0", "b0", "w1", "b1", "w2", "b2"])
def test_what_is_no_number_stays_visible(where: str) -> None:
    net, obs = drawn(300, 8, 3, (32, 32))["actor"], jnp.ones((300, 8))
    if where == "obs":
        obs = obs.at[5, 5].set(jnp.nan)
    else:
        net = net | {where: net[where].at[0].set(jnp.nan)}
    found, grads = with_gradient(net, mlp.packed(obs, "bfloat16"), jnp.ones((3, 300)))
    assert jnp.isnan(found).any()
    if where not in ("w2", "b2"):
        assert jnp.isnan(grads["w0"]).any()


@needs_kernel
def test_rows_do_not_depend_on_their_neighbors() -> None:
    net, obs = drawn(600, 20, 11, (128, 128))["actor"], observations(600, 20)
    whole = mlp.outputs_t(net, obs, "bfloat16")
    for rows in (slice(0, 1), slice(31, 64), slice(255, 258), slice(300, 600)):
        np.testing.assert_array_equal(mlp.outputs_t(net, obs[rows], "bfloat16"), whole[:, rows])


ALONE = """
import os, sys
os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: int(sys.argv[1])]))
import hashlib, jax
import test_kernel as t
import test_kernel_gradient as g
net, obs = t.drawn(9000, 68, 11, (128, 128))["actor"], t.observations(9000, 68)
found = t.with_gradient(net, obs, jax.random.normal(jax.random.key(3), (11, 9000)))
cfg = g.config(hidden=(128, 128), minibatch_size=1920)
whole = g.in_one_pass(cfg, g.drawn(cfg), g.played(cfg))
leaves = jax.tree.leaves(jax.device_get((found, whole)))
print(hashlib.sha256(b"".join(x.tobytes() for x in leaves)).hexdigest())
"""


@needs_kernel
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_one_thread_and_two_give_the_same_bits() -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-c", ALONE, str(n)],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in (1, 2)
    ]
    assert digests[0] == digests[1] != ""


@needs_kernel
def test_calls_from_many_threads_at_once_end_and_agree() -> None:
    net, obs = drawn(4096, 68, 11, (128, 128))["actor"], observations(4096, 68)
    grad = jnp.ones((11, 4096))
    compute = jax.jit(with_gradient)
    alone = jax.device_get(compute(net, obs, grad))
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda _: jax.device_get(compute(net, obs, grad)), range(64)))
    for found in together:
        jax.tree.map(np.testing.assert_array_equal, found, alone)


def test_only_packed_observations_and_widths_in_thirty_twos_fit() -> None:
    obs = observations(4, 8)
    fitting = drawn(4, 8, 3, (32, 64))["actor"]
    assert kernel.fits(fitting, obs) is kernel.is_ready()
    assert not kernel.fits(fitting, jnp.ones((4, 8)))
    assert not kernel.fits(drawn(4, 8, 3, (32, 48))["actor"], obs)
    assert not kernel.fits({"w0": jnp.ones((3, 8)), "b0": jnp.ones(3)}, obs)
    assert not kernel.fits(jax.tree.map(lambda x: x.astype(jnp.bfloat16), fitting), obs)


def test_layers_that_do_not_belong_together_are_refused_by_their_shapes() -> None:
    net = drawn(4, 8, 3, (32, 64))["actor"]
    for name, shape in {"w0": (32, 9), "w1": (64, 96), "w2": (3, 96), "b1": (96,)}.items():
        odd = net | {name: jnp.ones(shape)}
        assert not kernel.fits(odd, observations(4, 8))
        with pytest.raises((TypeError, ValueError), match="shape"):
            mlp.outputs_t(odd, observations(4, 8), "bfloat16")


def test_a_processor_has_what_it_says(tmp_path: Path) -> None:
    flags = tmp_path / "cpuinfo"
    assert library._known(flags) == []
    shared, tiles = "avx512f avx512dq avx512bw avx512vl avx512_bf16", "amx_bf16 amx_tile"
    flags.write_text(f"flags : {shared} {tiles} amx_int8")
    assert library._known(flags) == ["amx", "avx512"]
    for word in tiles.split():
        flags.write_text("flags : " + f"{shared} {tiles}".replace(word, ""))
        assert library._known(flags) == ["avx512"], word
    for word in shared.split():
        flags.write_text("flags : " + f"{shared} {tiles} ".replace(word + " ", ""))
        assert library._known(flags) == [], word


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", sys.executable])
def test_without_a_compiler_xla_multiplies_and_a_warning_says_so(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_loaded", [])
    monkeypatch.setattr(library, "_known", lambda: ["amx", "avx512"])
    monkeypatch.setenv("CXX", compiler)
    with kept_in(tmp_path), pytest.warns(RuntimeWarning, match=r"g\+\+ from 12 on"):
        assert not kernel.is_ready()
    assert not list(tmp_path.iterdir())
    obs = observations(4, 8)
    net = drawn(4, 8, 3, (32,))["actor"]
    assert mlp.outputs_t(net, obs, "bfloat16").shape == (3, 4)


WITHOUT_TILES = """
import sys, warnings
from passline.learn.kernel import library
warnings.simplefilter("error")
print(library._load(["amx", "avx512"]).by)
"""


@needs_kernel
def test_a_compiler_that_knows_no_tiles_still_makes_a_kernel(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *amx*) exit 1;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TILES],
        env=os.environ | {"CXX": str(compiler), "JAX_COMPILATION_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "avx512", run.stderr


@needs_kernel
@pytest.mark.skipif(kernel.instructions() == "amx", reason="the system lets tiles be used")
def test_a_system_that_refuses_tiles_still_gets_a_kernel(tmp_path: Path) -> None:
    """The file for AMX compiles anywhere; it is told at its first call that there is none."""
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TILES],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "avx512", run.stderr
    assert {path.name.split("-")[1] for path in tmp_path.glob("*.so")} == {"amx", "avx512"}


OTHERWISE = """
import sys
import pytest
from passline.learn.kernel import library
if sys.argv[1] == "amx":
    library._OPTIONS += ("-include", "emulated_tiles.h", "-D__AMX_BF16__")
    library._NEEDED["amx"] = library._SHARED
library._known = lambda: [sys.argv[1]]
assert library.instructions() == sys.argv[1]
files = ["test_kernel.py", "test_kernel_gradient.py"]
chosen = ["gradient", "number", "neighbors", "threads_at", "strays"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", " or ".join(chosen), *files]))
"""


@needs_kernel
def test_all_of_it_holds_by_the_other_instructions_too() -> None:
    """Without tiles where there are some, and by tiles in software where there are none."""
    other = "avx512" if kernel.instructions() == "amx" else "amx"
    run = subprocess.run(
        [sys.executable, "-c", OTHERWISE, other],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@needs_kernel
def test_a_folder_that_cannot_be_written_does_not_stop_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    by = kernel.instructions()
    assert by is not None
    with kept_in(tmp_path / "file" / "folder"):
        assert library._library(by).passline_forward


@needs_kernel
def test_a_file_cut_off_is_made_anew(tmp_path: Path) -> None:
    by = kernel.instructions()
    assert by is not None
    with kept_in(tmp_path):
        library._library(by)
        (kept,) = tmp_path.iterdir()
        kept.unlink()
        kept.write_bytes(b"\x7fELF")
        assert library._library(by).passline_backward
    assert ctypes.CDLL(str(kept)).passline_gradient


@needs_kernel
def test_what_a_killed_compilation_left_behind_is_deleted_and_another_one_spared(
    tmp_path: Path,
) -> None:
    by = kernel.instructions()
    assert by is not None
    old, new = tmp_path / "passline-unfinished-old", tmp_path / "passline-unfinished-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "part.so").write_bytes(b"")
    os.utime(old, (0, 0))
    with kept_in(tmp_path):
        library._library(by)
    assert not old.exists()
    assert new.exists()


AHEAD = """
import time
from threading import Thread
from passline.learn import kernel
Thread(target=kernel.compile_ahead, daemon=True).start()
time.sleep(float(__import__("sys").argv[1]))
raise SystemExit(2)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.3])
def test_a_program_may_end_while_the_kernel_compiles(after_s: float, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", AHEAD, str(after_s)],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (2, "")


@needs_kernel
def test_what_was_compiled_ahead_is_what_is_loaded(tmp_path: Path) -> None:
    by = kernel.instructions()
    assert by is not None
    with kept_in(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "_loaded", [])
        kernel.compile_ahead()
        (made,) = tmp_path.iterdir()
        when = made.stat().st_mtime_ns
        assert library._library(by).passline_forward
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [when]
