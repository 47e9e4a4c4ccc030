"""The tables of the other firms against their books (help centers, 2026-06 to 2026-10). USD."""

import pytest

from passline.rulebook import load_rulebook
from passline.rulebook.model import Rulebook


def facts(book: Rulebook) -> tuple[float | None, float, float | None, int]:
    """Returns target profit, allowance and lock level above the start (USD), and minis."""
    start = book.start_balance_mills
    target = None if book.target is None else (book.target.balance_mills - start) / 1000
    level = book.drawdown.lock_level_mills
    return (
        target,
        book.drawdown.allowance_mills / 1000,
        None if level is None else (level - start) / 1000,
        max(tier.size_units for tier in book.tiers) // 10,
    )


EVALUATIONS: dict[str, tuple[float | None, float, float | None, int]] = {
    "mffu-rapid-25k": (1500, 1000, 100, 3),
    "mffu-rapid-50k": (3000, 2000, 100, 5),
    "mffu-rapid-100k": (6000, 3000, 100, 8),
    "mffu-rapid-150k": (9000, 4500, 100, 10),
    "mffu-rapid-eod-25k": (1500, 1000, 100, 2),
    "mffu-rapid-eod-50k": (3000, 2000, 100, 3),
    "mffu-pro-50k": (3000, 2000, 100, 3),
    "mffu-pro-100k": (6000, 3000, 100, 6),
    "mffu-pro-150k": (9000, 4500, 100, 9),
    "mffu-builder-25k": (1500, 1000, 100, 2),
    "mffu-builder-50k": (3000, 2000, 100, 4),
    "tpt-test-25k": (1500, 1500, 0, 3),
    "tpt-test-50k": (3000, 2000, 0, 6),
    "tpt-test-75k": (4500, 2500, 0, 9),
    "tpt-test-100k": (6000, 3000, 0, 12),
    "tpt-test-150k": (9000, 4500, 0, 15),
    "tradeify-growth-25k": (1500, 1000, None, 1),
    "tradeify-growth-50k": (3000, 2000, None, 4),
    "tradeify-growth-100k": (6000, 3500, None, 8),
    "tradeify-growth-150k": (9000, 5000, None, 12),
    "tradeify-select-25k": (1500, 1000, None, 1),
    "tradeify-select-50k": (3000, 2000, None, 4),
    "tradeify-select-100k": (6000, 3000, None, 8),
    "tradeify-select-150k": (9000, 4500, None, 12),
    **{
        f"lucid-{plan}-{size}k{dll}": row
        for plan in ("flex", "pro", "daily")
        for dll in ("", "-dll")
        for size, row in (
            (25, (1250, 1000, 100, 2)),
            (50, (3000, 2000, 100, 4)),
            (100, (6000, 3000, 100, 6)),
            (150, (9000, 4500, 100, 10)),
        )
    },
    **{
        f"bulenox-option{option}-{size}k": row
        for option in (1, 2)
        for size, row in (
            (25, (1500, 1500, None, 3)),
            (50, (3000, 2500, None, 7)),
            (100, (6000, 3000, None, 12)),
            (150, (9000, 4500, None, 15)),
            (250, (15_000, 5500, None, 25)),
        )
    },
    "earn2trade-gauntlet-mini-50k": (3000, 2000, 0, 2),
    "tradeday-quickpay-50k-intraday": (3000, 2000, 0, 1),
    "tradeday-quickpay-50k-eod": (3000, 2000, 0, 1),
}
FUNDED: dict[str, tuple[float | None, float, float | None, int]] = {
    "mffu-rapid-50k-funded": (None, 2000, 100, 5),
    "mffu-rapid-eod-50k-funded": (None, 2000, 100, 3),
    "mffu-pro-50k-funded": (None, 2000, None, 5),
    "mffu-pro-150k-funded": (None, 4500, None, 15),
    "mffu-builder-50k-funded": (None, 2000, 100, 4),
    "tpt-pro-25k": (None, 1500, 0, 3),
    "tradeify-growth-50k-funded": (None, 2000, 100, 4),
    "tradeify-growth-100k-funded": (None, 3500, 100, 8),
    "tradeify-select-50k-flex": (None, 2000, 100, 4),
    "tradeify-select-50k-daily": (None, 2000, 100, 4),
    "tradeify-lightning-25k": (None, 1000, 100, 1),
    "tradeify-lightning-50k": (None, 2000, 100, 4),
    "tradeify-lightning-100k": (None, 4000, 100, 8),
    "tradeify-lightning-150k": (None, 5250, 100, 12),
    "lucid-flex-50k-funded": (None, 2000, 100, 4),
    "lucid-flex-150k-funded": (None, 4500, 100, 10),
    "bulenox-option1-50k-master": (None, 2500, 100, 7),
    "tradeday-50k-funded": (None, 2000, 0, 1),
}


