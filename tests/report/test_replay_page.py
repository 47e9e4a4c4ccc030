"""The replay page: one file with every bar in it, whose script does what hands ask of it."""

import base64
import html
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from passline.evaluate.replay import Replay
from passline.evaluate.replay import replay as play_again
from passline.evaluate.replay_bars import NONE, bar_table
from passline.evaluate.replay_choice import choose_evaluation, list_stored
from passline.report.replay_page import Death, render_deaths, render_replay
from passline.sim.layout import NO_PRICE, FillReason
from passline.task.prepare import OBSERVATION_NAMES
from replaying import AGENT, PHASE, judge_small

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
     if (found := shutil.which(name))),
    None,
)  # fmt: skip
DTYPES = {"f8": "<f8", "f4": "<f4", "i4": "<i4", "u4": "<u4", "u2": "<u2", "u1": "u1"}


@pytest.fixture(scope="module")
def replay(prepared, phases, params_of, cut, tmp_path_factory) -> Replay:
    """The longest episode that died."""
    params = params_of(prepared, phases[PHASE])
    judged = judge_small(prepared, params, cut, tmp_path_factory.mktemp("judged"))
    stored = list_stored(judged.table, choose_evaluation(judged.table))
    died = max((s for s in stored if s.is_death), key=lambda s: s.table.ep_length[0])
    end_bar = int(judged.starts.end_bar[stored.index(died)])
    return play_again(prepared, judged.params, AGENT, died, end_bar)


@pytest.fixture(scope="module")
def page(replay) -> str:
    return render_replay(replay, run="a-run", checkpoint="3-account-000000000007")


