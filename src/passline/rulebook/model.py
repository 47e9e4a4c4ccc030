"""A firm's demands on one account, as data: the frozen records that a rulebook file is read into.

Money is whole mills (1/1000 USD), sizes are tenths of a mini, ratios are exact integer pairs and
times of day are Eastern. How files are read lives in `read` and `catalog`; what the rules do to an
account lives in the simulator.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, time
from typing import Any, Literal

__all__ = [
    "Automation",
    "Clock",
    "Commission",
    "Consistency",
    "DailyLimit",
    "Days",
    "Drawdown",
    "Evidence",
    "Fees",
    "Inactivity",
    "Mae",
    "News",
    "Orders",
    "Payout",
    "Products",
    "Rulebook",
    "Target",
    "Tier",
    "usd",
]

Stage = Literal["evaluation", "funded"]
Confidence = Literal["high", "medium", "low"]
Policy = Literal["forbidden", "allowed", "conditions", "unknown"]
Trail = Literal["intraday", "end_of_day", "static"]
TargetTest = Literal["day_close", "touch"]
LimitKind = Literal["none", "soft", "hard"]
Scope = Literal["pass", "payout"]
Window = Literal["since_start", "since_payout"]
Consequence = Literal["delay", "raise_target"]
LateFlat = Literal["record", "fail"]
NewsPolicy = Literal["free", "restricted", "unknown"]
Billing = Literal["monthly", "one_time"]
AfterLastPayout = Literal["continues", "closes", "live"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Where a table of the book, or one number in it, comes from.

    Attributes:
        path: "" for the whole book, "drawdown" for a table, "drawdown.lock_level" for a number.
        as_of: day on which the source said so.
        source: page, article or reading.
        confidence: how well it is supported.
        note: what is unsettled or left out; "" if nothing.
    """

    path: str
    as_of: date
    source: str
    confidence: Confidence
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Automation:
    """Whether the firm lets a program place orders.

    Attributes:
        policy: what the firm's terms say of this stage.
        note: the conditions, in words.
    """

    policy: Policy
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawdown:
    """The floor: what it follows, how far below, and where it stops.

    Attributes:
        trail: highest equity (intraday), highest closing balance (end_of_day), or nothing (static).
        allowance_mills: distance of the floor below what it follows.
        lock_trigger_mills: peak at which the floor stops for good; None if it never does.
        lock_level_mills: where it then stays; None with lock_trigger_mills.
        payout_lock_level_mills: where a payout request puts the floor; None if it moves nothing.
    """

    trail: Trail
    allowance_mills: int
    lock_trigger_mills: int | None = None
    lock_level_mills: int | None = None
    payout_lock_level_mills: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The balance that passes the stage.

    Attributes:
        balance_mills: balance to reach, net of commissions.
        test: looked at when the day is settled, or passed on touch.
    """

    balance_mills: int
    test: TargetTest = "day_close"


@dataclass(frozen=True, kw_only=True, slots=True)
class DailyLimit:
    """The daily loss limit; the amount in force is the day's tier's.

    Attributes:
        kind: none, soft (the day is over, the account lives) or hard (the account fails).
        amount_mills: the flat amount, copied into every tier without its own; None if by tier.
        reset: Eastern time at which a soft limit's lockout ends.
    """

    kind: LimitKind = "none"
    amount_mills: int | None = None
    reset: time = time(18, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tier:
    """Limits of a day by the profit at the prior close.

    Attributes:
        from_profit_mills: balance - start balance from which the tier holds; the first tier has 0
            and also holds below it.
        size_units: largest position, tenths of a mini (one micro is 1, one mini 10).
        daily_limit_mills: daily loss limit of the tier; None if it has none.
    """

    from_profit_mills: int
    size_units: int
    daily_limit_mills: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Days:
    """What makes a trading day count, and how many a pass needs.

    Attributes:
        min_days: days that must count before a pass; 0 if any day may pass.
        day_profit_mills: net profit that makes a day count; None if a round trip suffices.
    """

    min_days: int = 0
    day_profit_mills: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Consistency:
    """The best day may be at most a share of the total: best <= num/den * total (< if strict).

    Attributes:
        scope: what it guards, a pass or a payout.
        best_day_num: numerator of the share, lowest terms.
        best_day_den: denominator of the share, above 0.
        is_strict: the best day must stay below the share.
        window: days that count: all, or those since the last payout.
        consequence: the pass or payout waits, or the target rises until the share holds.
        from_payout: number of the first payout it guards, from 1.
        to_payout: number of the last payout it guards; None for all that follow.
    """

    scope: Scope
    best_day_num: int
    best_day_den: int
    is_strict: bool = False
    window: Window = "since_start"
    consequence: Consequence = "delay"
    from_payout: int = 1
    to_payout: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Times of the firm's day.

    Attributes:
        flat_by: Eastern time at which a position must be closed.
        no_entry_minutes: minutes before flat_by in which nothing new is opened.
        late_flat: a position at flat_by is only recorded, or fails the account.
    """

    flat_by: time
    no_entry_minutes: int = 5
    late_flat: LateFlat = "record"

    @property
    def flat_by_minute(self) -> int:
        """Minute of flat_by counted from 18:00 Eastern of the evening before."""
        return (self.flat_by.hour * 60 + self.flat_by.minute - 18 * 60) % (24 * 60)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mae:
    """Limit on the open loss of one round trip, from the profit at the start of the day.

    Attributes:
        share_num: numerator of the share of that profit that may stand open as a loss.
        share_den: its denominator.
        base_mills: limit of a new or low-profit account.
        base_below_profit_mills: profit below which base_mills alone holds; None if the larger of
            the two always holds.
        raised_from_profit_mills: profit from which the raised share holds; None if there is none.
        raised_num: numerator of the raised share.
        raised_den: its denominator.
        is_enforced: whether crossing it ends the position; otherwise it is only recorded.
    """

    share_num: int
    share_den: int
    base_mills: int
    base_below_profit_mills: int | None = None
    raised_from_profit_mills: int | None = None
    raised_num: int = 0
    raised_den: int = 1
    is_enforced: bool = False

    def limit_mills(self, profit_mills: int) -> int:
        """Returns the largest open loss allowed in a day that starts with this profit, mills."""
        raised = self.raised_from_profit_mills
        if raised is not None and profit_mills >= raised:
            return profit_mills * self.raised_num // self.raised_den
        below = self.base_below_profit_mills
        if below is not None:
            if profit_mills < below:
                return self.base_mills
            return profit_mills * self.share_num // self.share_den
        return max(self.base_mills, profit_mills * self.share_num // self.share_den)


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """Rules on single orders and positions.

    Attributes:
        max_stop_per_target: a stop may be at most this many times the target; None if free.
        mae: limit on the open loss of a round trip; None if there is none.
    """

    max_stop_per_target: int | None = None
    mae: Mae | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Commission:
    """What the firm charges for one contract and side.

    Attributes:
        symbol: contract, such as "NQ".
        side_mills: mills for one contract and one side, all fees in.
    """

    symbol: str
    side_mills: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Products:
    """Which contracts may be traded; without either list, all.

    Attributes:
        allowed: symbols that may be traded; None if not listed.
        excluded: symbols that may not.
    """

    allowed: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()

    def allows(self, symbol: str) -> bool:
        """Returns whether the book lets this contract be traded."""
        return symbol not in self.excluded and (self.allowed is None or symbol in self.allowed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Payout:
    """When and how much of a funded account's profit is paid.

    Attributes:
        qualifying_days: days since the last payout that must reach day_profit_mills.
        day_profit_mills: net profit that makes a day qualify; None if a round trip suffices.
        trading_days: days with a round trip since the last payout, qualifying or not.
        every_days: calendar days between payouts.
        min_balance_mills: balance needed to ask; None if none.
        safety_net_mills: balance that must remain after a payout; None if none.
        safety_net_payouts: how many payouts min_balance and safety_net guard; None for all.
        min_request_mills: smallest request.
        caps_mills: largest payout by its number; the last one holds for all that follow, unless
            uncapped_from; empty if no cap.
        uncapped_from: number of the payout from which no cap holds; None if the caps go on.
        balance_share_num: numerator of the share of the profit that one payout may take.
        balance_share_den: its denominator.
        profit_goals_mills: profit since the last payout that must be earned to ask, by the payout's
            number; the last one holds for all that follow; empty if any will do.
        profit_multiple: a payout may be at most this many times that profit; None if free.
        lifetime_mills: largest sum of all payouts; None if no limit.
        max_payouts: payouts until the account ends; None if no limit.
        after_last: what happens then.
        split_num: numerator of the trader's share.
        split_den: its denominator.
        full_split_mills: first mills of the account's payouts paid at 100 %.
    """

    qualifying_days: int = 0
    day_profit_mills: int | None = None
    trading_days: int = 0
    every_days: int = 0
    min_balance_mills: int | None = None
    safety_net_mills: int | None = None
    safety_net_payouts: int | None = None
    min_request_mills: int = 0
    caps_mills: tuple[int, ...] = ()
    uncapped_from: int | None = None
    balance_share_num: int = 1
    balance_share_den: int = 1
    profit_goals_mills: tuple[int, ...] = ()
    profit_multiple: int | None = None
    lifetime_mills: int | None = None
    max_payouts: int | None = None
    after_last: AfterLastPayout = "continues"
    split_num: int = 1
    split_den: int = 1
    full_split_mills: int = 0

    def cap_mills(self, number: int) -> int | None:
        """Returns the cap of the payout of this number, from 1; None if it has none."""
        if not self.caps_mills or (self.uncapped_from and number >= self.uncapped_from):
            return None
        return self.caps_mills[min(number, len(self.caps_mills)) - 1]

    def profit_goal_mills(self, number: int) -> int:
        """Returns the profit since the last payout that this payout, from 1, needs."""
        goals = self.profit_goals_mills
        return goals[min(number, len(goals)) - 1] if goals else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fees:
    """What the account costs.

    Attributes:
        price_mills: list price; None if not known.
        billing: paid every month, or once.
        reset_mills: price of a reset; None if there is none.
        activation_mills: paid once after a pass, before the funded stage; None if none or not
            known.
        activation_within_days: calendar days to pay it; None if no limit.
    """

    price_mills: int | None = None
    billing: Billing = "monthly"
    reset_mills: int | None = None
    activation_mills: int | None = None
    activation_within_days: int | None = None

    @property
    def is_activation_known(self) -> bool:
        """Whether the activation is known; one with days to pay it and no price is not."""
        return self.activation_mills is not None or self.activation_within_days is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Inactivity:
    """What keeps an account from being closed for idleness.

    Attributes:
        window_days: rolling calendar days.
        active_days: days in every window that must count.
        day_profit_mills: net profit that makes a day count; None if a round trip suffices.
    """

    window_days: int
    active_days: int = 1
    day_profit_mills: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What the firm demands around scheduled releases; not simulated, only told.

    Attributes:
        policy: free, restricted, or unknown.
        note: the restriction in words.
    """

    policy: NewsPolicy = "unknown"
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rulebook:
    """Everything one firm demands of one account in one stage on one platform.

    Attributes:
        id: the file's stem, with "-<platform>" for a platform that is not the book's own.
        firm: the firm's name.
        plan: the product's name.
        size_mills: nominal account size.
        stage: evaluation or funded.
        platform: platform whose values these are.
        as_of: day the book was last checked.
        confidence: how well the book as a whole is supported.
        source: main source.
        note: what is unsettled; "" if nothing.
        start_balance_mills: balance at the start of the stage; may be 0.
        funded: id of the book that follows a pass; None if there is none.
        time_limit_days: calendar days from the first trading day; None if no limit.
        automation: whether programs may trade.
        drawdown: the floor.
        target: the profit target; None if the stage has none.
        daily_limit: the daily loss limit.
        tiers: size and daily limit by profit, rising; at least one.
        tiers_latched: a tier once reached is kept when the profit falls again.
        days: minimum days.
        consistency: best-day rules.
        clock: flat-by.
        orders: rules on single orders.
        commissions: per contract; a contract that is not here pays its own default.
        products: what may be traded.
        payout: the funded stage's payouts; None in an evaluation.
        fees: prices.
        inactivity: idleness rule; None if there is none.
        news: scheduled releases.
        evidence: source and date of the book, its tables, and single numbers.
    """

    id: str
    firm: str
    plan: str
    size_mills: int
    stage: Stage
    platform: str
    as_of: date
    confidence: Confidence
    source: str
    start_balance_mills: int
    automation: Automation
    drawdown: Drawdown
    tiers: tuple[Tier, ...]
    clock: Clock
    note: str = ""
    funded: str | None = None
    tiers_latched: bool = False
    time_limit_days: int | None = None
    target: Target | None = None
    daily_limit: DailyLimit = field(default_factory=DailyLimit)
    days: Days = field(default_factory=Days)
    consistency: tuple[Consistency, ...] = ()
    orders: Orders = field(default_factory=Orders)
    commissions: tuple[Commission, ...] = ()
    products: Products = field(default_factory=Products)
    payout: Payout | None = None
    fees: Fees = field(default_factory=Fees)
    inactivity: Inactivity | None = None
    news: News = field(default_factory=News)
    evidence: tuple[Evidence, ...] = ()

    def commission_mills(self, symbol: str) -> int | None:
        """Returns the firm's commission per contract and side; None: use the contract's default."""
        for commission in self.commissions:
            if commission.symbol == symbol:
                return commission.side_mills
        return None

    def evidence_for(self, path: str) -> Evidence:
        """Returns what supports a field: its own evidence, its table's, or the book's."""
        known = {item.path: item for item in self.evidence}
        for candidate in (path, path.split(".", 1)[0]):
            if candidate in known:
                return known[candidate]
        return Evidence(
            path="",
            as_of=self.as_of,
            source=self.source,
            confidence=self.confidence,
            note=self.note,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the book as JSON-ready data; money as decimal strings under names in `_usd`."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def fingerprint(self) -> str:
        """Returns the SHA-256, in hex, of the book's whole content in canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def usd(mills: int) -> str:
    """Returns mills as an exact decimal string in USD, at least two decimals: 15625 -> "15.625"."""
    sign, whole, rest = "-" if mills < 0 else "", abs(mills) // 1000, abs(mills) % 1000
    decimals = f"{rest:03d}"
    return f"{sign}{whole}.{decimals if decimals[2] != '0' else decimals[:2]}"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return dict(_item(item.name, getattr(value, item.name)) for item in fields(value))
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.strftime("%H:%M")
    return value


def _item(name: str, value: Any) -> tuple[str, Any]:
    if not name.endswith("_mills"):
        return name, _plain(value)
    key = name.removesuffix("_mills") + "_usd"
    if isinstance(value, tuple):
        return key, [usd(item) for item in value]
    return key, None if value is None else usd(value)
