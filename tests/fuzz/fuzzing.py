"""Coverage-guided fuzzing of one target by atheris, for a bounded time.

    python tests/fuzz/fuzzing.py rulebook --seconds 60

Atheris is no dependency of the project: it has wheels for Linux alone. Install it beside the
project with `pip install atheris`. The process ends with 0 if nothing was found; a finding is
printed with its traceback and left in the folder --crashes.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGES = ("passline.market", "passline.rulebook", "passline.evaluate.audit", "passline.config")
PACKAGES += ("passline.evaluate.signals", "passline.task.phases", "passline.runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--crashes", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1]))
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=[*PACKAGES, "tomllib"]):
        inputs = importlib.import_module("inputs")
    target = inputs.TARGETS[given.target]

    def one_input(data: bytes) -> None:
        inputs.check(target, data)

    corpus = Path(tempfile.mkdtemp())
    for number, seed in enumerate(target.seeds):
        (corpus / f"sound-{number}").write_bytes(seed)
    options = [f"-max_total_time={given.seconds}", f"-artifact_prefix={given.crashes}/"]
    options += ["-timeout=30", "-max_len=20000", "-seed=1", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