@pytest.mark.parametrize("id", [*EVALUATIONS, *FUNDED])
def test_floor_target_and_size(id: str) -> None:
    assert facts(load_rulebook(id)) == {**EVALUATIONS, **FUNDED}[id]


@pytest.mark.parametrize(
    ("id", "trail"),
    [
        ("mffu-rapid-50k", "end_of_day"),
        ("mffu-rapid-50k-funded", "intraday"),
        ("mffu-rapid-eod-50k-funded", "end_of_day"),
        ("tpt-test-50k", "end_of_day"),
        ("tpt-pro-50k", "intraday"),
        ("tradeify-growth-50k-funded", "end_of_day"),
        ("lucid-flex-50k-funded", "end_of_day"),
        ("lucid-daily-50k-funded", "intraday"),
        ("bulenox-option1-50k", "intraday"),
        ("bulenox-option2-50k-master", "end_of_day"),
        ("earn2trade-gauntlet-mini-50k", "end_of_day"),
        ("tradeday-quickpay-50k-intraday", "intraday"),
        ("tradeday-quickpay-50k-eod", "end_of_day"),
        ("tradeday-50k-funded", "intraday"),
    ],
)
def test_what_the_floor_follows(id: str, trail: str) -> None:
    assert load_rulebook(id).drawdown.trail == trail


@pytest.mark.parametrize(
    ("ids", "kind", "amounts"),
    [
        ("mffu-builder-{}k", "soft", {25: 600, 50: 1000}),
        ("tradeify-growth-{}k", "soft", {25: 600, 50: 1250, 100: 2500, 150: 3750}),
        ("tradeify-lightning-{}k", "soft", {50: 1250, 100: 2500, 150: 3000}),
        ("lucid-flex-{}k-dll", "soft", {25: 600, 50: 1200, 100: 1800, 150: 2700}),
        ("bulenox-option2-{}k", "soft", {25: 500, 50: 1100, 100: 2200, 150: 3300, 250: 4500}),
        ("earn2trade-gauntlet-mini-{}k", "hard", {50: 1100}),
    ],
)
def test_daily_limits(ids: str, kind: str, amounts: dict[int, int]) -> None:
    for size, amount in amounts.items():
        book = load_rulebook(ids.format(size))
        assert (book.daily_limit.kind, book.tiers[0].daily_limit_mills) == (kind, amount * 1000)


@pytest.mark.parametrize(
    "id",
    [
        "mffu-rapid-50k",
        "tpt-test-50k",
        "tradeify-select-50k",
        "lucid-pro-50k",
        "bulenox-option1-50k",
    ],
)
def test_no_daily_limit(id: str) -> None:
    assert load_rulebook(id).daily_limit.kind == "none"


def test_growth_limit_rises_after_six_percent() -> None:
    tiers = load_rulebook("tradeify-growth-50k-funded").tiers
    assert [(t.from_profit_mills, t.daily_limit_mills) for t in tiers] == [
        (0, 1_250_000),
        (3_000_000, 2_000_000),
    ]