def unpack(page: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Reads the page's data as its script does."""
    found = re.search(r'<script type="application/json" id="head">(.*?)</script>', page, re.DOTALL)
    head = json.loads(found[1])
    block = zlib.decompress(base64.b64decode(re.search(r'id="block">([^<]*)</script>', page)[1]))
    arrays = {
        name: np.frombuffer(block, DTYPES[kind], count, at)
        for name, (kind, at, count) in head["arrays"].items()
    }
    return head, arrays


def test_the_page_needs_nothing_else_and_names_the_episode(page, replay) -> None:
    assert not re.search(r'(src|href)="|@import|url\(|https?:|fetch\(|XMLHttp', page)
    stored = replay.stored
    assert f"{stored.slice} · episode {stored.episode}" in page
    assert 'class="chip bad">breached · floor<' in page
    assert page.count("<script") == page.count("</script>") == 3
    assert "prefers-color-scheme: dark" in page


def test_every_array_travels_whole(page, replay) -> None:
    head, arrays = unpack(page)
    table, n = bar_table(replay), len(replay)
    assert head["n"] == n
    assert (replay.steps.obs == arrays["obs"].reshape(-1, n).T).all()
    assert (replay.steps.logits == arrays["logits"].reshape(-1, n).T).all()
    assert (arrays["action"] == replay.steps.action).all()
    assert (arrays["time"] * 1e9 == table.ts).all()
    bits = (arrays["mask"][:, None] >> np.arange(len(head["actions"]))) & 1
    assert (bits == replay.steps.mask).all()
    for name in ("open", "high", "low", "close", "equity", "floor", "position", "happening"):
        assert (arrays[name] == getattr(table, name)).all(), name
    for name in ("stop", "target", "entry_price", "exit_price", "trip_net"):
        column = getattr(table, name)
        assert (arrays[name] == np.where(column == NONE, NO_PRICE, column)).all(), name
    np.testing.assert_allclose(
        arrays["reward_terms"].reshape(-1, n).sum(axis=0), replay.steps.reward, atol=1e-5
    )


def test_the_stop_in_force_is_the_one_that_filled(page, replay, prepared) -> None:
    """Unless the bar opened beyond it, a stop fills at its price, slipped."""
    _, arrays = unpack(page)
    table = bar_table(replay)
    slip = int(prepared.markets.slippage_ticks[0])
    is_stop = table.exit_reason == FillReason.STOP
    side = np.sign(table.exit_qty)
    gapped = side * (table.open - arrays["stop_in_force"]) < 0
    fills = table.exit_price + side * slip
    assert is_stop.sum() > 2
    assert (arrays["stop_in_force"][is_stop & ~gapped] == fills[is_stop & ~gapped]).all()
    is_target = table.exit_reason == FillReason.TARGET
    assert (arrays["target_in_force"][is_target] == table.exit_price[is_target]).all()


def test_the_list_of_deaths_leads_to_their_last_bars(replay) -> None:
    deaths = [Death(replay.stored, "one.html"), Death(replay.stored, "two & three.html")]
    text = render_deaths(deaths, run="a-run", n_episodes=24)
    assert "Episodes that died: 2 of 24" in text
    assert "The floor was touched" in text
    assert re.findall(r'href="([^"]+)"', text) == [
        "one.html#bar=end",
        "two &amp; three.html#bar=end",
    ]
    result = int(replay.stored.table.result_mills[0]) / 1000
    assert f"{result:+,.2f}" in text


# --- in a browser --------------------------------------------------------------------------------

PROBE = Path(__file__).with_name("replay_probe.js")


def browse(page: str, folder: Path) -> dict:
    """Opens a page in headless Chromium and returns what the self-test found."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed here, which runs the page's script")
    file = folder / "page.html"
    file.write_text(
        page.replace("<script type=", f"<script>{PROBE.read_text()}</script>\n<script type=", 1)
    )
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'browser'}", "--window-size=1400,900",
            "--virtual-time-budget=20000", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr[-2000:]
    found: dict = json.loads(html.unescape(title[1]))
    assert found["errors"] == []
    return found


@pytest.fixture(scope="module")
def found(page, tmp_path_factory) -> dict:
    """What hands find on the page."""
    return browse(page, tmp_path_factory.mktemp("browser"))


def test_keys_wheel_and_clicks_do_what_they_say(replay, found) -> None:
    table, n = bar_table(replay), len(replay)
    events = np.flatnonzero(table.has_event()).tolist()
    exits = np.flatnonzero(table.exit_qty).tolist()
    assert (found["n"], found["trips"]) == (n, len(exits))
    assert found["sum"] == table.equity.sum()
    assert (found["home"], found["right"], found["ten"], found["left"]) == (0, 1, 11, 10)
    later = [event for event in events if event > 0]
    assert found["next"] == later[:3]
    assert found["prior"] == later[1]
    assert found["exits"] == exits[:2]
    assert found["end"] == n - 1
    assert found["whole"] == {"from": 0, "to": n}
    assert 0.3 < found["zoomed"] < 0.9
    assert abs(found["anchor"]) < 0.5
    assert found["panned"] > 5
    assert abs(found["kept"]) < 1e-6
    assert found["clicked"] == 25
    assert found["ink"][0] != found["ink"][1]
    assert min(found["colors"].values()) > 6
    assert 1 <= found["filtered"] < 5


def test_the_inspector_tells_the_bar_at_the_cursor(replay, found) -> None:
    table, steps = bar_table(replay), replay.steps
    size = float(replay.prepared.bars[0].contract.tick_size)
    assert found["told"].endswith("end: breached, floor")
    assert f"{int(table.exit_price[-1]) * size:.2f}" in found["closed"]
    net = int(table.trip_net[-1])
    assert f"{abs(net) / 1000:,.2f}" in found["closed"]
    cushion = int(table.cushion[-1])
    assert found["cushion"].startswith(f"{abs(cushion) / 1000:,.2f} below")
    assert found["masked"] == (~steps.mask[40]).sum()
    assert found["seen"] == len(OBSERVATION_NAMES)
    assert found["equity"] == f"{int(table.equity[40]) / 1000:,.2f}"
    assert f"C {int(table.close[40]) * size:.2f}" in found["legend"]


def test_ten_thousand_bars_are_drawn(replay, tmp_path) -> None:
    """The episode over and over: no story, but as many bars."""
    n = -(-10_000 // len(replay))
    steps = jax.tree.map(lambda x: np.concatenate([x] * n), replay.steps)
    many = replace(
        replay,
        steps=steps,
        bar=np.tile(replay.bar, n),
        kept_path=np.tile(replay.kept_path, n),
    )
    page = render_replay(many, run="a-run", checkpoint="one")
    assert len(page) < 6e6
    found = browse(page, tmp_path)
    assert found["n"] >= 10_000
    assert found["colors"]["whole"] > 6
    assert found["whole"] == {"from": 0, "to": found["n"]}
