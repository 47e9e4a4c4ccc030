"""Is a result beyond luck? Its place among results on markets in which nothing can be found.

Statistics and the file that keeps them. Who makes the null markets and trains on them stands above
this room. docs/nulltest.md gives the reasons for each formula.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from passline.errors import ConfigError, RunError
from passline.runs import replace_file

__all__ = [
    "ALPHA",
    "NULL_TEST_FILE",
    "WORDS",
    "NullTest",
    "NullTestOfKind",
    "draws_needed",
    "holm",
    "judge_nulls",
    "load_null_test",
    "p_value",
    "reality_check",
    "sidak",
    "smallest_p",
    "write_null_test",
]

NULL_TEST_FILE = "nulltest.json"
ALPHA = 0.05
"""An edge is claimed where the corrected p-value is at most this."""
N_DRAWS = 2_000

_FORMAT = 1
_TOLERANCE = 1e-9
"""Results this near are one result: a mean's last bits depend on the order of its sum."""
_LEAST_ERROR = 1e-7
"""Of a try's largest result: an error below this is one of rounding."""


@dataclass(frozen=True, kw_only=True)
class NullTestOfKind:
    """One kind of null market.

    Attributes:
        kind: such as "rotate".
        nulls: the statistic on each null market.
        null_pass_rates: pass rate on each.
        p: share of all markets, the actual one among them, whose statistic is at least the actual.
        p_of_kinds: p corrected for the number of kinds (Holm).
        p_corrected: that corrected for the configurations tried, too.
    """

    kind: str
    nulls: tuple[float, ...]
    null_pass_rates: tuple[float, ...]
    p: float
    p_of_kinds: float
    p_corrected: float


@dataclass(frozen=True, kw_only=True)
class NullTest:
    """A null test as it is stored and shown.

    Attributes:
        statistic: its name.
        unit: of the statistic.
        actual: the statistic on the market as it is.
        actual_pass_rate: pass rate on the market as it is.
        kinds: one entry a kind of null, in the order asked for.
        n_configurations: configurations that were tried on these data.
        correction: "none", "reality check" or "sidak": how they entered.
        p_reality_check: the run's own in the reality check of all tried runs; None if not computed.
        p_corrected: the smallest of the kinds' corrected p-values.
        p_smallest: what it would be had no null market reached the actual result.
        is_edge: whether an edge is claimed.
        sentence: the verdict.
        settings: what it was computed with: seeds, steps, whether gates could stop a training.
    """

    statistic: str
    unit: str
    actual: float
    actual_pass_rate: float
    kinds: tuple[NullTestOfKind, ...]
    n_configurations: int
    correction: str
    p_reality_check: float | None
    p_corrected: float
    p_smallest: float
    is_edge: bool
    sentence: str
    settings: Mapping[str, Any]


