"""docs/rulebooks.md: its example is a whole book, and it names every key that a book may have."""

import re
from pathlib import Path

import pytest

from passline.rulebook import load_rulebook
from passline.rulebook.read import TABLE_KEYS, TOP_KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "rulebooks.md").read_text()


def test_example_is_a_whole_book(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    path = tmp_path / "my-firm-50k.toml"
    path.write_text(found[1])
    book = load_rulebook(path)
    assert (book.id, book.drawdown.lock_level_mills) == ("my-firm-50k", 50_000_000)


@pytest.mark.parametrize("table", list(TABLE_KEYS))
def test_every_table_and_key_is_explained(table: str) -> None:
    section = PAGE.partition(f"### `[{table}]`")[2].partition("\n### ")[0]
    assert section
    for key in TABLE_KEYS[table]:
        assert f"`{key}`" in section or f"`{key}." in section, key


def test_every_top_key_is_explained() -> None:
    for key in TOP_KEYS:
        assert f"`{key}`" in PAGE or f"[{key}]" in PAGE or f"[{key}." in PAGE, key