# id: numerator, denominator, strict, consequence
CONSISTENCY: dict[str, tuple[int, int, bool, str]] = {
    "topstep-combine-50k": (11, 20, False, "raise_target"),
    "topstep-xfa-50k-consistency": (2, 5, False, "delay"),
    "apex-eod-50k-pa": (1, 2, True, "delay"),
    "apex-legacy-50k-pa": (3, 10, False, "delay"),
    "tpt-test-50k": (1, 2, True, "raise_target"),
    "lucid-flex-50k": (1, 2, False, "delay"),
    "lucid-pro-50k-funded": (2, 5, False, "delay"),
    "mffu-rapid-50k": (1, 2, False, "delay"),
    "mffu-pro-50k": (1, 2, False, "delay"),
    "mffu-rapid-eod-50k": (3, 10, False, "delay"),
    "tradeify-select-50k": (2, 5, False, "delay"),
    "tradeify-growth-50k-funded": (7, 20, False, "delay"),
    "earn2trade-gauntlet-mini-50k": (3, 10, False, "delay"),
    "tradeday-quickpay-50k-eod": (3, 10, False, "delay"),
    "tradeday-fastpass-50k": (9, 20, False, "delay"),
    "bulenox-option1-50k-master": (2, 5, False, "delay"),
}


@pytest.mark.parametrize("id", list(CONSISTENCY))
def test_consistency_is_exact(id: str) -> None:
    (rule,) = load_rulebook(id).consistency
    found = (rule.best_day_num, rule.best_day_den, rule.is_strict, rule.consequence)
    assert found == CONSISTENCY[id]
    assert rule.scope == ("pass" if load_rulebook(id).stage == "evaluation" else "payout")


@pytest.mark.parametrize(
    ("id", "best", "total", "is_ok"),
    [
        ("topstep-combine-50k", 1600, 3000, True),
        ("topstep-combine-50k", 1650, 3000, True),
        ("topstep-combine-50k", 1650, 2999.999, False),
        ("topstep-combine-50k", 1800, 3272.72, False),
        ("topstep-combine-50k", 1800, 3272.73, True),
        ("topstep-xfa-50k-consistency", 1500, 3000, False),
        ("topstep-xfa-50k-consistency", 1500, 4500, True),
        ("apex-intraday-50k-pa", 1500, 3000, False),
        ("apex-intraday-50k-pa", 1500, 3000.01, True),
        ("apex-legacy-50k-pa", 1500, 5000, True),
        ("apex-legacy-50k-pa", 1500, 4999.99, False),
        ("tpt-test-50k", 2000, 3100, False),
        ("tpt-test-50k", 2000, 4000, False),
        ("tpt-test-50k", 2000, 4000.01, True),
        ("lucid-flex-50k", 1500, 3000, True),
    ],
)
def test_consistency_vectors(id: str, best: float, total: float, is_ok: bool) -> None:
    (rule,) = load_rulebook(id).consistency
    left, right = (
        round(best * 1000) * rule.best_day_den,
        round(total * 1000) * rule.best_day_num,
    )
    assert (left < right if rule.is_strict else left <= right) == is_ok


def test_lightning_steps_by_payout_number() -> None:
    rules = load_rulebook("tradeify-lightning-50k").consistency
    assert [(r.best_day_num, r.best_day_den, r.from_payout, r.to_payout) for r in rules] == [
        (1, 5, 1, 1),
        (1, 4, 2, 2),
        (3, 10, 3, None),
    ]


@pytest.mark.parametrize(
    ("ids", "flat_by"),
    [
        ("mffu-rapid-50k", "16:10"),
        ("tpt-pro-50k", "16:55"),
        ("lucid-flex-50k", "16:45"),
        ("bulenox-option1-50k", "16:59"),
        ("earn2trade-gauntlet-mini-50k", "16:10"),
    ],
)
def test_flat_by(ids: str, flat_by: str) -> None:
    assert f"{load_rulebook(ids).clock.flat_by:%H:%M}" == flat_by


@pytest.mark.parametrize(
    ("id", "days"),
    [
        ("mffu-rapid-50k", 2),
        ("mffu-rapid-eod-50k", 4),
        ("mffu-pro-50k", 2),
        ("mffu-builder-50k", 1),
        ("tpt-test-50k", 3),
        ("bulenox-option1-50k", 0),
        ("tradeday-quickpay-50k-eod", 5),
    ],
)
def test_minimum_days(id: str, days: int) -> None:
    assert load_rulebook(id).days.min_days == days


