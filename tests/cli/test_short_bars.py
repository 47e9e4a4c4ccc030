"""Bars of a few days, such as a vendor's sample: refused with the days there are and needed."""

import re

import pytest

from made_bars import bars_of
from passline.market.load import write_bars


@pytest.mark.parametrize("command", ["train", "walkforward"])
@pytest.mark.parametrize("n_days", [2, 5])
def test_a_few_days_are_refused_and_nothing_is_left(
    refused, tmp_path, monkeypatch, command, n_days
):
    monkeypatch.chdir(tmp_path)
    days = range(9, 9 + n_days)
    spans = [(f"2024-01-{d - 1:02d} 18:00", f"2024-01-{d:02d} 17:00") for d in days]
    write_bars(bars_of(*spans, minutes=5), tmp_path / "es.parquet")
    words = ("--rulebook", "topstep-combine-50k", "--steps", 100_000)
    line = refused(command, "--bars", "es.parquet", *words)
    assert f"ES: the bars hold {n_days} trading days" in line
    assert re.search(r"6 trading days at least to be played, and 45 .* to be trained on", line)
    assert [path.name for path in tmp_path.iterdir()] == ["es.parquet"]
