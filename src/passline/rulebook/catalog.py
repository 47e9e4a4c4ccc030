"""Finds rulebooks by id or path and resolves what a file inherits and what a platform changes.

A file may say `extends = "other-id"`: its keys replace the other's, table by table. A table
`[platforms.<name>]` holds what differs on another platform; that variant has the id
"<stem>-<name>". The value "none" unsets an inherited key. Built-in files whose names begin with an
underscore are parts for others to extend and no books themselves.
"""

import re
import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path

from passline.errors import RulebookError
from passline.rulebook.model import Rulebook
from passline.rulebook.read import TOP_KEYS, read_rulebook
from passline.rulebook.table import Raw, Table

__all__ = ["list_rulebooks", "load_rulebook"]

BOOKS = Path(__file__).parent / "books"
MAX_FILE_BYTES = 1_000_000


def load_rulebook(id_or_path: str | Path, *, platform: str | None = None) -> Rulebook:
    """Loads a built-in book by its id, or a user's book by its path.

    Args:
        id_or_path: an id such as "apex-intraday-50k-tradovate"; anything that ends in ".toml" or
            is a Path is a file.
        platform: one of the platforms of the book, instead of its own.

    Raises:
        RulebookError: if there is no such book (naming near ones) or it cannot be read.
    """
    if isinstance(id_or_path, Path) or id_or_path.endswith(".toml"):
        path = Path(id_or_path)
        stem, file, raw = path.stem, path.name, _resolve(path, ())
    else:
        stem, file, raw = _find_built_in(id_or_path)
    variants = _variants(stem, raw, file)
    if platform is None or variants[0][1].get("platform") == platform:
        id, chosen, label = variants[0]
        return read_rulebook(chosen, id=id, file=label)
    for id, chosen, label in variants[1:]:
        if chosen["platform"] == platform:
            return read_rulebook(chosen, id=id, file=label)
    known = ", ".join(str(item[1].get("platform")) for item in variants)
    raise RulebookError(f"{file}: no platform '{platform}'. Its platforms: {known}.")


@cache
def list_rulebooks() -> tuple[Rulebook, ...]:
    """Returns all built-in books with their platform variants, by id (25k before 100k)."""
    books = [
        read_rulebook(raw, id=id, file=label)
        for stem in _stems()
        for id, raw, label in _variants(stem, _resolve(BOOKS / f"{stem}.toml", ()), f"{stem}.toml")
    ]
    return tuple(sorted(books, key=lambda book: _natural(book.id)))


def _stems() -> list[str]:
    return [path.stem for path in BOOKS.glob("*.toml") if not path.stem.startswith("_")]


def _natural(id: str) -> list[tuple[bool, int, str]]:
    parts = re.findall(r"\d+|\D+", id)
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def _find_built_in(id: str) -> tuple[str, str, Raw]:
    """Returns the id, the file's label and the document of a built-in book or platform variant."""
    stems = set(_stems())
    if id in stems:
        return id, f"{id}.toml", _resolve(BOOKS / f"{id}.toml", ())
    stem = id
    while "-" in stem:
        stem = stem.rpartition("-")[0]
        if stem in stems:
            file = f"{stem}.toml"
            for name, raw, label in _variants(stem, _resolve(BOOKS / file, ()), file):
                if name == id:
                    return id, label, raw
    raise RulebookError(f"no rulebook '{id}'.{_suggest(id)} All: passline rulebooks")


def _suggest(id: str) -> str:
    """Returns "Did you mean a or b?" for the nearest ids: words alike, numbers equal."""
    from difflib import SequenceMatcher  # noqa: PLC0415

    def words(text: str) -> list[str]:
        return re.findall(r"\d+|[a-z]+", text.lower())

    def likeness(asked: str, word: str) -> float:
        if asked.isdigit() or word.isdigit():
            return 1.5 if asked == word else 0.0
        return SequenceMatcher(None, asked, word).ratio()

    scores: dict[str, float] = {}
    for book in list_rulebooks():
        parts = words(book.id)
        scores[book.id] = sum(
            max(likeness(asked, part) for part in parts) for asked in words(id)
        ) - 0.15 * len(parts)
    best = max(scores.values())
    if best < 0.3:
        return ""
    near = [name for name, score in scores.items() if score > best - 0.05][:3]
    return f" Did you mean {' or '.join(near)}?"


def _resolve(path: Path, chain: tuple[Path, ...]) -> Raw:
    """Returns the document of a file over what it extends, `platforms` kept."""
    if path in chain:
        names = " -> ".join(item.name for item in (*chain, path))
        raise RulebookError(f"{chain[0].name}: extends goes in a circle: {names}.")
    raw = _parse_built_in(path) if path.parent == BOOKS else _parse(path)
    Table(path.name, "", raw).only((*TOP_KEYS, "extends", "platforms"))
    if "extends" not in raw:
        return raw
    name = Table(path.name, "", raw).text("extends")
    sibling = path.parent / f"{name}.toml"
    if not re.fullmatch(r"_?[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise RulebookError(
            f"{path.name}: extends was '{name}'; it must be the id of a book or the name of a "
            "file in the same folder, without .toml."
        )
    if sibling.exists() and sibling != path:
        base = _resolve(sibling, (*chain, path))
    elif (BOOKS / f"{name}.toml").exists():
        base = _resolve(BOOKS / f"{name}.toml", (*chain, path))
    else:
        try:
            base = {k: v for k, v in _find_built_in(name)[2].items() if k != "platforms"}
        except RulebookError as error:
            raise RulebookError(f"{path.name}: extends: {error}") from error
    return _merge(base, {key: value for key, value in raw.items() if key != "extends"})


def _variants(stem: str, raw: Raw, file: str) -> list[tuple[str, Raw, str]]:
    """Returns (id, whole document, label) of the book itself and of each other platform."""
    own = {key: value for key, value in raw.items() if key != "platforms"}
    found = [(stem, _drop_none(own), file)]
    platforms = Table(file, "", raw).sub("platforms")
    for name in platforms.raw:
        override = platforms.sub(name)
        if not re.fullmatch(r"[a-z0-9]+", name) or name == raw.get("platform"):
            platforms.fail(
                name,
                "is not a name for another platform; small letters and digits, not the book's own.",
            )
        override.only(TOP_KEYS)
        merged = {**_merge(own, override.raw), "platform": name}
        if isinstance(merged.get("funded"), str) and merged["funded"] != "none":
            merged["funded"] = f"{merged['funded']}-{name}"
        found.append((f"{stem}-{name}", _drop_none(merged), f"{file}, platform {name}"))
    return found


def _merge(base: Raw, over: Raw) -> Raw:
    """Returns base with the keys of `over`; tables merge key by key, arrays are replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _drop_none(raw: Raw) -> Raw:
    return {
        key: _drop_none(value) if isinstance(value, dict) else value
        for key, value in raw.items()
        if value != "none"
    }


@cache
def _parse_built_in(path: Path) -> Raw:
    return _parse(path)


def _parse(path: Path) -> Raw:
    """Returns the file's TOML, floats as Decimal."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "not readable"
        raise RulebookError(
            f"{path}: cannot be read ({reason.lower()}). "
            "Give the path of a rulebook's .toml file, or an id from: passline rulebooks"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise RulebookError(
            f"{path.name}: has {len(data):,} bytes; a rulebook has at most {MAX_FILE_BYTES:,}."
        )
    try:
        return tomllib.loads(data.decode(), parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise RulebookError(f"{path.name}: is not a TOML file: {error}.") from error
