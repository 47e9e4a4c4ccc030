"""docs/task.md and docs/market.md name everything that exists, with the numbers that hold."""

import dataclasses
import re
from pathlib import Path

import pytest

from passline.market import planted
from passline.market.synthetic import MECHANISMS, SYN, SyntheticConfig
from passline.sim.layout import DoneReason
from passline.task.account import ACCOUNT_FEATURES
from passline.task.actions import ACTION_NAMES
from passline.task.episodes import POOLS
from passline.task.phases import GATE_MEASURES, load_phases
from passline.task.prepare import OBSERVATION_NAMES, TaskConfig
from passline.task.reward import REWARD_TERMS

DOCS = Path(__file__).parents[2] / "docs"
TASK, MARKET = ((DOCS / name).read_text() for name in ("task.md", "market.md"))
PHASES = load_phases()


def section(page: str, title: str) -> str:
    """Returns what stands under a heading."""
    found = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    assert found, title
    return found


def rows(text: str) -> dict[str, list[str]]:
    """Returns the rows of all tables by their first name in backticks, or first words."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].strip().strip("`"): [c.strip() for c in cells[1:]] for cells in lines}


def names(text: str) -> list[str]:
    """Returns the names in the first columns of a section's tables, in order."""
    found = []
    for line in text.splitlines():
        if line.startswith("| `"):
            found += re.findall(r"`(\w+)`", line.split("|")[1])
    return found


def test_every_account_feature_stands_in_its_order() -> None:
    assert names(section(TASK, "What it sees")) == list(ACCOUNT_FEATURES)
    n_market = len(OBSERVATION_NAMES) - len(ACCOUNT_FEATURES)
    assert f"market's side, {n_market} columns" in TASK
    assert f"account's {len(ACCOUNT_FEATURES)} columns" in TASK


def test_every_action_stands_in_its_order() -> None:
    text = section(TASK, "What it may do")
    assert names(text) == list(ACTION_NAMES)
    config = TaskConfig()
    assert f"`stop_atr` ({config.stop_atr:g})" in text
    assert f"`target_r` ({config.target_r:g})" in text
    assert f"`risk_permille` ({', '.join(map(str, config.risk_permille))})" in text
    assert f"which of the {len(ACTION_NAMES)} actions" in section(TASK, "The mask")


def test_every_reward_term_and_gate_is_explained() -> None:
    assert names(section(TASK, "What it is paid for")) == list(REWARD_TERMS)
    assert set(names(section(TASK, "The phases"))) == set(GATE_MEASURES)


@pytest.mark.parametrize("index", range(len(PHASES)))
def test_the_phases_are_those_of_the_file(index: int) -> None:
    phase, table = PHASES[index], rows(section(TASK, "The phases"))
    column = {name: cells[index] for name, cells in table.items() if len(cells) == len(PHASES)}
    assert column[""] == f"`{phase.name}`"
    terms = [f"`{name}` · {weight:g}" for name, weight in phase.reward.items()]
    assert column["reward"] == ", ".join(terms)
    assert column["sizes"] == ", ".join(map(str, phase.sizes))
    assert float(column["share of the steps"]) == phase.budget_share
    assert float(column["discount a bar"]) == phase.gamma
    for gate in phase.gate:
        assert f"`{gate.measure}` above {gate.above:g}".replace("-", "−") in column["gates"]
    taken = [rule for rule, value in phase.rules.items() if value == "off"]
    assert [
        rule for rule in taken if rule.replace("_", " ") not in column["rules taken away"]
    ] == []


@pytest.mark.parametrize("index", range(len(PHASES)))
def test_the_mix_is_that_of_the_file(index: int) -> None:
    table = rows(section(TASK, "Where episodes start").partition("| pool |")[0])
    weights = {n: cells[index + 1] for n, cells in table.items() if len(cells) == 1 + len(PHASES)}
    header = weights.pop("component")
    assert header == f"`{PHASES[index].name}`"
    stated = {name: float(weight) for name, weight in weights.items() if weight}
    assert stated == {c.name: c.weight for c in PHASES[index].mix}


def test_every_pool_and_end_of_an_episode_is_named() -> None:
    text = section(TASK, "Where episodes start")
    assert names(text)[-len(POOLS) :] == list(POOLS)
    for reason in DoneReason:
        assert reason is DoneReason.NONE or f"`{reason.name.lower()}`" in text


def test_the_markets_settings_and_mechanisms_are_those_of_the_code() -> None:
    table = rows(MARKET)
    stated = " ".join(cell for name, cells in table.items() for cell in (name, cells[-1]))
    for field in dataclasses.fields(SyntheticConfig):
        assert f"`{field.name}`" in MARKET
        default = field.default
        text = f"{default:,g}" if isinstance(default, int | float) else str(default)
        assert text in stated, field.name
    assert names(section(MARKET, "What is planted")) == list(MECHANISMS)
    for rule, edge, reach in (
        ("vwap_reversion", planted.VWAP_EDGE, planted.VWAP_REACH),
        ("open_momentum", planted.OPEN_EDGE, planted.OPEN_REACH),
        ("volatility_drift", planted.STATE_EDGE, planted.STATE_REACH),
    ):
        assert f"{edge:g} · s" in table[rule][0]
        assert f"/ {reach:g}s" in table[rule][0]
    spans = f"over {planted.SCALE:g}, {planted.FAST:g} and {planted.SLOW:g} bars"
    assert spans in MARKET
    assert f"before {planted.WARM_UP} bars" in MARKET
    assert (
        f"${SYN.tick_mills / 1000:.2f} a tick, ${SYN.commission_mills / 1000:.2f} a side" in MARKET
    )
