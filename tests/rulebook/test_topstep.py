"""Topstep's table, number by number, against the books (help.topstep.com, 2026-09 and 2026-10)."""

import pytest

from passline.rulebook import load_rulebook

SIZES = (50, 100, 150)
# size: target, maximum loss limit, daily loss limit, minis, price, caps of the two payout paths
TABLE = {
    50: (3000, 2000, 1000, 5, 49, 2000, 3000),
    100: (6000, 3000, 2000, 10, 99, 3000, 4000),
    150: (9000, 4500, 3000, 15, 199, 5000, 6000),
}
SCALING = {
    50: ((0, 2), (1500, 3), (2000, 5)),
    100: ((0, 3), (1500, 4), (2000, 5), (3000, 10)),
    150: ((0, 3), (1500, 4), (2000, 5), (3000, 10), (4500, 15)),
}


@pytest.mark.parametrize("size", SIZES)
def test_combine(size: int) -> None:
    target, mll, _, minis, price, _, _ = TABLE[size]
    book = load_rulebook(f"topstep-combine-{size}k")
    start = size * 1_000_000
    assert book.target is not None
    assert book.target.balance_mills == start + target * 1000
    assert (book.drawdown.trail, book.drawdown.allowance_mills) == ("end_of_day", mll * 1000)
    assert book.drawdown.lock_level_mills == start
    assert book.drawdown.lock_trigger_mills == start + mll * 1000
    assert [(t.from_profit_mills, t.size_units) for t in book.tiers] == [(0, minis * 10)]
    assert (book.daily_limit.kind, book.time_limit_days) == ("none", None)
    assert f"{book.clock.flat_by:%H:%M}" == "16:10"
    assert (book.fees.price_mills, book.fees.activation_mills) == (price * 1000, 149_000)
    assert book.fees.reset_mills == book.fees.price_mills
    assert book.automation.policy == "conditions"


@pytest.mark.parametrize(("size", "first"), [(50, 48_000), (100, 97_000), (150, 145_500)])
def test_first_floor(size: int, first: int) -> None:
    book = load_rulebook(f"topstep-combine-{size}k")
    assert book.start_balance_mills - book.drawdown.allowance_mills == first * 1000


@pytest.mark.parametrize(("size", "best"), [(50, 1650), (100, 3300), (150, 4950)])
def test_best_day_at_the_target(size: int, best: int) -> None:
    book = load_rulebook(f"topstep-combine-{size}k")
    (rule,) = book.consistency
    assert book.target is not None
    profit = book.target.balance_mills - book.start_balance_mills
    assert best * 1000 * rule.best_day_den == rule.best_day_num * profit
    assert (rule.scope, rule.is_strict, rule.consequence) == ("pass", False, "raise_target")


@pytest.mark.parametrize("kind", ["combine", "xfa"])
@pytest.mark.parametrize("size", SIZES)
def test_optional_daily_limit(kind: str, size: int) -> None:
    plain = load_rulebook(f"topstep-{kind}-{size}k")
    book = load_rulebook(f"topstep-{kind}-{size}k-dll")
    assert (book.daily_limit.kind, f"{book.daily_limit.reset:%H:%M}") == ("soft", "18:00")
    assert {t.daily_limit_mills for t in book.tiers} == {TABLE[size][2] * 1000}
    assert book.drawdown == plain.drawdown
    assert [t.size_units for t in book.tiers] == [t.size_units for t in plain.tiers]


@pytest.mark.parametrize("size", SIZES)
def test_funded(size: int) -> None:
    _, mll, _, _, _, cap, path_cap = TABLE[size]
    book = load_rulebook(f"topstep-xfa-{size}k")
    drawdown = book.drawdown
    assert book.start_balance_mills == 0
    assert drawdown.allowance_mills == drawdown.lock_trigger_mills == mll * 1000
    assert drawdown.lock_level_mills == drawdown.payout_lock_level_mills == 0
    found = tuple((t.from_profit_mills // 1000, t.size_units // 10) for t in book.tiers)
    assert found == SCALING[size]
    payout = book.payout
    assert payout is not None
    assert (payout.qualifying_days, payout.day_profit_mills) == (5, 150_000)
    assert (payout.balance_share_num, payout.balance_share_den) == (1, 2)
    assert (payout.min_request_mills, payout.cap_mills(1)) == (125_000, cap * 1000)
    assert (payout.split_num, payout.split_den) == (9, 10)
    assert book.inactivity is not None
    assert book.inactivity.window_days == 30

    other = load_rulebook(f"topstep-xfa-{size}k-consistency")
    assert other.payout is not None
    assert (other.payout.qualifying_days, other.payout.trading_days) == (0, 3)
    assert (other.payout.day_profit_mills, other.payout.cap_mills(9)) == (None, path_cap * 1000)
    (rule,) = other.consistency
    assert (rule.best_day_num, rule.best_day_den, rule.window) == (2, 5, "since_payout")

    limited = load_rulebook(f"topstep-xfa-{size}k-dll").payout
    assert limited is not None
    assert limited.cap_mills(1) == 2 * cap * 1000


def test_commissions() -> None:
    book = load_rulebook("topstep-combine-50k")
    expected = {"ES": 1400, "NQ": 1400, "MNQ": 370, "CL": 1620, "MCL": 620, "GC": 1620, "6E": 1620}
    assert {symbol: book.commission_mills(symbol) for symbol in expected} == expected
    assert book.evidence_for("commissions").confidence == "medium"
