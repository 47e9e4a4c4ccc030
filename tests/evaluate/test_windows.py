"""Windows as data, the default sizes, the sealed final, and training purged around named slices."""

from datetime import date, timedelta

import numpy as np
import pytest

from made_bars import INDEX, bars_of, take
from passline.config import from_plain, to_plain
from passline.errors import ConfigError
from passline.evaluate.slices import PURGE_SESSIONS, evaluation_starts, final_slices, split
from passline.evaluate.windows import (
    SliceConfig,
    Window,
    final_start,
    hide_final,
    read_windows,
)
from passline.market.clock import EPOCH, trade_date
from passline.market.synthetic import SyntheticConfig, synthesize
from passline.task.features import compute_features
from passline.task.prepare import prepare

ROWS = """
[[slice]]
name = "spring"
role = "gate"
from = 2024-04-05
to = 2024-04-20

[[slice]]
name = "dip"
role = "test"
contract = "SYN"
from = 2024-02-19
to = 2024-03-01
"""


def window(name, role, start, stop, contract=""):
    return Window(
        name=name,
        role=role,
        contract=contract,
        start=date.fromisoformat(start),
        stop=date.fromisoformat(stop),
    )


NAMED = SliceConfig(
    named=(
        window("spring", "gate", "2024-05-06", "2024-05-18"),
        window("dip", "test", "2024-02-19", "2024-03-02", "SYN"),
    )
)


@pytest.fixture(scope="module")
def long_market():
    """Ten months, so that much is left around the named slices."""
    return synthesize(
        SyntheticConfig(start_date=date(2023, 8, 1), end_date=date(2024, 6, 1)), seed=3
    )


@pytest.fixture(scope="module")
def long_prepared(long_market, prepared):
    return prepare([long_market.bars], prepared.rulebook, prepared.config)


def test_a_file_of_slices_is_read_and_survives_run_toml(tmp_path):
    file = tmp_path / "slices.toml"
    file.write_text(ROWS)
    named = read_windows(file)
    assert named[1] == window("dip", "test", "2024-02-19", "2024-03-01", "SYN")
    rows = [row.to_plain() for row in named]
    config = from_plain({"bars": ["a"], "slices": {"named": rows}}, "test")
    assert config.slices.named == named
    assert from_plain(to_plain(config), "again") == config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('role = "gate"', 'role = "exam"'), "slice 'spring': role was 'exam'; allowed: train"),
        (("to = 2024-04-20", "to = 2024-04-05"), "to was 2024-04-05, from 2024-04-05"),
        (('name = "dip"', 'name = "spring"'), "2 slices are called 'spring'"),
        (('role = "test"', 'role = "gate"'), "none with role test"),
        (("to = 2024-04-20", ""), "slice 1: no key to"),
        (('role = "gate"', 'role = "gate"\nsince = 1'), "slice 1: unknown key since"),
        (("2024-04-05", '"spring"'), "from was 'spring'; a date looks like"),
        (("to = 2024-03-01", "to = 2024-04-02"), "lie 3 days apart; 5 are needed"),
        (("to = 2024-03-01", "to = 2024-04-12"), "lie -7 days apart; 5 are needed"),
        (("[[slice]]", "[[slices]]"), r"it needs rows \[\[slice\]\]"),
        (("from = 2024-04-05", "from = "), "not readable as TOML"),
    ],
)
def test_slices_that_contradict_themselves_are_refused(tmp_path, change, says):
    file = tmp_path / "slices.toml"
    file.write_text(ROWS.replace(*change))
    with pytest.raises(ConfigError, match=says):
        SliceConfig(named=read_windows(file))


def test_a_final_slice_lies_after_everything_else():
    last = window("end", "final", "2024-05-25", "2024-06-01")
    assert SliceConfig(named=(*NAMED.named, last)).named[-1] == last
    for start, stop in (("2024-01-02", "2024-01-20"), ("2024-05-20", "2024-06-01")):
        early = window("end", "final", start, stop)
        with pytest.raises(ConfigError, match="apart"):
            SliceConfig(named=(*NAMED.named, early))
    late = window("more", "train", "2024-06-03", "2024-06-08")
    with pytest.raises(ConfigError, match="a final test lies after everything"):
        SliceConfig(named=(*NAMED.named, last, late))


