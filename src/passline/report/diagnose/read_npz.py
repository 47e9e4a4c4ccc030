"""Reads the `evaluations.npz` of stable-baselines3's EvalCallback, whatever a stranger put in it.

Arrays: `timesteps` [E], `results` [E, n], `ep_lengths` [E, n], and `successes` [E, n] where the
environment told of any. Pickled content is refused unopened.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.errors import RunError
from passline.report.diagnose.logs import Evaluation

__all__ = ["read_sb3_evaluations"]

MAX_BYTES = 2**29
"""Unpacked size that is believed of a file of evaluations: half a gibibyte."""


def read_sb3_evaluations(path: Path) -> tuple[Evaluation, ...]:
    """Reads all evaluations in the order of the file; NaN at the end of a row is padding.

    Raises:
        RunError: the file is missing, damaged, oversized, or not of this form.
    """
    arrays = _load(path, ("timesteps", "results", "ep_lengths"), ("successes",))
    steps, rewards, lengths = arrays["timesteps"], arrays["results"], arrays["ep_lengths"]
    if steps.ndim != 1 or rewards.ndim != 2 or rewards.shape[:1] != steps.shape:
        raise _refused(
            path,
            f"timesteps has shape {steps.shape} and results {rewards.shape}; [E] and [E, n] are "
            "needed",
        )
    successes = arrays.get("successes")
    for name, array in (("ep_lengths", lengths), ("successes", successes)):
        if array is not None and array.shape != rewards.shape:
            raise _refused(path, f"{name} has shape {array.shape}; results has {rewards.shape}")
    if not np.isfinite(steps).all() or (steps < 0).any():
        raise _refused(path, "timesteps holds a negative or no number")
    found = []
    for index, step in enumerate(steps):
        rows = np.isfinite(rewards[index]) & np.isfinite(lengths[index])
        if not rows.any():
            raise _refused(
                path,
                f"step {int(step):,} has no episode with finite reward and length",
            )
        passed = None if successes is None else int(np.nansum(successes[index][rows]))
        found.append(
            Evaluation(
                step=int(step),
                rewards=rewards[index][rows],
                lengths=lengths[index][rows],
                n_passed=passed,
            )
        )
    if not found:
        raise _refused(path, "it holds no evaluation")
    return tuple(found)


def _load(
    path: Path, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise _refused(path, f"it unpacks to {size:,} bytes; {MAX_BYTES:,} are allowed")
        with np.load(path, allow_pickle=False) as stored:
            missing = [name for name in needed if name not in stored]
            if missing:
                raise _refused(path, f"it has no array {missing[0]!r}, only {_few(stored.files)}")
            names = [*needed, *(name for name in optional if name in stored)]
            return {name: _floats(path, name, stored[name]) for name in names}
    except (
        OSError,
        ValueError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _refused(path, str(error) or type(error).__name__) from error


def _floats(path: Path, name: str, array: Any) -> NDArray[np.float64]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise _refused(path, f"{name} holds {getattr(array, 'dtype', 'bytes')}, not numbers")
    return array.astype(np.float64)


def _few(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) or "none"


def _refused(path: Path, problem: str) -> RunError:
    return RunError(
        f"{path}: cannot be read as evaluations ({problem}). stable-baselines3 stores timesteps "
        "[E], results [E, n] and ep_lengths [E, n]; restore the file from a copy."
    )
