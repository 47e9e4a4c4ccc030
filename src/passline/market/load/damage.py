"""What the libraries under the importers raise: on a damaged file, or where the system refuses."""

import os
import re
import zipfile
import zlib

import polars as pl

__all__ = ["ARCHIVE_ERRORS", "TABLE_ERRORS", "system_words"]

TABLE_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""Of polars; a damaged page of a Parquet file makes it panic, which is no Exception in Python."""
ARCHIVE_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, UnicodeError)
"""Of unpacking; RuntimeError where a zip's member is encrypted or packed in an unknown way."""

_SYSTEM_NUMBER = re.compile(r"\(os error (\d+)\)")


def system_words(error: BaseException) -> str | None:
    """Returns what the system said where it refused to read or write, None on any other error.

    polars tells of a full disk by an error of its own, or by an OSError without a number; both have
    the system's number in their message.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    found = _SYSTEM_NUMBER.search(str(error))
    return None if found is None else os.strerror(int(found[1]))