def p_value(actual: float, nulls: ArrayLike) -> float:
    """Returns (1 + number of nulls at least as high as the actual) / (1 + number of nulls).

    The actual market counts as one of those that luck could have given, so the value is never 0,
    and if it is exchangeable with the nulls, P(p <= a) <= a for every a. Equal results count
    against the claim: an agent that stays flat on all markets has p = 1.

    Raises:
        ConfigError: there are no nulls, or a value is not finite.
    """
    values = np.asarray(nulls, np.float64)
    if values.ndim != 1 or not len(values):
        raise ConfigError(f"p_value: nulls of shape {values.shape}; at least one is needed.")
    if not (np.isfinite(values).all() and np.isfinite(actual)):
        raise ConfigError(f"p_value: the actual result was {actual}; all results must be finite.")
    return float(1 + np.sum(values >= actual - _TOLERANCE)) / (1 + len(values))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values of several tests corrected so that any false one among them is rare.

    Holm (1979): the i-th smallest of m is multiplied by m - i + 1, and none lies below the one
    before it. No assumption on how the tests hang together.
    """
    order = np.argsort(p_values, kind="stable")
    m = len(order)
    out = np.empty(m)
    raised = (m - np.arange(m)) * np.asarray(p_values, np.float64)[order]
    out[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(p) for p in out]


def sidak(p: float, n: int) -> float:
    """Returns the chance that the best of n independent tries reaches p: 1 - (1 - p)^n."""
    if n < 1:
        raise ConfigError(f"sidak: the number of tries was {n}; it must be at least 1.")
    return float(-np.expm1(n * np.log1p(-p))) if p < 1 else 1.0


def reality_check(results: ArrayLike, clusters: ArrayLike, *, tested: int, seed: int) -> float:
    """Returns a p-value of one of several tries: could luck make any of them look as good?

    White's (2000) reality check, studentized and asked of the tested try (Romano and Wolf 2005).
    With d_k the mean result of try k and se_k its error, blocks of dates are drawn anew, the same
    for all tries, and the p-value is the share of draws, the actual one among them, in which
    max_k (d*_k - d_k) / se*_k >= d / se of the tested try. Whatever the others truly earn, a try
    that earns nothing seldom has a small one. Tries that made the same trades count as one.

    Args:
        results: net result of each try's agent on the same episodes [K, n].
        clusters: block of dates of each episode [n]; block g and g + 1 may share luck.
        tested: row of the try that is judged.
        seed: of the draws.

    Raises:
        ConfigError: the shapes do not fit, there is no such row, or there is one block only.
    """
    values, ids = np.asarray(results, np.float64), np.asarray(clusters)
    if values.ndim != 2 or values.shape[1:] != ids.shape or not values.size:
        raise ConfigError(
            f"reality_check: {values.shape} results and {ids.shape} clusters; they must be [K, n] "
            "and [n]."
        )
    if not 0 <= tested < len(values):
        raise ConfigError(
            f"reality_check: the tested row was {tested}; it lies in 0..{len(values) - 1}."
        )
    unique, codes = np.unique(ids, return_inverse=True)
    n_clusters = len(unique)
    if n_clusters < 2:
        raise ConfigError("reality_check: 1 block of dates; at least 2 are needed.")
    # In units of each try's largest result, so that one tolerance tells a spread from none.
    values = values / np.maximum(np.abs(values).max(axis=1, keepdims=True), _TOLERANCE)
    means = values.mean(axis=1)
    residuals = values - means[:, None]
    sums = np.array([np.bincount(codes, row, n_clusters) for row in residuals], np.float64)
    sizes = np.bincount(codes, minlength=n_clusters).astype(np.float64)
    error = _serial_error(sums[tested], unique) / len(ids)
    actual = float(_studentized(means[tested], error))
    picks = np.random.default_rng(seed).multinomial(
        n_clusters, np.full(n_clusters, 1 / n_clusters), N_DRAWS
    )
    best = _drawn_studentized(picks.astype(np.float64), sums, sizes).max(axis=1)
    return (1 + int(np.sum(best >= actual - _TOLERANCE))) / (1 + N_DRAWS)


def _serial_error(sums: NDArray[np.float64], ids: NDArray[Any]) -> float:
    """Returns the error of a sum of blocks' residuals, of which those that touch share luck."""
    n = len(sums)
    shared = float((sums[1:] * sums[:-1])[np.diff(ids) == 1].sum())
    squares = float((sums**2).sum()) + 2 * max(shared, 0.0)
    return float(np.sqrt(squares * n / (n - 1) * (1 + 1 / n)))


