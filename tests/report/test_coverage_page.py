"""The drawing of a coverage: one PNG, one HTML page that needs nothing else."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from passline.errors import BarsError, RunError
from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load import Coverage, check_bars
from passline.report.coverage_page import draw_coverage

MINUTE_NS = 60 * 10**9
SUNDAY_NS = 1_709_506_800_000_000_000


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    ts = np.concatenate([SUNDAY_NS + day * 1440 * MINUTE_NS + np.arange(1380) * MINUTE_NS
                         for day in (0, 1, 3, 4)])  # fmt: skip
    flat = np.full(len(ts), 20_000, dtype=np.int32)
    bars = Bars(
        contract=find_contract("ES"),
        bar_ns=MINUTE_NS,
        ts=ts,
        open=flat,
        high=flat,
        low=flat,
        close=flat,
        volume=np.ones(len(ts), dtype=np.int64),
        expiry=np.zeros(len(ts), dtype=np.int16),
        provenance={"dropped_days": ["<script>"]},
    )
    return check_bars(bars)


def test_picture_and_page(tmp_path: Path, coverage: Coverage) -> None:
    png, html = tmp_path / "c.png", tmp_path / "c.html"
    draw_coverage(coverage, png, html)
    assert png.read_bytes().startswith(b"\x89PNG")
    text = html.read_text(encoding="utf-8")
    assert "Trade dates without bars: 1" in text
    assert "2024-03-06" in text
    assert "http" not in text
    assert "&lt;script&gt;" in text
    assert "<li><script>" not in text
    assert '"n_present": 4' in text
    with pytest.raises(BarsError, match="exists already"):
        draw_coverage(coverage, png, html)


def test_what_cannot_be_written_is_named_and_leaves_nothing(
    tmp_path: Path, coverage: Coverage, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target.suffix == ".html":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    png, html = tmp_path / "c.png", tmp_path / "c.html"
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match=r"c\.html: could not be written: No space left on device"):
        draw_coverage(coverage, png, html)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    draw_coverage(coverage, None, html)
    assert [path.name for path in tmp_path.iterdir()] == ["c.html"]
