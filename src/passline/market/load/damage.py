"""What the libraries under the importers raise on a damaged file."""

import zipfile
import zlib

import polars as pl

__all__ = ["ARCHIVE_ERRORS", "TABLE_ERRORS"]

TABLE_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""Of polars; a damaged page of a Parquet file makes it panic, which is no Exception in Python."""
ARCHIVE_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, UnicodeError)
"""Of unpacking; RuntimeError where a zip's member is encrypted or packed in an unknown way."""
