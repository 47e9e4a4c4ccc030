"""The exchange's sessions against published tables, a library with known errors, and real bars."""

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas_market_calendars
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_bars import eastern_ns
from passline.errors import BarsError
from passline.market.calendar import (
    Calendar,
    Sessions,
    calendar_names,
    eastern_offset_ns,
    load_calendar,
    session_minute,
    session_ns,
    trade_date,
)

EPOCH = date(1970, 1, 1)
EASTERN = ZoneInfo("America/New_York")
CHICAGO = ZoneInfo("America/Chicago")
SERIES = Path(__file__).parents[2] / ".." / "shared" / "data" / "series"

# Equity index halts 2018-2026 in Chicago time: closed, Good Friday 08:15, holiday 12:00, early
# 12:15. Typed from the published pattern, apart from calendar.toml; as_of 2026-10-06.
EQUITY_TABLE = """
2018 | 01-01 03-30 12-25 | - | 01-15 02-19 05-28 07-04 09-03 11-22 | 07-03 11-23 12-24
2019 | 01-01 04-19 12-25 | - | 01-21 02-18 05-27 07-04 09-02 11-28 | 07-03 11-29 12-24
2020 | 01-01 04-10 12-25 | - | 01-20 02-17 05-25 07-03 09-07 11-26 | 11-27 12-24
2021 | 01-01 12-24 | 04-02 | 01-18 02-15 05-31 07-05 09-06 11-25 | 11-26
2022 | 04-15 12-26 | - | 01-17 02-21 05-30 06-20 07-04 09-05 11-24 | 11-25
2023 | 01-02 12-25 | 04-07 | 01-16 02-20 05-29 06-19 07-04 09-04 11-23 | 07-03 11-24
2024 | 01-01 03-29 12-25 | - | 01-15 02-19 05-27 06-19 07-04 09-02 11-28 | 07-03 11-29 12-24
2025 | 01-01 04-18 12-25 | - | 01-20 02-17 05-26 06-19 07-04 09-01 11-27 | 07-03 11-28 12-24
2026 | 01-01 12-25 | 04-03 | 01-19 02-16 05-25 06-19 07-03 09-07 11-26 | 11-27 12-24
"""
EQUITY_HALTS = ("closed", "08:15", "12:00", "12:15")
MOURNING = {"2018-12-05": "08:30", "2025-01-09": "08:30"}


