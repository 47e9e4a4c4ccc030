"""Turns one resolved TOML document into a Rulebook, refusing what contradicts itself.

Inheritance (`extends`), platforms and file names are `catalog`'s; the documents that arrive here
are whole. The table of fields for people who write books is docs/rulebooks.md.
"""

from datetime import time
from fractions import Fraction
from typing import Any, cast

from passline.rulebook.model import (
    Automation,
    Clock,
    Commission,
    Consistency,
    DailyLimit,
    Days,
    Drawdown,
    Evidence,
    Fees,
    Inactivity,
    Mae,
    News,
    Orders,
    Payout,
    Products,
    Rulebook,
    Stage,
    Target,
    Tier,
    usd,
)
from passline.rulebook.table import Raw, Table

__all__ = ["CONFIDENCE", "TABLE_KEYS", "TOP_KEYS", "read_rulebook"]

CONFIDENCE = ("high", "medium", "low")
_EVIDENCE_KEYS = ("as_of", "source", "confidence", "note")
TABLE_KEYS = {
    "automation": ("policy",),
    "drawdown": ("trail", "allowance", "lock_trigger", "lock_level", "payout_lock_level"),
    "target": ("balance", "profit", "test"),
    "daily_limit": ("kind", "amount", "reset"),
    "days": ("min_days", "day_profit"),
    "clock": ("flat_by", "no_entry_minutes", "late_flat"),
    "orders": ("max_stop_per_target", "mae"),
    "commissions": (),
    "products": ("allowed", "excluded"),
    "payout": (
        "qualifying_days",
        "day_profit",
        "trading_days",
        "every_days",
        "min_balance",
        "safety_net",
        "safety_net_payouts",
        "min_request",
        "caps",
        "uncapped_from",
        "balance_share",
        "profit_goals",
        "profit_multiple",
        "lifetime",
        "max_payouts",
        "after_last",
        "split",
        "full_split",
    ),
    "fees": ("price", "billing", "reset", "activation", "activation_within_days"),
    "inactivity": ("window_days", "active_days", "day_profit"),
    "news": ("policy",),
}
"""The tables of a book and their own keys; commissions take any contract symbol."""
_SCALARS = (
    "firm",
    "plan",
    "size",
    "stage",
    "platform",
    "start_balance",
    "funded",
    "tiers_latched",
    "time_limit_days",
)
TOP_KEYS = (*_SCALARS, *_EVIDENCE_KEYS, *TABLE_KEYS, "tiers", "consistency", "about")
"""Keys that a document may have at the top once `extends` and `platforms` are resolved."""


def read_rulebook(raw: Raw, *, id: str, file: str) -> Rulebook:
    """Reads a whole document.

    Args:
        raw: the document, floats as Decimal.
        id: the book's id.
        file: what errors call it.

    Raises:
        RulebookError: naming file and field of what is unknown, missing or contradictory.
    """
    top = Table(file, "", raw)
    top.only(TOP_KEYS)
    start = top.money("start_balance", low=0)
    stage = cast(Stage, top.choice("stage", ("evaluation", "funded")))
    limit = _daily_limit(_section(top, "daily_limit"))
    book = Rulebook(
        id=id,
        firm=top.text("firm"),
        plan=top.text("plan"),
        size_mills=top.money("size", low=1),
        stage=stage,
        platform=top.text("platform"),
        as_of=top.day("as_of"),
        confidence=cast(Any, top.choice("confidence", CONFIDENCE)),
        source=top.text("source"),
        note=top.text("note", ""),
        start_balance_mills=start,
        funded=top.text("funded") if top.has("funded") else None,
        time_limit_days=top.maybe_integer("time_limit_days"),
        automation=_automation(top),
        drawdown=_drawdown(top, start),
        target=_target(top, start),
        daily_limit=limit,
        tiers=_tiers(top, limit),
        tiers_latched=top.flag("tiers_latched", False),
        days=_days(top),
        consistency=tuple(_consistency(row) for row in top.rows("consistency")),
        clock=_clock(top),
        orders=_orders(top),
        commissions=_commissions(top),
        products=_products(top),
        payout=_payout(top) if top.has("payout") else None,
        fees=_fees(top),
        inactivity=_inactivity(top) if top.has("inactivity") else None,
        news=_news(top),
        evidence=_evidence(top),
    )
    _check_stage(top, book)
    _check_reset(top, book)
    return book


