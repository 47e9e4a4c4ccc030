from pathlib import Path

import pytest
from made_run import make_run

from passline.runs import Run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run without an edge."""
    root: Path = tmp_path_factory.mktemp("runs")
    return make_run(root, n=96)