def ns(text: str, zone: ZoneInfo = EASTERN) -> int:
    """Reads a clock time of a zone as UTC ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 10**9


def number(text: str) -> int:
    return (date.fromisoformat(text) - EPOCH).days


def closes(calendar: Calendar, first: str, last: str) -> dict[str, str]:
    """Returns the Chicago close of every session between two trade dates, by date."""
    every = calendar.all_sessions
    picked = np.flatnonzero(
        (every.trade_date >= number(first)) & (every.trade_date <= number(last))
    )
    return {
        str(EPOCH + timedelta(days=int(every.trade_date[k]))): chicago(every.close_ns[k])
        for k in picked
    }


def chicago(value: np.int64) -> str:
    return f"{datetime.fromtimestamp(int(value) // 10**9, CHICAGO):%H:%M}"


# --- the clock -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2024-03-08 17:59:59", "2024-03-08"),  # Friday, before the clock goes forward
        ("2024-03-10 18:00:00", "2024-03-11"),  # Sunday of the change: Monday's session
        ("2024-11-03 18:00:00", "2024-11-04"),  # Sunday on which it goes back
        ("2024-11-04 17:59:59", "2024-11-04"),
        ("2024-11-04 18:00:00", "2024-11-05"),
        ("2024-12-31 18:00:00", "2025-01-01"),
        ("1999-04-04 18:00:00", "1999-04-05"),  # rules of before 2007: first Sunday of April
        ("2006-10-29 18:00:00", "2006-10-30"),
    ],
)
def test_trade_date_turns_at_six_in_the_evening_eastern(when: str, expected: str) -> None:
    assert trade_date(np.array([ns(when)]))[0] == number(expected)


@given(st.integers(ns("1990-06-01 00:00"), ns("2099-06-01 00:00")))
def test_clock_equals_zoneinfo(value: int) -> None:
    wall = datetime.fromtimestamp(value // 10**9, EASTERN)
    offset = wall.utcoffset()
    assert offset is not None
    times = np.array([value])
    assert eastern_offset_ns(times)[0] == offset.total_seconds() * 1e9
    naive = wall.replace(tzinfo=None)
    assert trade_date(times)[0] == ((naive + timedelta(hours=6)).date() - EPOCH).days
    minutes = (naive.hour * 60 + naive.minute + 360) % 1440
    assert session_minute(times)[0] == minutes
    assert session_ns(times)[0] == minutes * 60 * 10**9 + naive.second * 10**9 + value % 10**9


def test_offset_changes_at_the_very_nanosecond() -> None:
    spring = ns("2024-03-10 07:00", ZoneInfo("UTC"))
    hours = eastern_offset_ns(np.array([spring - 1, spring])) / 3600e9
    assert hours.tolist() == [-5.0, -4.0]


def test_session_minute_counts_from_six_in_the_evening() -> None:
    times = np.array([ns("2024-07-01 18:00"), ns("2024-07-02 09:30"), ns("2024-07-02 16:59:59")])
    assert session_minute(times).tolist() == [0, 930, 1379]


def test_times_in_another_unit_are_refused() -> None:
    with pytest.raises(BarsError, match="UTC nanoseconds"):
        trade_date(np.array([ns("2024-07-01 18:00") // 1000]))
    assert trade_date(np.array([], np.int64)).dtype == np.int32


# --- the tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", EQUITY_TABLE.strip().splitlines())
def test_equity_year_equals_the_published_row(row: str) -> None:
    year, *cells = (cell.strip() for cell in row.split("|"))
    expected = {day: at for day, at in MOURNING.items() if day.startswith(year)}
    for at, days in zip(EQUITY_HALTS, cells, strict=True):
        expected |= {f"{year}-{day}": at for day in days.split() if day != "-"}
    found = closes(load_calendar("equity"), f"{year}-01-01", f"{year}-12-31")
    first = date(int(year), 1, 1)
    weekdays = [
        str(day)
        for day in (first + timedelta(days=n) for n in range(366))
        if day.year == int(year) and day.weekday() < 5
    ]
    unusual = {day: found.get(day, "closed") for day in weekdays if found.get(day) != "16:00"}
    assert unusual == expected


@pytest.mark.parametrize(
    ("name", "day", "close"),
    [
        ("equity", "2013-07-04", "10:30"),  # schedule of the day
        ("fx", "2013-07-04", "12:00"),
        ("rates", "2013-07-04", "12:00"),
        ("energy", "2013-07-04", "12:15"),
        ("metals", "2013-12-24", "12:45"),
        ("energy", "2013-07-03", "16:15"),
        ("equity", "2015-09-17", "16:15"),
        ("equity", "2015-09-21", "16:00"),
        ("metals", "2018-12-05", "16:00"),  # only equity and rates observed the day
        ("rates", "2025-01-09", "12:15"),
        ("energy", "2025-01-09", "16:00"),
        ("fx", "2025-01-20", "16:00"),
        ("energy", "2026-01-19", "13:30"),
        ("metals", "2023-02-20", "13:30"),
        ("rates", "2023-02-20", "12:00"),
    ],
)
def test_closes_that_notices_and_schedules_name(name: str, day: str, close: str) -> None:
    assert closes(load_calendar(name), day, day) == {day: close}


def test_rates_stay_shut_on_the_mourning_day_of_2018() -> None:
    assert closes(load_calendar("rates"), "2018-12-04", "2018-12-06").keys() == {
        "2018-12-04",
        "2018-12-06",
    }


@pytest.mark.parametrize(
    ("name", "holiday", "day"),
    [
        ("equity", "2024-01-15", "2024-01-16"),  # Monday counts for Tuesday
        ("equity", "2025-07-04", "2025-07-07"),  # Friday counts for Monday
        ("equity", "2024-11-28", "2024-11-29"),  # Thanksgiving counts for the short Friday
        ("fx", "2023-02-20", "2023-02-21"),  # full hours, still Tuesday's trade date
        ("equity", "2021-04-02", "2021-04-02"),  # an early close is a day of its own
        ("equity", "2024-12-24", "2024-12-24"),
    ],
)
def test_holiday_halves_count_for_the_next_full_day(name: str, holiday: str, day: str) -> None:
    found = load_calendar(name).day(date.fromisoformat(holiday))
    assert found.trading_day == date.fromisoformat(day)


@pytest.mark.parametrize("name", calendar_names())
def test_sessions_are_in_order_and_cross_no_clock_change(name: str) -> None:
    every = load_calendar(name).all_sessions
    assert (every.open_ns < every.close_ns).all()
    assert (every.close_ns[:-1] < every.open_ns[1:]).all()
    assert (eastern_offset_ns(every.open_ns) == eastern_offset_ns(every.close_ns)).all()
    assert (trade_date(every.open_ns) == every.trade_date).all()
    assert (trade_date(every.close_ns - 1) == every.trade_date).all()
    assert (every.trading_day >= every.trade_date).all()
    assert (np.diff(every.trading_day) >= 0).all()
    covered = every.is_covered
    years = {d.astype("datetime64[Y]").astype(int) + 1970 for d in days_of(every)[covered]}
    assert years == set(range(2013, 2027))


def days_of(sessions: Sessions) -> np.ndarray:
    return sessions.trade_date.astype("datetime64[D]")


@pytest.mark.parametrize("name", calendar_names())
def test_every_special_day_has_a_name_and_plain_days_none(name: str) -> None:
    calendar = load_calendar(name)
    every = calendar.all_sessions
    is_named = np.array([bool(text) for text in every.reason])
    is_late = session_ns(every.open_ns) > 0
    is_special = every.is_early | every.is_disrupted | is_late
    is_special |= every.trading_day != every.trade_date
    assert (is_named == is_special).all()
    assert is_special.sum() > 100
    assert all(calendar.closed.values())


def test_pause_ends_with_the_summer_of_2021() -> None:
    equity = load_calendar("equity")
    before = equity.day(date(2021, 6, 25)).pause_et
    assert before is not None
    assert [t.isoformat("minutes") for t in before] == ["16:15", "16:30"]
    assert equity.day(date(2021, 6, 28)).pause_et is None
    assert equity.day(date(2020, 11, 27)).pause_et is None  # closed before it
    assert load_calendar("metals").day(date(2020, 6, 1)).pause_et is None
    every = equity.all_sessions
    times = np.array([ns(f"2021-06-25 {t}") for t in ("16:14:59", "16:15", "16:29:59", "16:30")])
    assert every.in_pause(times).tolist() == [False, True, True, False]
    assert (every.locate(times) >= 0).all()


def test_outages_are_flagged() -> None:
    for name in calendar_names():
        for day in ("2019-02-27", "2025-11-28"):
            found = load_calendar(name).day(date.fromisoformat(day))
            assert found.is_disrupted
            assert "outage" in found.note
    assert not load_calendar("equity").day(date(2025, 11, 27)).is_disrupted


# --- the interface -------------------------------------------------------------------------------


def test_locate_is_half_open() -> None:
    equity = load_calendar("equity")
    sessions = equity.sessions(ns("2024-11-28 12:00"), ns("2024-11-29 12:00"))
    assert [str(d) for d in days_of(sessions)] == ["2024-11-28", "2024-11-29"]
    times = ["2024-11-27 17:59:59", "2024-11-27 18:00", "2024-11-28 12:59:59", "2024-11-28 13:00"]
    times += ["2024-11-28 18:00", "2024-11-29 13:15", "2024-12-01 18:00"]
    located = sessions.locate(np.array([ns(t) for t in times]))
    assert located.tolist() == [-1, 0, 0, -1, 1, -1, -1]
    assert located.dtype == np.int32


def test_a_time_counts_for_a_trading_day_as_its_session_does() -> None:
    """A holiday's half for the next full day; between sessions the next one counts."""
    times = ["2024-01-12 16:00", "2024-01-13 12:00", "2024-01-15 12:00", "2024-01-16 12:00"]
    found = load_calendar("equity").trading_day(np.array([eastern_ns(time) for time in times]))
    days = [str(np.datetime64(int(day), "D")) for day in found]
    assert days == ["2024-01-12", "2024-01-16", "2024-01-16", "2024-01-16"]


