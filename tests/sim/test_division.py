from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from passline.sim.division import floor_divide
from passline.sim.jit import sim_jit
from proving import examples

LEAST, MOST = -(2**31), 2**31 - 1
divide = sim_jit(floor_divide, is_fused=True)


def check(numbers: Iterable[int], divisors: Iterable[int]) -> None:
    a, b = np.broadcast_arrays(*(np.asarray(list(x), np.int64) for x in (numbers, divisors)))
    is_kept = (a >= LEAST) & (a <= MOST) & (b >= 1) & (b <= MOST)
    a, b = a[is_kept], b[is_kept]
    for compiled in (divide, jax.jit(floor_divide)):
        found = np.asarray(compiled(jnp.asarray(a, jnp.int32), jnp.asarray(b, jnp.int32)))
        np.testing.assert_array_equal(found, a // b)


def test_quotients_beside_whole_ones_are_exact() -> None:
    """Where rounding would show: one below, at and above every kind of multiple."""
    rng = np.random.default_rng(0)
    divisors = np.unique(
        np.r_[1:40, 2 ** np.arange(31), 2 ** np.arange(1, 31) - 1, 2 ** np.arange(30) + 1, MOST,
              rng.integers(1, MOST, 2_000), (2.0 ** rng.uniform(0, 31, 4_000)).astype(np.int64)]
    )  # fmt: skip
    for _ in range(20):
        whole = np.round(rng.uniform(LEAST, MOST, len(divisors)) / divisors) * divisors
        for off in (-1, 0, 1):
            check(whole.astype(np.int64) + off, divisors)


def test_the_ends_of_the_range_are_divided_exactly() -> None:
    ends = np.r_[LEAST : LEAST + 600, -600:600, MOST - 600 : MOST + 1]
    for divisor in (1, 2, 3, 7, 10, 1_000, 65_535, 2**24 + 1, 2**30, 2**30 + 1, MOST - 1, MOST):
        check(ends, [divisor])


@settings(max_examples=examples(300), deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(LEAST, MOST), st.integers(1, MOST)), min_size=8, max_size=8))
def test_any_division_is_exact(pairs: list[tuple[int, int]]) -> None:
    check(*zip(*pairs, strict=True))