def _drawn_studentized(
    picks: NDArray[np.float64], sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the studentized centered mean of each try in each draw [draws, K].

    Args:
        picks: how often each draw took each block [draws, G].
        sums: residuals of each try, summed over each block [K, G].
        sizes: episodes of each block [G].
    """
    n = (picks @ sizes)[:, None]
    means = picks @ sums.T / n
    # Squares of a block's sum less what the drawn mean explains of it, multiplied out.
    squares = picks @ (sums**2).T - 2 * means * (picks @ (sums * sizes).T)
    squares += means**2 * (picks @ sizes**2)[:, None]
    n_clusters = len(sizes)
    errors = np.sqrt(np.maximum(squares, 0.0) * n_clusters / (n_clusters - 1)) / n
    return _studentized(means, errors)


def _studentized(means: ArrayLike, errors: ArrayLike) -> NDArray[np.float64]:
    """Returns means over errors; without an error inf for a gain, and -inf for none."""
    d, error = np.asarray(means, np.float64), np.asarray(errors, np.float64)
    is_spread = error > _LEAST_ERROR
    sure = np.where(d > _LEAST_ERROR, np.inf, -np.inf)
    return np.where(is_spread, d / np.where(is_spread, error, 1.0), sure)


def smallest_p(n: int, n_kinds: int, n_configurations: int) -> float:
    """Returns the corrected p-value of a result that no null market of one kind reaches.

    Args:
        n: null markets a kind.
        n_kinds: kinds tested.
        n_configurations: tries that enter by Šidák's formula; 1 where they enter otherwise.
    """
    return sidak(min(n_kinds / (1 + n), 1.0), n_configurations)


def draws_needed(n_kinds: int, n_configurations: int) -> int:
    """Returns the least number of null markets a kind with which an edge could be claimed."""
    n = 1
    while smallest_p(n, n_kinds, n_configurations) > ALPHA + _TOLERANCE:
        n += 1
    return n


@dataclass(frozen=True, kw_only=True)
class _Correction:
    """How the tries enter: the worse of two p-values, or Šidák's formula."""

    n_configurations: int
    p_reality_check: float | None

    @property
    def name(self) -> str:
        if self.n_configurations == 1:
            return "none"
        return "sidak" if self.p_reality_check is None else "reality check"

    @property
    def n_independent(self) -> int:
        return self.n_configurations if self.name == "sidak" else 1

    def apply(self, p: float) -> float:
        if self.name == "reality check" and self.p_reality_check is not None:
            return max(p, self.p_reality_check)
        return sidak(p, self.n_independent)


def judge_nulls(
    actual: float,
    actual_pass_rate: float,
    nulls: Mapping[str, Sequence[tuple[float, float]]],
    *,
    n_configurations: int,
    p_reality_check: float | None,
    settings: Mapping[str, Any],
) -> NullTest:
    """Puts the actual result among those of the null markets and says what follows.

    Args:
        actual: mean net result of an evaluation on the test slices, in allowances.
        actual_pass_rate: share of the evaluations that passed.
        nulls: (the same two) for each null market, by kind.
        n_configurations: configurations tried on these data, this one among them.
        p_reality_check: the run's p-value in `reality_check` over the runs of all of them; None if
            their results are not all stored on the same episodes.
        settings: kept with the result.
    """
    correction = _Correction(n_configurations=n_configurations, p_reality_check=p_reality_check)
    plain = [p_value(actual, [r for r, _ in rows]) for rows in nulls.values()]
    kinds = tuple(
        NullTestOfKind(
            kind=kind,
            nulls=tuple(result for result, _ in nulls[kind]),
            null_pass_rates=tuple(rate for _, rate in nulls[kind]),
            p=p,
            p_of_kinds=p_of_kinds,
            p_corrected=correction.apply(p_of_kinds),
        )
        for kind, p, p_of_kinds in zip(nulls, plain, holm(plain), strict=True)
    )
    least = min(kinds, key=lambda found: found.p_corrected)
    n = max(len(rows) for rows in nulls.values())
    reachable = smallest_p(n, len(nulls), correction.n_independent)
    is_edge = actual > _TOLERANCE and least.p_corrected <= ALPHA + _TOLERANCE
    return NullTest(
        statistic="result",
        unit="allowances per evaluation",
        actual=actual,
        actual_pass_rate=actual_pass_rate,
        kinds=kinds,
        n_configurations=n_configurations,
        correction=correction.name,
        p_reality_check=p_reality_check,
        p_corrected=least.p_corrected,
        p_smallest=reachable,
        is_edge=is_edge,
        sentence=_sentence(actual, least, correction, reachable, len(kinds), is_edge=is_edge),
        settings=dict(settings),
    )


def _sentence(
    actual: float,
    least: NullTestOfKind,
    correction: _Correction,
    reachable: float,
    n_kinds: int,
    *,
    is_edge: bool,
) -> str:
    """Returns the verdict in words, with what it rests on."""
    n, n_above = len(least.nulls), round(least.p * (1 + len(least.nulls))) - 1
    tries = correction.n_configurations
    text = (
        f"{'Edge found' if is_edge else 'No edge found'}: {n_above} of {n} markets in which "
        f"{WORDS[least.kind]} gave a result of at least the actual {actual:+.3f} allowances an "
        f"evaluation; p = {least.p:.3f}, {least.p_corrected:.3f} after correction for "
        f"{tries} configuration{'s' if tries != 1 else ''} tried"
        f"{f' and {n_kinds} kinds of null' if n_kinds > 1 else ''}."
    )
    if actual <= _TOLERANCE and least.p_corrected <= ALPHA + _TOLERANCE:
        text += " It lies above the null markets' and is no gain all the same."
    if reachable > ALPHA + _TOLERANCE:
        needed = draws_needed(n_kinds, correction.n_independent)
        text += (
            f" With {n} null markets a kind no result could have been claimed; at least {needed} "
            "are needed."
        )
    return text


WORDS = {
    "sign_flip": "days were mirrored at random",
    "block_permute": "hours were dealt anew among the days of a month",
    "rotate": "features were turned against prices",
    "bar_flip": "bars were mirrored at random",
}
"""What each kind does to a market."""


def write_null_test(folder: Path, found: NullTest) -> Path:
    """Writes a null test beside its run's other files, in place of an earlier one."""
    path = folder / NULL_TEST_FILE
    content = {"format": _FORMAT, **asdict(found)}
    replace_file(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def load_null_test(folder: Path) -> NullTest | None:
    """Reads a run's null test; None if none was made.

    Raises:
        RunError: the file is there and was not written by this version.
    """
    path = folder / NULL_TEST_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        if content.pop("format") != _FORMAT:
            raise ValueError("another format")
        kinds = [
            NullTestOfKind(
                **item | {name: tuple(item[name]) for name in ("nulls", "null_pass_rates")}
            )
            for item in content.pop("kinds")
        ]
        return NullTest(kinds=tuple(kinds), **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path}: is not a null test of this version ({error}). Make it again with: passline "
            f"nulltest {folder.name}"
        ) from error