def test_sessions_between_two_closes_are_none() -> None:
    equity = load_calendar("equity")
    assert len(equity.sessions(ns("2024-11-30 12:00"), ns("2024-11-30 13:00"))) == 0
    assert len(equity.sessions(ns("2024-11-29 13:15"), ns("2024-12-01 17:59:59"))) == 0
    assert len(equity.sessions(ns("2024-11-29 13:14:59"), ns("2024-12-01 18:00"))) == 2


@pytest.mark.parametrize("year", [2006, 2012, 2027, 2030])
def test_years_outside_the_table_have_plain_weekdays(year: int) -> None:
    sessions = load_calendar("equity").sessions(
        ns(f"{year}-01-02 00:00"), ns(f"{year}-12-30 00:00")
    )
    assert len(sessions) in {259, 260, 261}
    assert not sessions.is_covered.any()
    assert not sessions.is_early.any()
    assert not any(sessions.reason)


def test_planning_outside_the_table_is_refused() -> None:
    equity = load_calendar("equity")
    with pytest.raises(BarsError, match="2013-01-01 to 2026-12-31"):
        equity.month(2027, 1)
    with pytest.raises(BarsError, match="2012-12-31 was asked"):
        equity.require_covered(date(2012, 12, 31), date(2013, 6, 1))
    with pytest.raises(BarsError, match="months 01–12"):
        equity.month(2024, 13)
    with pytest.raises(BarsError, match="Known calendars: energy, equity, fx, metals, rates"):
        load_calendar("grains")