@pytest.mark.parametrize(
    ("id", "policy"),
    [
        ("mffu-pro-50k", "allowed"),
        ("tpt-test-50k", "forbidden"),
        ("tpt-pro-50k", "forbidden"),
        ("tradeify-growth-50k", "conditions"),
        ("lucid-flex-50k", "allowed"),
        ("bulenox-option2-50k-master", "allowed"),
        ("earn2trade-gauntlet-mini-50k", "unknown"),
        ("tradeday-50k-funded", "conditions"),
    ],
)
def test_automation(id: str, policy: str) -> None:
    assert load_rulebook(id).automation.policy == policy


@pytest.mark.parametrize(
    ("id", "start", "safety_net", "split"),
    [
        ("mffu-rapid-25k-funded", 0, 1100, (9, 10)),
        ("mffu-rapid-50k-funded", 0, 2100, (9, 10)),
        ("mffu-rapid-100k-funded", 0, 3100, (9, 10)),
        ("mffu-rapid-150k-funded", 0, 4600, (9, 10)),
        ("mffu-pro-50k-funded", 50_000, 52_100, (4, 5)),
        ("mffu-pro-150k-funded", 150_000, 154_600, (4, 5)),
        ("mffu-builder-50k-funded", 0, 2100, (4, 5)),
        ("tpt-pro-25k", 25_000, 26_500, (4, 5)),
        ("tpt-pro-50k", 50_000, 52_000, (4, 5)),
        ("tpt-pro-75k", 75_000, 77_500, (4, 5)),
        ("tpt-pro-100k", 100_000, 103_000, (4, 5)),
        ("tpt-pro-150k", 150_000, 154_500, (4, 5)),
        ("tradeify-select-50k-daily", 50_000, 52_100, (9, 10)),
    ],
)
def test_buffers(id: str, start: int, safety_net: int, split: tuple[int, int]) -> None:
    book = load_rulebook(id)
    assert book.payout is not None
    assert book.start_balance_mills == start * 1000
    assert book.payout.safety_net_mills == safety_net * 1000
    assert (book.payout.split_num, book.payout.split_den) == split


@pytest.mark.parametrize(
    ("id", "caps"),
    [
        ("tradeify-growth-50k-funded", (1500, 2000, 2500, 3000, 3000)),
        ("tradeify-select-50k-flex", (2500, 2500)),
        ("lucid-flex-25k-funded", (1000, 1000)),
        ("lucid-flex-100k-funded", (2500, 2500)),
        ("bulenox-option1-25k-master", (1000, 1000, 1000, None)),
        ("bulenox-option2-250k-master", (2500, 2500, 2500, None)),
        ("tpt-pro-50k", (None,)),
    ],
)
def test_payout_caps(id: str, caps: tuple[int | None, ...]) -> None:
    payout = load_rulebook(id).payout
    assert payout is not None
    found = tuple(payout.cap_mills(number) for number in range(1, len(caps) + 1))
    assert found == tuple(cap and cap * 1000 for cap in caps)


@pytest.mark.parametrize(
    ("id", "level"),
    [
        ("mffu-pro-50k-funded", 50_100),
        ("tradeify-growth-100k-funded", 100_100),
        ("lucid-flex-150k-funded", 150_100),
        ("topstep-xfa-50k", 0),
        ("apex-eod-50k-pa", None),
    ],
)
def test_floor_set_by_a_payout(id: str, level: int | None) -> None:
    found = load_rulebook(id).drawdown.payout_lock_level_mills
    assert found == (level if level is None else level * 1000)


def test_take_profit_trader_pro_example() -> None:
    """TPT's own: floor 23,500; a peak of 26,500 locks it at 25,000."""
    book = load_rulebook("tpt-pro-25k")
    assert book.start_balance_mills - book.drawdown.allowance_mills == 23_500_000
    assert book.drawdown.lock_trigger_mills == 26_500_000
    assert book.drawdown.lock_level_mills == 25_000_000