def test_sizes_by_days_are_not_mixed_with_named_slices():
    with pytest.raises(ConfigError, match="test_days was given beside named slices"):
        SliceConfig(test_days=30, named=NAMED.named)


FIRST_THURSDAY = 18_004
"""2019-04-18."""


class Span:
    """Bars of a number of days, one a day; the lengths used end on a weekday."""

    contract = INDEX

    def __init__(self, n_days):
        self.ts = (FIRST_THURSDAY + np.arange(n_days)) * 86_400 * 10**9

    def __len__(self):
        return len(self.ts)


@pytest.mark.parametrize(
    ("n_days", "size", "sealed"),
    [(365, None, 0), (719, None, 0), (720, None, 90), (2924, None, 365), (4002, None, 365),
     (2924, 30, 30), (2924, 0, 0)],
)  # fmt: skip
def test_the_final_window_is_a_share_of_the_days(n_days, size, sealed):
    start = final_start([Span(n_days)], SliceConfig(final_days=size))
    last = EPOCH + timedelta(days=FIRST_THURSDAY + n_days - 1)
    assert start == (last - timedelta(days=sealed - 1) if sealed else None)


def test_a_final_window_as_long_as_the_bars_is_refused():
    with pytest.raises(ConfigError, match="final_days was 50, and the bars span 50 calendar days"):
        final_start([Span(50)], SliceConfig(final_days=50))


def test_bars_of_the_final_window_and_its_embargo_are_taken_away(market):
    config = SliceConfig(final_days=30)
    start = final_start([market.bars], config)
    seen = hide_final(market.bars, start, config)
    assert trade_date(seen.ts)[-1] < (start - EPOCH).days - config.embargo_days
    hidden = trade_date(market.bars.ts[len(seen) :])
    assert hidden[0] >= (start - EPOCH).days - config.embargo_days
    assert np.unique(hidden).size > 20
    with pytest.raises(ConfigError, match="no bar lies before the final window"):
        hide_final(market.bars, date(2024, 1, 3), config)


@pytest.mark.parametrize("embargo_days", [0, 1])
def test_a_holiday_of_the_final_windows_first_trading_day_is_hidden(embargo_days):
    """Martin Luther King's day of 2024, a Monday, counts for the Tuesday."""
    bars = bars_of(
        ("2024-01-11 18:00", "2024-01-12 17:00"),
        ("2024-01-14 18:00", "2024-01-15 13:00"),
        ("2024-01-15 18:00", "2024-01-16 17:00"),
        minutes=15,
    )
    seen = hide_final(bars, date(2024, 1, 16), SliceConfig(embargo_days=embargo_days))
    assert trade_date(seen.ts)[-1] == (date(2024, 1, 12) - EPOCH).days
    ends_on_holiday = take(bars, np.flatnonzero(trade_date(bars.ts) <= trade_date(bars.ts)[100]))
    start = final_start([ends_on_holiday], SliceConfig(final_days=1))
    assert start == date(2024, 1, 16)


def test_final_slices_are_the_months_of_the_window(market, prepared):
    config = SliceConfig(final_days=40)
    parts = final_slices(prepared, config, final_start([market.bars], config))
    assert [part.name for part in parts] == ["final-SYN-2024-04", "final-SYN-2024-05"]
    assert parts[-1].stop_bar == len(prepared.compiled.ts)
    seen = hide_final(market.bars, final_start([market.bars], config), config)
    assert parts[0].first_bar > len(seen)


def test_default_sizes_leave_room_for_training(prepared):
    cut = split(prepared, SliceConfig())
    day = prepared.compiled.tape.day
    spans = [
        int(day[parts[-1].stop_bar - 1] - day[parts[0].first_bar]) for parts in (cut.gate, cut.test)
    ]
    assert 20 < spans[0] < 26
    assert 32 < spans[1] < 38


