"""Says a rulebook in words, row by row, each with the source and date that support it.

The rows are data for a table on the screen or in a report; nothing is printed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from passline.rulebook.model import Confidence, Consistency, Payout, Rulebook, Tier, usd

__all__ = ["Row", "describe"]

_SECTIONS = {"": "book", "start_balance": "book", "funded": "book", "time_limit_days": "days"}
"""Headings of the fields that stand outside the book's tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a book in words.

    Attributes:
        section: heading, such as "drawdown".
        field: what the line is about.
        value: the rule in words, money in USD.
        as_of: day on which the source said so.
        source: page, article or reading.
        confidence: how well it is supported.
        note: what is unsettled; "" if nothing.
    """

    section: str
    field: str
    value: str
    as_of: date
    source: str
    confidence: Confidence
    note: str


def describe(book: Rulebook) -> tuple[Row, ...]:
    """Returns every rule of a book in words, in reading order."""
    rows: list[Row] = []
    for path, field, value in _lines(book):
        found = book.evidence_for(path)
        rows.append(
            Row(
                section=_SECTIONS.get(path, path.partition(".")[0]),
                field=field,
                value=value,
                as_of=found.as_of,
                source=found.source,
                confidence=found.confidence,
                note=found.note,
            )
        )
    return tuple(rows)


def _lines(book: Rulebook) -> Iterator[tuple[str, str, str]]:
    """Yields (evidence path, field, value in words)."""
    yield "", "firm and plan", f"{book.firm}, {book.plan}"
    yield "", "size and stage", f"{_money(book.size_mills)} {book.stage}"
    yield "", "platform", book.platform
    yield "start_balance", "start balance", _money(book.start_balance_mills)
    if book.funded is not None:
        yield "funded", "after a pass", book.funded
    yield "automation", "programs", book.automation.policy
    yield from _drawdown(book)
    if book.target is not None:
        profit = _money(book.target.balance_mills - book.start_balance_mills)
        when = {"day_close": "at the close of the day", "touch": "when touched"}[book.target.test]
        balance = _money(book.target.balance_mills)
        yield "target", "profit target", f"{balance} (profit {profit}), {when}"
    yield from _limits(book)
    yield from _time(book)
    for rule in book.consistency:
        yield "consistency", f"best day, for a {rule.scope}", _consistency(rule)
    yield from _orders(book)
    yield from _markets(book)
    if book.payout is not None:
        for field, value in _payout(book.payout):
            yield "payout", field, value
    yield from _costs(book)
    yield "news", "scheduled releases", book.news.policy


def _drawdown(book: Rulebook) -> Iterator[tuple[str, str, str]]:
    drawdown = book.drawdown
    follows = {
        "intraday": "the highest equity, open profit included",
        "end_of_day": "the highest closing balance",
        "static": "nothing; it never moves",
    }[drawdown.trail]
    floor = _money(book.start_balance_mills - drawdown.allowance_mills)
    yield "drawdown.trail", "floor follows", follows
    yield (
        "drawdown.allowance",
        "allowance",
        f"{_money(drawdown.allowance_mills)}; first floor {floor}, tested in real time by touch",
    )
    if drawdown.lock_trigger_mills is None or drawdown.lock_level_mills is None:
        lock = "never"
    else:
        lock = (
            f"at {_money(drawdown.lock_level_mills)} "
            f"once the peak reaches {_money(drawdown.lock_trigger_mills)}"
        )
    yield "drawdown.lock_level", "floor stops", lock
    if drawdown.payout_lock_level_mills is not None:
        level = _money(drawdown.payout_lock_level_mills)
        yield "drawdown.payout_lock_level", "floor after a payout request", f"at least {level}"


def _limits(book: Rulebook) -> Iterator[tuple[str, str, str]]:
    limit = book.daily_limit
    words = {
        "none": "none",
        "soft": f"the day is over, the account lives; resets {limit.reset:%H:%M} ET",
        "hard": "the account fails",
    }[limit.kind]
    if limit.amount_mills is not None:
        words = f"{_money(limit.amount_mills)}: {words}"
    elif limit.kind != "none":
        words = f"by profit, see tiers: {words}"
    yield "daily_limit", "daily loss limit", words
    for tier in book.tiers:
        field = (
            "largest position"
            if len(book.tiers) == 1
            else f"from profit {_money(tier.from_profit_mills)}"
        )
        yield "tiers", field, _tier(tier)
    if len(book.tiers) > 1:
        kept = "kept once reached" if book.tiers_latched else "falls again with the profit"
        yield "tiers", "tiers", f"fixed for the day by the prior close; {kept}"


def _tier(tier: Tier) -> str:
    minis = "1 mini" if tier.size_units == 10 else f"{tier.size_units / 10:g} minis"
    size = f"{minis} or {tier.size_units} micros"
    if tier.daily_limit_mills is None:
        return size
    return f"{size}, daily loss limit {_money(tier.daily_limit_mills)}"


def _time(book: Rulebook) -> Iterator[tuple[str, str, str]]:
    days, clock = book.days, book.clock
    counts = (
        "with one round trip"
        if days.day_profit_mills is None
        else f"of at least {_money(days.day_profit_mills)} net"
    )
    if book.stage == "evaluation":
        wanted = f"{days.min_days}, each {counts}" if days.min_days else "none"
        yield "days", "minimum days", wanted
        limit = book.time_limit_days
        words = "none" if limit is None else f"{limit} calendar days"
        yield "time_limit_days", "time limit", words
    late = {"record": "is only recorded", "fail": "fails the account"}[clock.late_flat]
    yield (
        "clock",
        "flat by",
        f"{clock.flat_by:%H:%M} ET; a position then {late}; "
        f"no entries in the last {clock.no_entry_minutes} minutes",
    )
    if book.inactivity is not None:
        rule = book.inactivity
        profit = "" if rule.day_profit_mills is None else f" of {_money(rule.day_profit_mills)}"
        noun = "day" if rule.active_days == 1 else "days"
        yield (
            "inactivity",
            "activity",
            f"{rule.active_days} {noun}{profit} in every {rule.window_days} calendar days",
        )


def _consistency(rule: Consistency) -> str:
    sign = "below" if rule.is_strict else "at most"
    window = {"since_start": "the total profit", "since_payout": "profit since the last payout"}
    then = {"delay": "it waits", "raise_target": "the target rises"}[rule.consequence]
    words = f"{sign} {_share(rule.best_day_num, rule.best_day_den)} of {window[rule.window]}"
    if rule.scope == "payout" and (rule.from_payout > 1 or rule.to_payout is not None):
        last = "on" if rule.to_payout is None else f"to {rule.to_payout}"
        words += f", payouts {rule.from_payout} {last}"
    return f"{words}; otherwise {then}"


def _orders(book: Rulebook) -> Iterator[tuple[str, str, str]]:
    orders = book.orders
    if orders.max_stop_per_target is not None:
        yield "orders", "stop distance", f"at most {orders.max_stop_per_target} times the target's"
    if orders.mae is not None:
        mae = orders.mae
        words = f"{_share(mae.share_num, mae.share_den)} of the profit at the start of the day"
        words += f", {_money(mae.base_mills)} while that is low"
        if mae.raised_from_profit_mills is not None:
            words += (
                f"; {_share(mae.raised_num, mae.raised_den)} "
                f"from {_money(mae.raised_from_profit_mills)} of profit"
            )
        words += "; ends the position" if mae.is_enforced else "; recorded"
        yield "orders.mae", "open loss of a round trip", words


def _markets(book: Rulebook) -> Iterator[tuple[str, str, str]]:
    products = book.products
    if products.allowed is not None:
        yield "products", "products", "only " + ", ".join(products.allowed)
    elif products.excluded:
        yield "products", "products", "all but " + ", ".join(products.excluded)
    if book.commissions:
        listed = ", ".join(f"{item.symbol} {usd(item.side_mills)}" for item in book.commissions)
        yield "commissions", "commission a side, USD", listed
    else:
        yield "commissions", "commission a side", "the contract's default"


def _payout(payout: Payout) -> Iterator[tuple[str, str]]:
    """Yields (field, value in words)."""
    if payout.qualifying_days:
        profit = payout.day_profit_mills
        of = "" if profit is None else f" of at least {_money(profit)}"
        yield "qualifying days", f"{payout.qualifying_days}{of} since the last payout"
    if payout.trading_days:
        yield "trading days", f"{payout.trading_days} since the last payout"
    if payout.every_days:
        yield "interval", f"{payout.every_days} calendar days"
    if payout.min_balance_mills is not None:
        yield "balance to ask", _money(payout.min_balance_mills)
    if payout.safety_net_mills is not None:
        until = payout.safety_net_payouts
        words = "" if until is None else f", for the first {until} payouts"
        yield "balance that stays", f"{_money(payout.safety_net_mills)}{words}"
    if payout.profit_goals_mills:
        goals = ", ".join(_money(goal) for goal in payout.profit_goals_mills)
        yield "profit since the last payout", f"at least {goals}"
    yield "smallest request", _money(payout.min_request_mills)
    yield "largest request", _largest(payout)
    if payout.max_payouts is not None:
        then = {"continues": "continues", "closes": "closes", "live": "goes live"}
        yield "payouts", f"{payout.max_payouts}, then the account {then[payout.after_last]}"
    if payout.lifetime_mills is not None:
        yield "sum of payouts", f"at most {_money(payout.lifetime_mills)}"
    split = _share(payout.split_num, payout.split_den)
    full = payout.full_split_mills
    yield "split", f"{split} to the trader" + (f", 100 % of the first {_money(full)}" * bool(full))


def _largest(payout: Payout) -> str:
    parts = [", ".join(_money(cap) for cap in payout.caps_mills)] if payout.caps_mills else []
    if payout.uncapped_from is not None:
        parts.append(f"no cap from payout {payout.uncapped_from}")
    if payout.balance_share_num != payout.balance_share_den:
        share = _share(payout.balance_share_num, payout.balance_share_den)
        parts.append(f"at most {share} of the profit")
    if payout.profit_multiple is not None:
        parts.append(f"at most {payout.profit_multiple} times the profit since the last payout")
    return "; ".join(parts) or "no cap"


def _costs(book: Rulebook) -> Iterator[tuple[str, str, str]]:
    fees = book.fees
    if fees.price_mills is not None:
        every = {"monthly": "a month", "one_time": "once"}[fees.billing]
        yield "fees", "price", f"{_money(fees.price_mills)} {every}"
    if fees.reset_mills is not None:
        yield "fees", "reset", _money(fees.reset_mills)
    within, activation = fees.activation_within_days, fees.activation_mills
    if activation is not None or within is not None:
        price = "not known" if activation is None else _money(activation)
        words = "" if within is None else f", within {within} days"
        yield "fees", "activation after a pass", f"{price}{words}"


def _money(mills: int) -> str:
    whole, _, cents = usd(abs(mills)).partition(".")
    text = f"${int(whole):,}" + ("" if cents == "00" else f".{cents}")
    return f"-{text}" if mills < 0 else text


def _share(num: int, den: int) -> str:
    percent = Fraction(num, den) * 100
    return f"{percent.numerator} %" if percent.denominator == 1 else f"{num}/{den}"
