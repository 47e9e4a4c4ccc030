import jax
import jax.numpy as jnp
import numpy as np
import pytest

from passline.sim.draws import threefry_2x32, uniforms

# kat_vectors of Random123 1.14.0 (D. E. Shaw Research), threefry2x32 with 20 rounds:
# counter, key, result.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_the_generator_meets_its_authors_vectors(counter, key, result) -> None:
    words = [jnp.uint32(word) for word in (*key, *counter)]
    assert tuple(int(word) for word in threefry_2x32(*words)) == result


def test_draws_repeat_with_key_and_place_and_differ_without() -> None:
    key = jax.random.key(7)
    one = np.asarray(uniforms(key, (3, 40), at=5))
    np.testing.assert_array_equal(one, jax.jit(lambda k, a: uniforms(k, (3, 40), at=a))(key, 5))
    for other in (uniforms(key, (3, 40), at=6), uniforms(jax.random.key(8), (3, 40), at=5)):
        assert not np.isin(one, np.asarray(other)).any()


def test_draws_are_uniform_and_places_are_independent() -> None:
    """Each bound is about five standard errors wide."""
    key, n = jax.random.key(3), 200_000
    rows = np.stack([np.asarray(uniforms(key, (n,), at=a)) for a in (0, 1)])
    assert rows.min() >= 0.0
    assert rows.max() < 1.0
    counts = np.histogram(rows, bins=64, range=(0, 1))[0]
    expected = rows.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)
    for pair in (rows, (rows[0][:-1], rows[0][1:])):
        assert abs(np.corrcoef(*pair)[0, 1]) < 5 / np.sqrt(n)