def _section(top: Table, key: str) -> Table:
    table = top.sub(key)
    table.only((*TABLE_KEYS[key], *_EVIDENCE_KEYS))
    return table


def _automation(top: Table) -> Automation:
    table = _section(top, "automation")
    policies = ("forbidden", "allowed", "conditions", "unknown")
    return Automation(
        policy=cast(Any, table.choice("policy", policies)), note=table.text("note", "")
    )


def _drawdown(top: Table, start: int) -> Drawdown:
    table = _section(top, "drawdown")
    drawdown = Drawdown(
        trail=cast(Any, table.choice("trail", ("intraday", "end_of_day", "static"))),
        allowance_mills=table.money("allowance", low=1),
        lock_trigger_mills=table.maybe_money("lock_trigger"),
        lock_level_mills=table.maybe_money("lock_level", low=None),
        payout_lock_level_mills=table.maybe_money("payout_lock_level", low=None),
    )
    trigger, level = drawdown.lock_trigger_mills, drawdown.lock_level_mills
    if (trigger is None) != (level is None):
        missing = "lock_trigger" if trigger is None else "lock_level"
        table.fail(missing, "is missing; lock_trigger and lock_level are given both or not at all.")
    if trigger is None or level is None:
        return drawdown
    if drawdown.trail == "static":
        table.fail("lock_trigger", "was given, but a static floor never moves; drop it.")
    if trigger <= start:
        table.fail(
            "lock_trigger",
            f"was {usd(trigger)}; it is a balance above start_balance {usd(start)}.",
        )
    if not start - drawdown.allowance_mills <= level < trigger:
        table.fail(
            "lock_level",
            f"was {usd(level)}; it must lie from the first floor "
            f"{usd(start - drawdown.allowance_mills)} to below lock_trigger {usd(trigger)}.",
        )
    return drawdown


def _target(top: Table, start: int) -> Target | None:
    if not top.has("target"):
        return None
    table = _section(top, "target")
    if table.has("balance") == table.has("profit"):
        table.fail("balance", "or profit must be given, and only one of them.")
    balance = table.money("balance") if table.has("balance") else start + table.money("profit")
    if balance <= start:
        key = "balance" if table.has("balance") else "profit"
        table.fail(key, f"gives the balance {usd(balance)}; it must exceed start_balance.")
    return Target(
        balance_mills=balance,
        test=cast(Any, table.choice("test", ("day_close", "touch"), "day_close")),
    )


def _daily_limit(table: Table) -> DailyLimit:
    limit = DailyLimit(
        kind=cast(Any, table.choice("kind", ("none", "soft", "hard"), "none")),
        amount_mills=table.maybe_money("amount", low=1),
        reset=table.clock("reset", time(18, 0)),
    )
    if limit.kind == "none" and limit.amount_mills is not None:
        table.fail("kind", "is missing, but amount is given; kind must be soft or hard.")
    return limit


def _tiers(top: Table, limit: DailyLimit) -> tuple[Tier, ...]:
    rows = top.rows("tiers")
    if not rows:
        top.fail("tiers", "is missing; at least one [[tiers]] with from_profit = 0 and minis.")
    tiers: list[Tier] = []
    for row in rows:
        row.only(("from_profit", "minis", "daily_limit"))
        tier = Tier(
            from_profit_mills=row.money("from_profit"),
            size_units=row.minis("minis"),
            daily_limit_mills=row.maybe_money("daily_limit", low=1) or limit.amount_mills,
        )
        if not tiers and tier.from_profit_mills != 0:
            row.fail("from_profit", f"was {usd(tier.from_profit_mills)}; the first tier has 0.")
        if tiers and tier.from_profit_mills <= tiers[-1].from_profit_mills:
            row.fail("from_profit", f"was {usd(tier.from_profit_mills)}; tiers must rise.")
        if limit.kind == "none" and tier.daily_limit_mills is not None:
            row.fail("daily_limit", "was given, but [daily_limit] kind is not soft or hard.")
        if limit.kind != "none" and tier.daily_limit_mills is None:
            row.fail("daily_limit", "is missing; give it here or as [daily_limit] amount.")
        tiers.append(tier)
    return tuple(tiers)


def _days(top: Table) -> Days:
    table = _section(top, "days")
    return Days(
        min_days=table.integer("min_days", 0),
        day_profit_mills=table.maybe_money("day_profit"),
    )


