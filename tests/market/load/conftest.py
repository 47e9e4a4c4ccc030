"""What the importer's tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from passline.market.bars import Bars
from passline.market.contracts import find_contract
from passline.market.load import import_bars, read_bars

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Bars]:
    """Imports a file and reads the result back."""

    def run(path: Path, symbol: str = "ES", **options: Any) -> Bars:
        out = tmp_path / "out.parquet"
        out.unlink(missing_ok=True)
        import_bars(path, contract=find_contract(symbol), out=out, **options)
        return read_bars(out)

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real market data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no real market data in ../shared/data")
    return SHARED
