"""Round trips by month, weekday, hour and volatility: right groups, honest intervals."""

from dataclasses import replace

import numpy as np
import pytest
from made_run import FIRST_DAY

from passline.evaluate.stats import mean_interval
from passline.report.breakdown import MIN_DATES, by_chance, dimensions_of
from passline.report.data import ReportData, load_report_data
from passline.runs import Run


def day_of(index: int) -> np.datetime64:
    """A day counted from the year's first."""
    return np.datetime64(int(FIRST_DAY + index), "D")


def trips_of(times: list[str], usd: object, **more: object) -> dict[str, np.ndarray]:
    """Round trips entered at times in UTC."""
    entry = np.array(times, "datetime64[ns]").astype(np.int64)
    return {
        "entry_ns": entry,
        "pnl_mills": np.broadcast_to(np.asarray(usd) * 1000, len(entry)).astype(np.int64),
        "symbol": np.full(len(entry), "ES"),
        **{name: np.asarray(values) for name, values in more.items()},
    }


@pytest.fixture(scope="module")
def data(run: Run) -> ReportData:
    return load_report_data(run)


def groups(data: ReportData, trips: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
    found = dimensions_of(replace(data, trips=trips))
    return {d.key: {g.label: g.n for g in d.groups if g.n} for d in found}


def test_times_are_eastern_and_dates_those_of_the_session(data):
    times = ["2022-01-03T00:30", "2022-01-07T23:30", "2022-07-01T13:45", "2022-07-01T22:30"]
    found = groups(data, trips_of(times, 1))
    # Sunday 19:30 ET is Monday's session; Friday 18:30 ET would be Saturday's; summer is UTC-4.
    assert found["weekday"] == {"Monday": 1, "Friday": 1, "Saturday": 2}
    assert found["hour"] == {"18:00": 2, "19:00": 1, "09:00": 1}
    assert list(found["hour"]) == ["18:00", "19:00", "09:00"]
    assert found["month"] == {"2022-01": 2, "2022-07": 2}
    assert found["contract"] == {"ES": 4}
    assert "volatility" not in found


def test_volatility_is_calm_usual_or_lively(data):
    times = ["2022-01-03T15:00"] * 4
    found = groups(data, trips_of(times, 1, volatility=[0.79, 0.8, 1.24, 1.25]))
    assert found["volatility"] == {"calm": 1, "usual": 2, "lively": 1}


def test_a_group_has_the_interval_of_its_dates_and_few_dates_are_thin(data):
    generator = np.random.default_rng(3)
    days = np.repeat(np.arange(30), 5)
    times = [f"{day_of(d)}T15:00" for d in days]
    usd = np.repeat(generator.normal(0, 50, 30), 5).round()
    found = dimensions_of(replace(data, trips=trips_of(times, usd)))
    contract = next(d for d in found if d.key == "contract").groups[0]
    assert contract.net_usd == mean_interval(usd, days)
    assert contract.net_usd.n_effective == pytest.approx(30, abs=0.5)
    assert (contract.n, contract.n_dates, contract.is_thin) == (150, 30, False)
    weekdays = next(d for d in found if d.key == "weekday").groups
    assert all(g.is_thin and g.n_dates < MIN_DATES for g in weekdays)
    chance = by_chance(found)
    assert chance.n_groups == sum(not g.is_thin for d in found for g in d.groups if g.n)
    assert chance.expected == pytest.approx(0.025 * chance.n_groups)


def test_accounts_begun_in_a_month_are_all_there(run, data):
    found = {d.key: d for d in dimensions_of(data)}
    for key in ("month", "weekday", "contract"):
        assert sum(g.passes.n for g in found[key].groups if g.passes) == 96
    assert all(g.passes is None for g in found["hour"].groups)


def test_without_an_edge_few_groups_stand_out_and_a_real_one_does(data):
    generator = np.random.default_rng(5)
    n, days = 40, np.arange(200)
    stands_out = 0
    for _ in range(n):
        times = [f"{day_of(d)}T15:00" for d in days]
        found = by_chance(
            dimensions_of(replace(data, trips=trips_of(times, generator.normal(0, 60, 200))))
        )
        stands_out += (found.n_above + found.n_below) / found.n_groups
    assert stands_out / n < 0.12
    usd = np.where((days + FIRST_DAY + 3) % 7 == 1, 80.0, 0.0) + generator.normal(0, 40, 200)
    found = {d.key: d for d in dimensions_of(replace(data, trips=trips_of(times, usd)))}
    tuesday = next(g for g in found["weekday"].groups if g.label == "Tuesday")
    assert tuesday.net_usd.low > 0


def test_no_evaluation_and_no_round_trip_show_nothing(data):
    assert dimensions_of(replace(data, evaluations=None)) == []
    assert dimensions_of(replace(data, trips=None)) == []
    assert dimensions_of(replace(data, trips=trips_of([], 1))) == []