def _consistency(row: Table) -> Consistency:
    row.only(
        ("scope", "best_day", "strict", "window", "consequence", "from_payout", "to_payout"),
    )
    share = row.ratio("best_day")
    first, last = row.integer("from_payout", 1, low=1), row.maybe_integer("to_payout")
    if last is not None and last < first:
        row.fail("to_payout", f"was {last}; it must be at least from_payout {first}.")
    scope = row.choice("scope", ("pass", "payout"))
    window = "since_start" if scope == "pass" else "since_payout"
    return Consistency(
        scope=cast(Any, scope),
        best_day_num=share.numerator,
        best_day_den=share.denominator,
        is_strict=row.flag("strict", False),
        window=cast(Any, row.choice("window", ("since_start", "since_payout"), window)),
        consequence=cast(Any, row.choice("consequence", ("delay", "raise_target"), "delay")),
        from_payout=first,
        to_payout=last,
    )


def _clock(top: Table) -> Clock:
    table = _section(top, "clock")
    clock = Clock(
        flat_by=table.clock("flat_by"),
        no_entry_minutes=table.integer("no_entry_minutes", 5),
        late_flat=cast(Any, table.choice("late_flat", ("record", "fail"), "record")),
    )
    if not 0 < clock.flat_by_minute <= 23 * 60:
        table.fail("flat_by", f"was {clock.flat_by:%H:%M}; it lies from 18:01 to 17:00 Eastern.")
    if clock.no_entry_minutes >= clock.flat_by_minute:
        table.fail(
            "no_entry_minutes",
            f"was {clock.no_entry_minutes}; the day has {clock.flat_by_minute} minutes to flat_by.",
        )
    return clock


def _orders(top: Table) -> Orders:
    table = _section(top, "orders")
    return Orders(
        max_stop_per_target=table.maybe_integer("max_stop_per_target"),
        mae=_mae(table.sub("mae")) if table.has("mae") else None,
    )


def _mae(table: Table) -> Mae:
    table.only(
        (
            "share",
            "base",
            "base_below_profit",
            "raised_from_profit",
            "raised_share",
            "enforced",
        )
    )
    share = table.ratio("share")
    if table.has("raised_share") != table.has("raised_from_profit"):
        table.fail("raised_share", "and raised_from_profit are given both or not at all.")
    raised = table.ratio("raised_share", Fraction(0))
    return Mae(
        share_num=share.numerator,
        share_den=share.denominator,
        base_mills=table.money("base"),
        base_below_profit_mills=table.maybe_money("base_below_profit"),
        raised_from_profit_mills=table.maybe_money("raised_from_profit"),
        raised_num=raised.numerator,
        raised_den=raised.denominator,
        is_enforced=table.flag("enforced", False),
    )


def _commissions(top: Table) -> tuple[Commission, ...]:
    table = top.sub("commissions")
    symbols = [key for key in table.raw if key not in _EVIDENCE_KEYS]
    for symbol in symbols:
        if not (symbol.isascii() and symbol.isalnum() and symbol.isupper() and len(symbol) <= 6):
            table.fail(symbol, "is not a contract symbol; write symbols such as ES or MNQ.")
    return tuple(
        Commission(symbol=symbol, side_mills=table.money(symbol)) for symbol in sorted(symbols)
    )


def _products(top: Table) -> Products:
    table = _section(top, "products")
    if table.has("allowed") and table.has("excluded"):
        table.fail("allowed", "and excluded are both given; give one of them.")
    return Products(allowed=table.symbols("allowed"), excluded=table.symbols("excluded") or ())


def _payout(top: Table) -> Payout:
    table = _section(top, "payout")
    share, split = table.ratio("balance_share", Fraction(1)), table.ratio("split", Fraction(1))
    return Payout(
        qualifying_days=table.integer("qualifying_days", 0),
        day_profit_mills=table.maybe_money("day_profit"),
        trading_days=table.integer("trading_days", 0),
        every_days=table.integer("every_days", 0),
        min_balance_mills=table.maybe_money("min_balance"),
        safety_net_mills=table.maybe_money("safety_net"),
        safety_net_payouts=table.maybe_integer("safety_net_payouts"),
        min_request_mills=table.maybe_money("min_request") or 0,
        caps_mills=table.money_list("caps"),
        uncapped_from=table.maybe_integer("uncapped_from"),
        balance_share_num=share.numerator,
        balance_share_den=share.denominator,
        profit_goals_mills=table.money_list("profit_goals"),
        profit_multiple=table.maybe_integer("profit_multiple"),
        lifetime_mills=table.maybe_money("lifetime"),
        max_payouts=table.maybe_integer("max_payouts"),
        after_last=cast(
            Any, table.choice("after_last", ("continues", "closes", "live"), "continues")
        ),
        split_num=split.numerator,
        split_den=split.denominator,
        full_split_mills=table.maybe_money("full_split") or 0,
    )


