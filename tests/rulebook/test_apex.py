"""Apex's tables, number by number, against the books.

Sources: help center of apextraderfunding.com as of 2026-09-19 to 2026-10-05; tables in the order
25K, 50K, 100K, 150K for the current products and by name for Legacy. USD.
"""

from collections.abc import Callable

import pytest

from passline.rulebook import load_rulebook
from passline.rulebook.model import Rulebook

SIZES = (25, 50, 100, 150)
PLATFORMS = ("", "-tradovate", "-wealthcharts")

CURRENT: dict[str, tuple[int, ...]] = {
    "target": (1500, 3000, 6000, 9000),
    "allowance": (1000, 2000, 3000, 4000),
    "floor": (24_000, 48_000, 97_000, 146_000),
    "minis": (4, 6, 8, 12),
    "lock_level": (26_500, 53_000, 106_000, 159_000),
    "lock_trigger": (27_500, 55_000, 109_000, 163_000),
}
READ: dict[str, Callable[[Rulebook], int | None]] = {
    "target": lambda b: b.target and (b.target.balance_mills - b.start_balance_mills),
    "allowance": lambda b: b.drawdown.allowance_mills,
    "floor": lambda b: b.start_balance_mills - b.drawdown.allowance_mills,
    "minis": lambda b: b.tiers[0].size_units * 100,
    "lock_level": lambda b: b.drawdown.lock_level_mills,
    "lock_trigger": lambda b: b.drawdown.lock_trigger_mills,
}


