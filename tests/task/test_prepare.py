"""The constants of the environment: the large table stands once in memory."""

import jax
import numpy as np
import pytest

from passline.market.bars import Bars
from passline.rulebook.catalog import load_rulebook
from passline.task.features import ALIGNMENT, FEATURE_NAMES, blank_table, compute_features
from passline.task.prepare import Prepared, TaskConfig, prepare, to_device


@pytest.mark.parametrize("n_rows", [1, 2, 3, 1_000])
def test_blank_tables_are_aligned_zeros(n_rows: int) -> None:
    table = blank_table(n_rows)
    assert table.ctypes.data % ALIGNMENT == 0
    assert (table.shape, table.dtype) == ((n_rows, len(FEATURE_NAMES)), np.float32)
    assert table.flags.c_contiguous
    assert not table.any()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="another device has its own memory")
def test_the_table_moves_to_the_cpu_without_a_copy_and_is_sealed() -> None:
    table = blank_table(1_000)
    device = to_device(table)
    assert device.unsafe_buffer_pointer() == table.ctypes.data
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


def test_markets_stand_one_after_the_other(prepared: Prepared) -> None:
    """Each market's rows are those it has alone."""
    bars: Bars = prepared.bars[0]
    cut = (bars, bars.slice(1_000, len(bars)))
    joint = prepare(cut, load_rulebook("apex-intraday-50k"), TaskConfig())
    alone = [compute_features(b) for b in cut]
    table = np.concatenate([features.table for features in alone])
    atr = np.concatenate([features.atr_ticks for features in alone])
    assert np.asarray(joint.base.features).tobytes() == table.tobytes()
    assert np.asarray(joint.base.atr).tobytes() == atr.tobytes()
    assert joint.first_bar == (alone[0].n_warmup, len(bars) + alone[1].n_warmup)
