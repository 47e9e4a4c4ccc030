"""Bars from files: the formats, the checks, the rolls, and passline's own file."""

from passline.market.load.importer import ImportReport, import_bars
from passline.market.load.parquet import read_bars, write_bars

__all__ = ["ImportReport", "import_bars", "read_bars", "write_bars"]
