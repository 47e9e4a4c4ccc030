"""Books in words: what a trader reads must be what the book says."""

from passline.rulebook import describe, load_rulebook


def words(id: str) -> dict[str, str]:
    return {row.field: row.value for row in describe(load_rulebook(id))}


def test_intraday_evaluation() -> None:
    found = words("apex-intraday-50k")
    assert found["floor follows"] == "the highest equity, open profit included"
    assert found["allowance"] == "$2,000; first floor $48,000, tested in real time by touch"
    assert found["floor stops"] == "at $53,000 once the peak reaches $55,000"
    assert found["profit target"] == "$53,000 (profit $3,000), at the close of the day"
    assert found["largest position"] == "6 minis or 60 micros"
    assert found["time limit"] == "30 calendar days"
    assert found["daily loss limit"] == "none"
    assert found["products"] == "all but GC, MGC"
    assert words("apex-intraday-50k-tradovate")["floor stops"] == "never"


def test_end_of_day_funded_with_levels() -> None:
    found = words("apex-eod-50k-pa")
    assert found["floor follows"] == "the highest closing balance"
    assert found["from profit $3,000"] == "4 minis or 40 micros, daily loss limit $2,000"
    assert found["best day, for a payout"] == (
        "below 50 % of profit since the last payout; otherwise it waits"
    )
    assert found["payouts"] == "6, then the account closes"
    assert "profit target" not in found


def test_legacy_funded() -> None:
    found = words("apex-legacy-50k-pa")
    assert found["stop distance"] == "at most 5 times the target's"
    assert found["open loss of a round trip"].startswith("30 % of the profit at the start of the")
    assert found["largest request"] == "$2,000; no cap from payout 6"
    assert found["split"] == "90 % to the trader, 100 % of the first $25,000"
    assert found["balance that stays"] == "$52,100, for the first 3 payouts"


def test_topstep() -> None:
    found = words("topstep-combine-50k-dll")
    assert found["daily loss limit"] == (
        "$1,000: the day is over, the account lives; resets 18:00 ET"
    )
    assert found["best day, for a pass"] == (
        "at most 55 % of the total profit; otherwise the target rises"
    )
    assert words("topstep-xfa-50k")["allowance"].startswith("$2,000; first floor -$2,000")


def test_static_and_hard_limit() -> None:
    assert words("apex-legacy-100k-static")["floor follows"] == "nothing; it never moves"
    assert words("earn2trade-gauntlet-mini-50k")["daily loss limit"] == "$1,100: the account fails"


def test_rows_carry_their_own_source() -> None:
    rows = {row.field: row for row in describe(load_rulebook("apex-intraday-100k"))}
    assert rows["floor stops"].confidence == "medium"
    assert rows["floor stops"].note.startswith("Only the 50K figures")
    assert rows["allowance"].confidence == "high"
    assert rows["price"].source == "apextraderfunding.com product catalog"
    assert rows["programs"].section == "automation"
    assert rows["time limit"].section == "days"