def test_month_lists_weekdays_with_what_is_special() -> None:
    rows = load_calendar("equity").month(2024, 11)
    assert len(rows) == 21
    assert [row.trade_date.day for row in rows if row.note] == [28, 29]
    thanksgiving = rows[-2]
    assert thanksgiving.note == "Thanksgiving"
    assert thanksgiving.is_early
    assert f"{thanksgiving.open_et:%Y-%m-%d %H:%M %Z}" == "2024-11-27 18:00 EST"
    assert f"{thanksgiving.close_et:%Y-%m-%d %H:%M}" == "2024-11-28 13:00"
    christmas = load_calendar("equity").day(date(2024, 12, 25))
    assert (christmas.note, christmas.open_et) == ("closed: Christmas", None)
    assert load_calendar("equity").day(date(2024, 11, 30)).note == "weekend"


# --- against pandas_market_calendars -------------------------------------------------------------

# Every difference from the library, 2018-2026, as (library, ours), Chicago close. It is wrong in:
GOOD_FRIDAYS_CLOSED = {"2024-03-29": ("08:15", "closed"), "2025-04-18": ("08:15", "closed")}
LATE_GOOD_FRIDAYS = {day: ("10:15", ours) for day, (_, ours) in GOOD_FRIDAYS_CLOSED.items()}
JUNETEENTHS = ("2022-06-20", "2023-06-19", "2024-06-19", "2025-06-19", "2026-06-19")
ENERGY_ERRORS = {
    **{  # no Christmas Eve but in 2026; bars of GC and CL stop early on each that they reach
        f"{year}-12-24": ("16:00", "12:45") for year in (2018, 2019, 2020, 2024, 2025)
    },
    **{  # Labor Day at 12:00 up to 2025; CL bars of 2024 halt at 13:30, as on all holidays
        day: ("12:00", "13:30") for day in ("2022-09-05", "2023-09-04", "2024-09-02", "2025-09-01")
    },
    **{  # day after Thanksgiving at 12:45; CL bars of 2024 run to 13:45
        day: ("12:45", "13:45") for day in ("2024-11-29", "2025-11-28")
    },
}
KNOWN_ERRORS = {
    ("CME Globex Equity", "equity"): {
        **GOOD_FRIDAYS_CLOSED,  # from 2023 on every Good Friday is a session
        "2018-12-05": ("16:00", "08:30"),  # days of mourning are normal days
        "2025-01-09": ("16:00", "08:30"),
    },
    ("CMEGlobex_EnergyAndMetals", "energy"): ENERGY_ERRORS,
    ("CMEGlobex_EnergyAndMetals", "metals"): ENERGY_ERRORS,
    ("CMEGlobex_FX", "fx"): LATE_GOOD_FRIDAYS,
    ("CME Globex Fixed Income", "rates"): {
        **LATE_GOOD_FRIDAYS,
        "2018-12-05": ("16:00", "closed"),
        "2025-01-09": ("16:00", "12:15"),
    },
    ("CME_Bond", "rates"): {
        **{day: ("16:00", "12:00") for day in JUNETEENTHS},  # no Juneteenth
        "2025-01-09": ("closed", "12:15"),  # shut on both days of mourning
        "2021-04-02": ("10:00", "10:15"),  # Good Fridays with payrolls close at 10:15 elsewhere
        "2023-04-07": ("10:00", "10:15"),
        "2026-04-03": ("10:00", "10:15"),
    },
}


@pytest.fixture(scope="module")
def library() -> dict[str, dict[str, str]]:
    """Returns the library's Chicago closes by calendar and date."""
    found = {}
    for key in sorted({key for key, _ in KNOWN_ERRORS}):
        calendar = pandas_market_calendars.get_calendar(key)
        table = calendar.schedule("2018-01-01", "2026-12-31", tz="America/Chicago")
        assert set(table["market_open"].dt.strftime("%H:%M")) == {"17:00"}
        found[key] = {str(d.date()): f"{t:%H:%M}" for d, t in table["market_close"].items()}
    return found


