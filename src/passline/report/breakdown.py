"""Where the agent earns and where it loses: its round trips by month, weekday, hour and the like.

Round trips of one trade date share its market, also where overlapping episodes took the same one,
so dates are the clusters. Looked at in many groups, some look good or bad by luck; `by_chance`
says how many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passline.evaluate.stats import Estimate, clusters_by_span, mean_interval, proportion_interval
from passline.evaluate.table import AGENT, EvaluationTable
from passline.market.clock import HOUR_NS, session_ns, trade_date
from passline.report.data import ReportData, final_rows

__all__ = ["MIN_DATES", "Chance", "Dimension", "Group", "by_chance", "dimensions_of"]

MILLS_PER_USD = 1000
MIN_DATES = 10
"""Fewer trade dates than this say next to nothing; their groups are shown pale."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
REGIMES = ((0.0, 0.8, "calm"), (0.8, 1.25, "usual"), (1.25, np.inf, "lively"))
"""Volatility of the last day over that of the last twenty, from and below, and its name."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The round trips of one group, and the accounts begun in it where that has a meaning.

    Attributes:
        label: such as "2024-03" or "Tuesday".
        n: round trips.
        n_dates: trade dates they were entered on.
        net_usd: mean net result of a round trip; its clusters are trade dates. None without any.
        passes: share of the accounts begun in it that passed; None where that has no meaning.
    """

    label: str
    n: int
    n_dates: int
    net_usd: Estimate | None
    passes: Estimate | None = None

    @property
    def is_thin(self) -> bool:
        """Whether it holds too few dates to say anything."""
        return self.n_dates < MIN_DATES


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One way to group round trips.

    Attributes:
        key: unique on the page.
        title: as it is headed.
        groups: in the order of the page, those without a round trip or account left out.
    """

    key: str
    title: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True)
class Chance:
    """How many groups stand out, and how many would by luck.

    Attributes:
        n_groups: groups of at least MIN_DATES dates.
        n_above: of them with an interval above zero.
        n_below: of them with an interval below zero.
        expected: of each that luck alone would give: 2.5 % of the groups.
    """

    n_groups: int
    n_above: int
    n_below: int
    expected: float


def dimensions_of(data: ReportData) -> list[Dimension]:
    """Returns the groupings for which the run holds round trips; none before an evaluation."""
    rows = final_rows(data)
    if rows is None or data.trips is None or not len(data.trips["entry_ns"]):
        return []
    trips, agent = data.trips, rows.where(policy=AGENT)
    dates = np.asarray(trade_date(trips["entry_ns"])).astype("datetime64[D]")
    begun = agent.start_day.astype("datetime64[D]")
    hours = (np.asarray(session_ns(trips["entry_ns"]), np.int64) // HOUR_NS + 18) % 24
    found = [
        _dimension("month", "Month", _months(dates), dates, trips, _months(begun), agent, data),
        _dimension(
            "weekday", "Weekday", _weekdays(dates), dates, trips, _weekdays(begun), agent, data
        ),
        _dimension("hour", "Hour of entry, ET", _clock(hours), dates, trips),
        _dimension(
            "contract", "Contract", trips["symbol"].astype(str), dates, trips, agent.market,
            agent, data,
        ),
    ]  # fmt: skip
    if "volatility" in trips:
        regimes = _regimes(trips["volatility"])
        found.insert(3, _dimension("volatility", "Volatility at entry", regimes, dates, trips))
    return [dimension for dimension in found if dimension.groups]


def by_chance(dimensions: Sequence[Dimension]) -> Chance:
    """Counts the groups whose interval leaves out zero."""
    told = [
        group.net_usd
        for dimension in dimensions
        for group in dimension.groups
        if group.net_usd is not None and not group.is_thin
    ]
    return Chance(
        n_groups=len(told),
        n_above=sum(net.low > 0 for net in told),
        n_below=sum(net.high < 0 for net in told),
        expected=0.025 * len(told),
    )


def _dimension(
    key: str,
    title: str,
    labels: NDArray[Any],
    dates: NDArray[Any],
    trips: Mapping[str, NDArray[Any]],
    begun: NDArray[Any] | None = None,
    agent: EvaluationTable | None = None,
    data: ReportData | None = None,
) -> Dimension:
    usd = trips["pnl_mills"] / MILLS_PER_USD
    days = dates.astype(np.int64)
    groups = []
    for label in _ordered(key, {*labels.tolist(), *([] if begun is None else begun.tolist())}):
        own = labels == label
        passes = None
        if begun is not None and agent is not None and data is not None:
            passes = _passes(agent.select(begun == label), data.span_days)
        groups.append(
            Group(
                label=str(label),
                n=int(own.sum()),
                n_dates=len(np.unique(days[own])),
                net_usd=mean_interval(usd[own], days[own]) if own.any() else None,
                passes=passes,
            )
        )
    return Dimension(key=key, title=title, groups=tuple(groups))


def _passes(agent: EvaluationTable, span_days: int) -> Estimate | None:
    if not len(agent):
        return None
    clusters = clusters_by_span(agent.start_day, span_days)
    return proportion_interval(agent.is_pass, clusters, is_serial=True)


def _months(dates: NDArray[Any]) -> NDArray[Any]:
    return dates.astype("datetime64[M]").astype(str)


def _weekdays(dates: NDArray[Any]) -> NDArray[Any]:
    names: NDArray[Any] = np.array(WEEKDAYS)[(dates.astype(np.int64) + 3) % 7]
    return names


def _clock(hours: NDArray[Any]) -> NDArray[Any]:
    names: NDArray[Any] = np.array([f"{hour:02d}:00" for hour in range(24)])[hours]
    return names


def _regimes(volatility: NDArray[Any]) -> NDArray[Any]:
    edges = [low for low, _, _ in REGIMES[1:]]
    names = np.array([name for *_, name in REGIMES])
    found: NDArray[Any] = names[np.digitize(volatility, edges)]
    return found


def _ordered(key: str, labels: set[str]) -> list[str]:
    """Returns labels as a calendar, a session or a scale has them."""
    if key == "weekday":
        return [day for day in WEEKDAYS if day in labels]
    if key == "volatility":
        return [name for *_, name in REGIMES if name in labels]
    if key == "hour":
        return sorted(labels, key=lambda text: (int(text[:2]) - 18) % 24)
    return sorted(labels)