def _fees(top: Table) -> Fees:
    table = _section(top, "fees")
    return Fees(
        price_mills=table.maybe_money("price"),
        billing=cast(Any, table.choice("billing", ("monthly", "one_time"), "monthly")),
        reset_mills=table.maybe_money("reset"),
        activation_mills=table.maybe_money("activation"),
        activation_within_days=table.maybe_integer("activation_within_days"),
    )


def _inactivity(top: Table) -> Inactivity:
    table = _section(top, "inactivity")
    return Inactivity(
        window_days=table.integer("window_days", low=1),
        active_days=table.integer("active_days", 1, low=1),
        day_profit_mills=table.maybe_money("day_profit"),
    )


def _news(top: Table) -> News:
    table = _section(top, "news")
    policies = ("free", "restricted", "unknown")
    return News(
        policy=cast(Any, table.choice("policy", policies, "unknown")), note=table.text("note", "")
    )


def _evidence(top: Table) -> tuple[Evidence, ...]:
    """Collects the dates and sources of tables and of single fields; each inherits from above."""
    found = [_one_evidence("", top, top)]
    for key in TABLE_KEYS:
        table = top.sub(key)
        if any(table.has(name) for name in _EVIDENCE_KEYS):
            found.append(_one_evidence(key, table, top))
    about = top.sub("about")
    for path in about.raw:
        table = about.sub(path)
        table.only(_EVIDENCE_KEYS)
        section, _, name = path.partition(".")
        keys = TABLE_KEYS.get(section, ())
        is_field = section in TOP_KEYS and section != "about" and section not in _EVIDENCE_KEYS
        if not is_field or (name and name not in keys and section != "commissions"):
            fields = ", ".join(f"{section}.{key}" for key in keys) or "drawdown.allowance, tiers"
            about.fail(path, f"names no field; write table.field, such as {fields}.")
        parents = (top.sub(section), top) if section in TABLE_KEYS else (top,)
        found.append(_one_evidence(path, table, *parents))
    return tuple(found)


def _one_evidence(path: str, *tables: Table) -> Evidence:
    def first(key: str) -> Table:
        return next((table for table in tables if table.has(key)), tables[-1])

    return Evidence(
        path=path,
        as_of=first("as_of").day("as_of"),
        source=first("source").text("source"),
        confidence=cast(Any, first("confidence").choice("confidence", CONFIDENCE)),
        note=tables[0].text("note", ""),
    )


def _check_reset(top: Table, book: Rulebook) -> None:
    """Refuses a lockout that would end before flat-by: a day's limit is looked at once a day."""
    reset = book.daily_limit.reset
    minute = (reset.hour * 60 + reset.minute - 18 * 60) % (24 * 60) or 24 * 60
    if minute < book.clock.flat_by_minute:
        top.sub("daily_limit").fail(
            "reset",
            f"was {reset:%H:%M}; it lies from flat_by {book.clock.flat_by:%H:%M} to 18:00 Eastern, "
            "when nothing can be traded: a lockout lasts for the rest of the trading day.",
        )


def _check_stage(top: Table, book: Rulebook) -> None:
    """Refuses rules that do not belong to the book's stage."""
    if book.stage == "evaluation":
        if book.target is None:
            top.fail("target", "is missing; an evaluation has a [target] with balance or profit.")
        if book.payout is not None:
            top.fail("payout", "was given, but an evaluation pays nothing; drop [payout].")
    else:
        if book.target is not None:
            top.fail("target", "was given, but a funded stage has no target; drop [target].")
        if book.funded is not None:
            top.fail("funded", "was given, but this book is the funded stage itself; drop it.")
    scope = "pass" if book.stage == "evaluation" else "payout"
    for number, rule in enumerate(book.consistency, start=1):
        if rule.scope != scope:
            top.fail(
                f"[consistency {number}] scope",
                f"was {rule.scope}; in the {book.stage} stage it must be {scope}.",
            )
    if scope == "pass" and len(book.consistency) > 1:
        top.fail("consistency", f"has {len(book.consistency)} rules; a pass has at most one.")