@pytest.mark.parametrize(("key", "name"), KNOWN_ERRORS)
def test_library_differs_only_where_it_is_known_to_err(
    library: dict[str, dict[str, str]], key: str, name: str
) -> None:
    theirs = library[key]
    ours = closes(load_calendar(name), "2018-01-01", "2026-12-31")
    different = {
        day: (theirs.get(day, "closed"), ours.get(day, "closed"))
        for day in theirs.keys() | ours.keys()
        if theirs.get(day) != ours.get(day)
    }
    assert different == KNOWN_ERRORS[key, name]
    assert len(ours) > 2200  # nine years of about 251 to 260 sessions


# --- against real bars ---------------------------------------------------------------------------


def real_times(name: str) -> np.ndarray:
    path = SERIES / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"real bars are absent: {path.name} beside the repository")
    times = pl.read_parquet(path, columns=["ts"])["ts"]
    return times.cast(pl.Datetime("ns")).cast(pl.Int64).to_numpy()


@pytest.mark.real
@pytest.mark.parametrize(
    ("series", "name", "n_outside"),
    [
        ("es_5m_2015_2022", "equity", 25),  # late prints in the first bar after a close
        ("gc_1m_2015_2022", "metals", 0),
        ("nq_5m_2024_2025", "equity", 0),
        ("cl_5m_2024_2025", "energy", 0),
        ("mes_1m_2025", "equity", 0),
        ("6e_1m_2024_01", "fx", 0),
        ("es_1m_2013_2020_lean_days", "equity", 0),
        ("gc_1m_2013_lean_days", "metals", 0),
    ],
)
def test_real_bars_lie_inside_sessions(series: str, name: str, n_outside: int) -> None:
    times = real_times(series)
    sessions = load_calendar(name).sessions(int(times[0]), int(times[-1]))
    outside = times[sessions.locate(times) < 0]
    assert len(outside) == n_outside
    assert (sessions.locate(outside - 5 * 60 * 10**9) >= 0).all()


# Early closes that a series does not reach, by minutes: gaps of the series, named in calendar.toml
# (GC stops at the equity close) or in the data's own notes.
SHORT_OF_CLOSE = {
    "gc_1m_2015_2022": {
        "2015-12-24": 30,
        "2018-12-24": 30,
        "2022-01-17": 90,
        "2022-02-21": 90,
        "2022-05-30": 90,
        "2022-07-04": 90,
        "2022-09-05": 90,
        "2022-11-24": 90,
    },
    "es_5m_2015_2022": {},
    "nq_5m_2024_2025": {},
    "cl_5m_2024_2025": {},
    "mes_1m_2025": {},
}
ABSENT = {"gc_1m_2015_2022": {f"2015-10-{day}" for day in range(12, 17)}, "cl_5m_2024_2025": set()}


@pytest.mark.real
@pytest.mark.parametrize(
    ("series", "name"),
    [
        ("es_5m_2015_2022", "equity"),
        ("gc_1m_2015_2022", "metals"),
        ("nq_5m_2024_2025", "equity"),
        ("cl_5m_2024_2025", "energy"),
        ("mes_1m_2025", "equity"),
    ],
)
def test_real_bars_fill_every_session_up_to_its_early_close(series: str, name: str) -> None:
    times = real_times(series)
    sessions = load_calendar(name).sessions(int(times[0]), int(times[-1]))
    located = sessions.locate(times)
    last = np.full(len(sessions), -1, np.int64)
    last[located[located >= 0]] = times[located >= 0]  # in time order, so the last one stays
    days = days_of(sessions).astype(str)
    empty = {str(day) for day in days[last < 0]}
    assert empty - {"2025-06-30"} == ABSENT.get(series, set())
    short = (sessions.close_ns - last) // (60 * 10**9)
    early = np.flatnonzero(sessions.is_early & (last >= 0) & (short > 10))
    assert {str(days[k]): short[k] // 10 * 10 for k in early} == SHORT_OF_CLOSE[series]
    assert sessions.is_early.sum() >= 4


@pytest.mark.real
def test_real_pause_is_empty_before_the_change_and_filled_after() -> None:
    times = real_times("es_5m_2015_2022")
    minute = session_minute(times)
    in_window = (minute >= 22 * 60 + 15) & (minute < 22 * 60 + 30)
    is_before = trade_date(times) < number("2021-06-28")
    sessions = load_calendar("equity").sessions(int(times[0]), int(times[-1]))
    has_pause = sessions.pause_start_ns > 0
    assert (sessions.in_pause(times) == (in_window & is_before)).all()
    assert (in_window & is_before).sum() == 12  # late prints of at most 7 trades
    assert has_pause.sum() > 1500
    full_after = ~has_pause & ~sessions.is_early & (sessions.trade_date >= number("2021-06-28"))
    assert (in_window & ~is_before).sum() > 0.97 * 3 * full_after.sum()