@pytest.mark.parametrize("name", list(CURRENT))
@pytest.mark.parametrize("product", ["intraday", "eod"])
@pytest.mark.parametrize("platform", ["", "-wealthcharts"])
def test_current_evaluation(name: str, product: str, platform: str) -> None:
    found = [READ[name](load_rulebook(f"apex-{product}-{size}k{platform}")) for size in SIZES]
    assert found == [value * 1000 for value in CURRENT[name]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("product", ["intraday", "eod"])
def test_current_evaluation_has_no_other_rules(size: int, product: str) -> None:
    for platform in PLATFORMS:
        book = load_rulebook(f"apex-{product}-{size}k{platform}")
        assert book.drawdown.trail == {"intraday": "intraday", "eod": "end_of_day"}[product]
        assert (book.days.min_days, book.consistency, len(book.tiers)) == (0, (), 1)
        assert (book.time_limit_days, book.clock.flat_by_minute) == (30, 22 * 60 + 59)
        assert book.target is not None
        assert book.target.test == "day_close"
        assert (book.fees.reset_mills, book.fees.activation_within_days) == (None, 7)
        assert book.automation.policy == "forbidden"
        assert not book.products.allows("GC")
        assert book.products.allows("NQ")


def test_daily_limit_belongs_to_the_eod_product() -> None:
    limits = [load_rulebook(f"apex-eod-{size}k").daily_limit for size in SIZES]
    assert [item.amount_mills for item in limits] == [500_000, 1_000_000, 1_500_000, 2_000_000]
    assert {item.kind for item in limits} == {"soft"}
    for size in SIZES:
        book = load_rulebook(f"apex-intraday-{size}k")
        assert (book.daily_limit.kind, book.tiers[0].daily_limit_mills) == ("none", None)


@pytest.mark.parametrize("product", ["intraday", "eod"])
def test_lock_never_comes_on_tradovate(product: str) -> None:
    for size in SIZES:
        drawdown = load_rulebook(f"apex-{product}-{size}k-tradovate").drawdown
        assert (drawdown.lock_trigger_mills, drawdown.lock_level_mills) == (None, None)


def floor(book: Rulebook, peak: int) -> float:
    """The floor after a peak, USD, by the book's two lock numbers."""
    drawdown, peak_mills = book.drawdown, peak * 1000
    if drawdown.lock_trigger_mills is not None and peak_mills >= drawdown.lock_trigger_mills:
        assert drawdown.lock_level_mills is not None
        return drawdown.lock_level_mills / 1000
    return (peak_mills - drawdown.allowance_mills) / 1000


@pytest.mark.parametrize(
    ("id", "peak", "expected"),
    [
        ("apex-intraday-50k", 54_999, 52_999),
        ("apex-intraday-50k", 55_000, 53_000),
        ("apex-intraday-50k", 56_500, 53_000),
        ("apex-intraday-50k-wealthcharts", 56_500, 53_000),
        ("apex-intraday-50k-tradovate", 56_500, 54_500),
        *[
            (f"apex-intraday-50k-pa{platform}", peak, expected)
            for platform in PLATFORMS
            for peak, expected in ((52_099, 50_099), (52_100, 50_100), (60_000, 50_100))
        ],
        ("apex-legacy-50k-pa", 52_600, 50_100),
        ("apex-legacy-50k", 55_500, 53_000),
        ("apex-legacy-50k", 50_875, 48_375),
        ("apex-intraday-50k", 50_900, 48_900),
    ],
)
def test_where_the_floor_stops(id: str, peak: int, expected: int) -> None:
    assert floor(load_rulebook(id), peak) == expected


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("product", ["intraday", "eod"])
def test_performance_account_locks(product: str, platform: str) -> None:
    books = [load_rulebook(f"apex-{product}-{size}k-pa{platform}") for size in SIZES]
    assert [b.drawdown.lock_trigger_mills for b in books] == [
        26_100_000,
        52_100_000,
        103_100_000,
        154_100_000,
    ]
    assert [b.drawdown.lock_level_mills for b in books] == [
        25_100_000,
        50_100_000,
        100_100_000,
        150_100_000,
    ]
    payouts = [b.payout for b in books if b.payout is not None]
    assert [p.min_balance_mills for p in payouts] == [
        26_600_000,
        52_600_000,
        103_600_000,
        154_600_000,
    ]
    assert {(p.qualifying_days, p.min_request_mills, p.max_payouts) for p in payouts} == {
        (5, 500_000, 6)
    }
    assert {(p.after_last, p.split_num, p.split_den) for p in payouts} == {("closes", 1, 1)}


@pytest.mark.parametrize(
    ("product", "days", "caps"),
    [
        (
            "eod",
            (100, 250, 300, 350),
            (
                (1000,) * 6,
                (1500, 1500, 2000, 2500, 2500, 3000),
                (2000, 2500, 2500, 3000, 4000, 4000),
                (2500, 3000, 3000, 3000, 4000, 5000),
            ),
        ),
        (
            "intraday",
            (100, 200, 250, 300),
            (
                (1000,) * 6,
                (1500, 2000, 2500, 2500, 3000, 3000),
                (2000, 2500, 3000, 3000, 4000, 4000),
                (2500, 3000, 3000, 4000, 4000, 5000),
            ),
        ),
    ],
)
def test_performance_account_payouts(
    product: str, days: tuple[int, ...], caps: tuple[tuple[int, ...], ...]
) -> None:
    for size, day, cap in zip(SIZES, days, caps, strict=True):
        payout = load_rulebook(f"apex-{product}-{size}k-pa").payout
        assert payout is not None
        assert payout.day_profit_mills == day * 1000
        assert tuple(payout.cap_mills(n) for n in range(1, 7)) == tuple(c * 1000 for c in cap)


LEVELS = {
    25: ((0, 1, 500), (1000, 2, 500), (2000, 2, 1250)),
    50: ((0, 2, 1000), (1500, 3, 1000), (3000, 4, 2000), (6000, 4, 3000)),
    100: ((0, 3, 1750), (2000, 4, 1750), (3000, 5, 1750), (5000, 6, 2500), (10_000, 6, 3500)),
    150: ((0, 4, 2500), (2000, 5, 2500), (3000, 7, 2500), (5000, 10, 3000), (10_000, 10, 4000)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("product", ["intraday", "eod"])
def test_performance_account_levels(size: int, product: str) -> None:
    book = load_rulebook(f"apex-{product}-{size}k-pa")
    found = [(t.from_profit_mills, t.size_units, t.daily_limit_mills) for t in book.tiers]
    assert found == [(p * 1000, n * 10, limit * 1000) for p, n, limit in LEVELS[size]]
    assert (book.daily_limit.kind, book.tiers_latched, book.target) == ("soft", False, None)
    assert book.inactivity is not None
    rule = book.inactivity
    assert (rule.window_days, rule.active_days, rule.day_profit_mills) == (30, 2, 50_000)


@pytest.mark.parametrize(
    ("product", "prices", "activations"),
    [
        ("intraday", (167, 249, 399, 599), (None, 59, None, None)),
        ("eod", (450, 550, 990, 1890), (119, 139, 149, 159)),
    ],
)
def test_prices(product: str, prices: tuple[int, ...], activations: tuple[int | None, ...]) -> None:
    fees = [load_rulebook(f"apex-{product}-{size}k").fees for size in SIZES]
    assert [item.price_mills for item in fees] == [price * 1000 for price in prices]
    assert [item.activation_mills for item in fees] == [a and a * 1000 for a in activations]
    assert {item.billing for item in fees} == {"one_time"}


# name: target, drawdown, minis, Rithmic lock level, safety net, first payouts' cap, monthly price
LEGACY: dict[str, tuple[int, int, int, int | None, int, int | None, int]] = {
    "25k": (1500, 1500, 4, 26_500, 26_600, 1500, 177),
    "50k": (3000, 2500, 10, 53_000, 52_600, 2000, 197),
    "75k": (4250, 2750, 12, 79_250, 77_850, None, 187),
    "100k": (6000, 3000, 14, 106_000, 103_100, 2500, 397),
    "150k": (9000, 5000, 17, 159_000, 155_100, 2750, 597),
    "250k": (15_000, 6500, 27, 265_000, 256_600, 3000, 697),
    "300k": (20_000, 7500, 35, 320_000, 307_600, 3500, 797),
    "100k-static": (2000, 625, 2, None, 102_600, 1000, 137),
}


@pytest.mark.parametrize("name", list(LEGACY))
def test_legacy_evaluation(name: str) -> None:
    target, allowance, minis, level, _, _, price = LEGACY[name]
    book = load_rulebook(f"apex-legacy-{name}")
    assert book.target is not None
    assert book.target.balance_mills - book.start_balance_mills == target * 1000
    assert book.drawdown.allowance_mills == allowance * 1000
    assert [tier.size_units for tier in book.tiers] == [minis * 10]
    assert book.drawdown.lock_level_mills == (level and level * 1000)
    assert book.drawdown.trail == ("static" if level is None else "intraday")
    assert (book.days.min_days, book.days.day_profit_mills) == (7, None)
    assert (book.daily_limit.kind, book.time_limit_days, book.consistency) == ("none", None, ())
    assert (book.fees.price_mills, book.fees.reset_mills) == (price * 1000, 80_000)
    assert load_rulebook(f"apex-legacy-{name}-tradovate").fees.reset_mills == 100_000


@pytest.mark.parametrize("name", [name for name in LEGACY if name != "100k-static"])
def test_legacy_lock_is_unknown_on_wealthcharts_and_never_comes_on_tradovate(name: str) -> None:
    for platform in ("tradovate", "wealthcharts"):
        book = load_rulebook(f"apex-legacy-{name}-{platform}")
        assert book.drawdown.lock_level_mills is None
        assert ("Unknown" in book.evidence_for("drawdown").note) == (platform == "wealthcharts")


@pytest.mark.parametrize("name", list(LEGACY))
def test_legacy_performance_account(name: str) -> None:
    _, allowance, minis, _, net, cap, _ = LEGACY[name]
    book = load_rulebook(f"apex-legacy-{name}-pa")
    start = book.start_balance_mills
    static = name == "100k-static"
    assert book.drawdown.lock_trigger_mills == (None if static else net * 1000)
    assert book.drawdown.lock_level_mills == (None if static else start + 100_000)
    assert book.drawdown.allowance_mills == allowance * 1000
    assert [tier.size_units for tier in book.tiers] == [minis // 2 * 10, minis * 10]
    assert book.tiers_latched
    assert start + book.tiers[1].from_profit_mills == net * 1000 + 1
    assert book.orders.max_stop_per_target == 5
    payout = book.payout
    assert payout is not None
    assert (payout.trading_days, payout.qualifying_days, payout.day_profit_mills) == (8, 5, 50_000)
    assert payout.cap_mills(5) == (cap and cap * 1000)
    assert payout.cap_mills(6) is None
    assert (payout.split_num, payout.split_den, payout.full_split_mills) == (9, 10, 25_000_000)


def test_legacy_scaling_needs_more_than_the_safety_net() -> None:
    tier = load_rulebook("apex-legacy-50k-pa").tiers[1]
    assert not tier.from_profit_mills <= 2_600_000  # 52,600.00 is not over
    assert tier.from_profit_mills <= 2_600_010  # 52,600.01 is
    assert load_rulebook("apex-legacy-150k-pa").tiers[0].size_units == 80  # 17 -> 8


def test_legacy_payout_eats_500_into_the_safety_net() -> None:
    payout = load_rulebook("apex-legacy-50k-pa").payout
    assert payout is not None
    assert payout.min_balance_mills == 52_600_000
    assert payout.safety_net_mills == 52_600_000 - 500_000 == 53_300_000 - 1_200_000
    assert payout.safety_net_payouts == 3


@pytest.mark.parametrize(
    ("id", "profit", "limit"),
    [
        ("apex-legacy-50k-pa", 4000, 1200),
        ("apex-legacy-50k-pa", 0, 750),
        ("apex-legacy-50k-pa", -1000, 750),
        ("apex-legacy-50k-pa", 5199, 1559.7),
        ("apex-legacy-50k-pa", 5200, 2600),
        ("apex-legacy-100k-static-pa", 0, 187.5),
        ("apex-legacy-100k-static-pa", 2599, 187.5),
        ("apex-legacy-100k-static-pa", 2600, 780),
    ],
)
def test_legacy_mae(id: str, profit: int, limit: float) -> None:
    mae = load_rulebook(id).orders.mae
    assert mae is not None
    assert mae.limit_mills(profit * 1000) == round(limit * 1000)
    assert not mae.is_enforced


RITHMIC = {"MES": 510, "M2K": 510, "CL": 1980, "MCL": 510, "GC": 2310, "MGC": 760, "6E": 2360}
OTHERS = {"MES": 520, "M2K": 520, "CL": 1670, "MCL": 670, "GC": 1770, "MGC": 670, "6E": 1770}


@pytest.mark.parametrize("id", ["apex-intraday-50k", "apex-eod-100k-pa", "apex-legacy-25k"])
def test_commissions(id: str) -> None:
    for platform, mini, table in (
        ("", 1990, RITHMIC),
        ("-tradovate", 1550, OTHERS),
        ("-wealthcharts", 1550, OTHERS),
    ):
        book = load_rulebook(id + platform)
        expected = {**dict.fromkeys(("ES", "NQ", "YM", "RTY"), mini), **table}
        assert {symbol: book.commission_mills(symbol) for symbol in expected} == expected
        assert book.commission_mills("ZN") is None
