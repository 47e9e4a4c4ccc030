"""Bars from files: the formats, the checks, the rolls, and passline's own file."""

from passline.market.load.coverage import Coverage, check_bars
from passline.market.load.formats import FORMATS, Format
from passline.market.load.importer import ImportReport, import_bars
from passline.market.load.parquet import read_bars, write_bars
from passline.market.load.resample import resample_bars
from passline.market.load.rolls import ROLL_RULES, Roll

__all__ = [
    "FORMATS",
    "ROLL_RULES",
    "Coverage",
    "Format",
    "ImportReport",
    "Roll",
    "check_bars",
    "import_bars",
    "read_bars",
    "resample_bars",
    "write_bars",
]