def test_training_is_purged_around_named_slices(long_prepared):
    prepared = long_prepared
    cut = split(prepared, NAMED)
    day = prepared.compiled.tape.day
    (a, b), (c, d) = cut.train
    spring, dip = cut.gate[0], cut.test[0]
    assert dip.name == "dip"
    assert spring.name == "spring-SYN"
    assert a == prepared.first_bar[0]
    assert day[b - 1] < day[dip.first_bar] - NAMED.embargo_days
    between = np.unique(day[dip.stop_bar : c])
    assert between.size >= PURGE_SESSIONS
    assert day[d - 1] < day[spring.first_bar] - NAMED.embargo_days
    assert d < spring.first_bar
    assert dip.end_bar == dip.stop_bar - 1
    starts = evaluation_starts(prepared, cut.test, n=10, span_days=5, seed=0)
    assert (starts.end_bar < dip.stop_bar).all()


def test_nothing_of_a_held_out_slice_is_in_the_features_of_training(long_market, long_prepared):
    """Garbage in the test slice leaves every training row as it is, also after the slice."""
    cut = split(long_prepared, NAMED)
    dip = cut.test[0]
    bars = long_market.bars
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    noise = np.random.default_rng(0).integers(-300, 300, dip.stop_bar - dip.first_bar)
    for column in columns.values():
        column[dip.first_bar : dip.stop_bar] += noise.astype(np.int32)
    volume = bars.volume.copy()
    volume[dip.first_bar : dip.stop_bar] = 1
    spoiled = type(bars)(
        contract=bars.contract,
        bar_ns=bars.bar_ns,
        ts=bars.ts,
        volume=volume,
        expiry=bars.expiry,
        expiries=bars.expiries,
        **columns,
    )
    before, after = compute_features(bars), compute_features(spoiled)
    assert (before.table[dip.first_bar : dip.stop_bar + 5000] != after.table[
        dip.first_bar : dip.stop_bar + 5000
    ]).any()  # fmt: skip
    assert len(cut.train) == 2
    for first, stop in cut.train:
        np.testing.assert_array_equal(before.table[first:stop], after.table[first:stop])
        np.testing.assert_array_equal(before.atr_ticks[first:stop], after.atr_ticks[first:stop])


def test_training_windows_limit_the_training(prepared):
    own = window("early", "train", "2024-03-01", "2024-05-01")
    cut = split(
        prepared,
        SliceConfig(
            named=(
                own,
                window("a", "gate", "2024-05-06", "2024-05-15"),
                window("b", "test", "2024-05-20", "2024-06-01"),
            )
        ),
    )
    days = prepared.compiled.tape.day
    ((first, stop),) = cut.train
    assert days[first] == (own.start - EPOCH).days
    assert days[stop - 1] < (own.stop - EPOCH).days


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (("a", "2030-01-01", "2030-02-01", ""), "holds no bar with known features"),
        (("a", "2024-02-05", "2024-02-16", "ES"), r"2024-02-16, ES\) holds no bar"),
        (("a", "2024-01-15", "2024-04-10", ""), "trading days are left for training"),
    ],
)
def test_slices_that_do_not_fit_the_bars_are_refused(prepared, named, says):
    name, start, stop, contract = named
    test = window(name, "test", start, stop, contract)
    with pytest.raises(ConfigError, match=says):
        split(prepared, SliceConfig(named=(NAMED.named[0], test)))


def test_what_one_market_holds_out_is_trained_on_in_none(long_market, prepared):
    both = prepare([long_market.bars] * 2, prepared.rulebook, prepared.config)
    cut = split(both, NAMED)
    day = both.compiled.tape.day
    held = {int(d) for part in cut.test for d in day[part.first_bar : part.stop_bar]}
    assert len(cut.train) == 4
    assert not held & {int(d) for a, b in cut.train for d in day[a:b]}
