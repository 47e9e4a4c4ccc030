"""The package as a whole: names, rooms, commands, what is loaded when, and what the wheel holds."""

import ast
import importlib
import importlib.util
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType

import click
import pytest

import passline
from passline.cli import COMMANDS, main

SOURCE = Path(passline.__file__).parent
ROOT = SOURCE.parents[1]
HEAVY = ("jax", "jaxlib", "matplotlib", "optax", "polars", "tensorboardX")
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(passline.__path__, "passline.")
    if info.name != "passline.__main__"
)
EXTRAS = {"passline.envs.sb3_vec": "stable_baselines3"}
"""Modules that need a library which the tests do without."""
needs_checkout = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="not run from a checkout"
)


def run_python(code: str) -> str:
    """Runs code in a fresh interpreter, warnings being errors; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def has_code(module: ModuleType) -> bool:
    """Says whether a module has more than its docstring."""
    assert module.__file__ is not None
    return len(syntax(Path(module.__file__)).body) > 1


def room(name: str) -> str:
    """Returns passline.market for passline.market.load.tape."""
    return ".".join(name.split(".")[:2])


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_the_module_has(name):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"{EXTRAS[name]} is not installed")
    module = importlib.import_module(name)
    if not has_code(module):
        return
    names = vars(module).get("__all__")
    assert names is not None, f"{name} has no __all__"
    assert len(set(names)) == len(names)
    missing = [item for item in names if item not in vars(module)]
    assert missing == []
    assert [item for item in names if item.startswith("_") and item != "__version__"] == []
    assert module.__doc__, f"{name} has no docstring"


def imports_between_rooms() -> list[tuple[str, str, str]]:
    """Returns (importing module, module, name) of every import from another room."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        here = ".".join(("passline", *path.relative_to(SOURCE).with_suffix("").parts))
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("passline"):
                assert node.level == 0, f"{here}: relative import"
                if room(node.module or "") != room(here):
                    found += [(here, str(node.module), alias.name) for alias in node.names]
    return found


def test_rooms_use_only_each_others_public_names():
    found = imports_between_rooms()
    assert len(found) > 50
    hidden = []
    for here, module, name in found:
        if f"{module}.{name}" in MODULES:
            continue
        if name not in vars(importlib.import_module(module)).get("__all__", ()):
            hidden.append(f"{here} imports {name} of {module}, which is not in its __all__")
    assert hidden == []


# --- rooms ---------------------------------------------------------------------------------------


def import_contracts() -> list[dict[str, list[str]]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts: list[dict[str, list[str]]] = settings["tool"]["importlinter"]["contracts"]
    return contracts


def listed_rooms() -> set[str]:
    return set(" | ".join(import_contracts()[0]["layers"]).split(" | "))


@needs_checkout
def test_every_room_has_its_place():
    """A room that the layers do not name could import anything."""
    assert {room(name) for name in MODULES} <= listed_rooms()


@needs_checkout
def test_rooms_point_down():
    absent = sorted(listed_rooms() - {room(name) for name in MODULES})
    if absent:
        pytest.skip(f"not written yet: {', '.join(absent)}")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(import_contracts())} kept, 0 broken" in done.stdout


# --- commands ------------------------------------------------------------------------------------


def find_command(name: str) -> click.Command:
    module = COMMANDS[name][0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"not written yet: {module}")
    command: click.Command = vars(importlib.import_module(module))[name]
    return command


def inner_commands(name: str) -> dict[tuple[str, ...], click.Command]:
    """Returns a command and, if it is a group, those in it, by their words."""
    command = find_command(name)
    found: dict[tuple[str, ...], click.Command] = {(name,): command}
    if isinstance(command, click.Group):
        found |= {(name, inner): item for inner, item in command.commands.items()}
    return found


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert out.startswith(" ".join(("Usage: passline", *words)))
    return out


def test_the_programs_help_names_every_command(capsys):
    out = help_of(capsys)
    for name, (_, line) in COMMANDS.items():
        assert f"  {name} " in out
        assert line.split()[0] in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys, name):
    for words in inner_commands(name):
        paragraphs = help_of(capsys, *words).split("\n\n")
        assert len(paragraphs[1].strip()) > 10, words


@needs_checkout
def test_the_readme_lists_every_command():
    rows = [row for row in (ROOT / "README.md").read_text().splitlines() if row.startswith("| `")]
    listed = {word for row in rows for word in re.findall(r"[a-z]+", row.split(" | ")[0])}
    assert set(COMMANDS) <= listed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    for words, command in inner_commands(name).items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{words} {option.opts}"


# --- what is loaded when -------------------------------------------------------------------------


def loaded(code: str) -> set[str]:
    """Returns the top modules loaded after running code in a fresh interpreter."""
    ending = (
        "import json,sys; print('\\n' + json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    return set(json.loads(run_python(f"{code}\n{ending}").splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    names = loaded("import passline")
    assert "passline" in names
    assert names.isdisjoint({*HEAVY, "numpy", "click", "rich"})


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], ()),
        (["contracts"], ()),
        (["calendar", "2024-11"], ()),
        (["rulebooks"], ()),
        (["data", "--help"], ("polars",)),
        (["train", "--help"], set(HEAVY) - {"matplotlib"}),
    ],
)
def test_commands_load_only_what_they_need(arguments, allowed):
    code = (
        "import passline.cli\n"
        "try:\n"
        f"    passline.cli.main({arguments!r})\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 0\n"
    )
    assert loaded(code).isdisjoint(set(HEAVY) - set(allowed))


# --- the wheel -----------------------------------------------------------------------------------


def data_files() -> set[str]:
    """Returns the files beside the code, by their path in the package."""
    return {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file()
        and path.suffix not in {".py", ".pyc"}
        and not any(part.startswith((".", "__")) for part in path.relative_to(SOURCE).parts)
    }


def test_data_files_are_found_as_resources():
    files = data_files()
    assert {"market/contracts.toml", "market/calendar.toml", "task/phases.toml"} <= files
    assert sum(name.startswith("rulebook/books/") for name in files) > 100
    for name in files:
        assert resources.files("passline").joinpath(name).is_file()


@needs_checkout
def test_the_wheel_takes_every_data_file():
    """Hatch takes a listed package whole, but nothing that git ignores."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"] == {
        "targets": {"wheel": {"packages": ["src/passline"]}}
    }
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("git tells what is ignored, and this is no git checkout")
    paths = "\n".join(f"src/passline/{name}" for name in sorted(data_files()))
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input=paths,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ignored.stdout == ""


@needs_checkout
def test_a_built_wheel_holds_the_package_whole(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling is not installed here")
    if not (ROOT / "README.md").is_file():
        pytest.skip("no README.md, which the build reads")
    from hatchling.builders.wheel import WheelBuilder  # noqa: PLC0415

    built = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(built) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("passline/")}
        scripts = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "passline = passline.cli:main" in wheel.read(scripts).decode()
    code = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")}
    assert names == {f"passline/{name}" for name in code | data_files()}
