"""What a command would not heed is refused by name, before anything is read."""

import pytest

from passline.cli import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("train --resume gone --steps 9 --rulebook x", "leave out --rulebook, --steps."),
        ("train --resume gone --from other", "leave out --from."),
        ("train --resume gone --leave-out each", "leave out --leave-out."),
        ("train --resume gone --set ppo.gamma=0.9", "leave out --set."),
        ("walkforward --resume gone --folds 3 --force", "leave out --folds, --force."),
        ("walkforward --resume gone --config x.toml --jobs 2", "leave out --config."),
        ("nulltest gone --bars x.parquet --n 19", "leave out --bars."),
        ("evaluate gone --name again", "leave out --name."),
    ],
)
def test_settings_beside_a_run_are_refused_by_name(words, told, capsys, tmp_path) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), "--root", str(tmp_path / "runs")])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert "own settings" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "train --resume gone --force --json",
        "walkforward --resume gone --jobs 2",
        "nulltest gone --n 19 --kind all --seeds 2 --force",
        "evaluate gone --json",
    ],
)
def test_what_says_how_to_go_on_is_heeded(words, capsys, tmp_path) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), "--root", str(tmp_path / "runs")])
    assert stop.value.code == 2
    assert "gone" in capsys.readouterr().err
