"""Measures the import of a generated CSV of one-minute bars: rows/s and growth of peak memory.

Every contender runs in a process of its own, so that peaks do not mix; pandas.read_csv, where
pandas is installed, only parses and checks nothing. Run from the repository's root:

    python benchmarks/importer.py --rows 5000000 --json
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from passline.market.contracts import find_contract
from passline.market.load import import_bars

BYTES_PER_ROW = 8 + 4 * 8 + 8 + 1
"""Output table in memory: ts, four prices, volume, index of the month."""
SESSION_BARS = 1380


def generate(path: Path, n_rows: int) -> None:
    """Writes one-minute bars of sessions from 1990 on, on the tick of ES, at weekdays only."""
    rng = np.random.default_rng(0)
    n_days = -(-n_rows // SESSION_BARS)
    day = np.arange(n_days)
    open_day = np.datetime64("1990-01-07T18:00") + (day // 5 * 7 + day % 5) * np.timedelta64(1, "D")
    minutes = np.arange(SESSION_BARS) * np.timedelta64(1, "m")
    ts = (open_day[:, None] + minutes[None, :]).reshape(-1)[:n_rows].astype("datetime64[us]")
    close = 16_000 + np.cumsum(rng.integers(-4, 5, n_rows)) % 4000
    close = np.where(close % 8000 < 4000, close, 8000 - close % 8000)
    opened = close + rng.integers(-4, 5, n_rows)
    table = {
        "timestamp": ts,
        "open": opened * 0.25,
        "high": (np.maximum(opened, close) + rng.integers(0, 4, n_rows)) * 0.25,
        "low": (np.minimum(opened, close) - rng.integers(0, 4, n_rows)) * 0.25,
        "close": close * 0.25,
        "volume": rng.integers(1, 3000, n_rows),
    }
    pl.DataFrame(table).write_csv(path, datetime_format="%Y-%m-%d %H:%M:%S")


def run_passline(path: Path, folder: Path) -> int:
    out = folder / f"out-{time.monotonic_ns()}.parquet"
    report = import_bars(
        path, contract=find_contract("ES"), out=out, tz="America/New_York", stamp="open"
    )
    out.unlink()
    return report.n_bars


def run_pandas(path: Path, folder: Path) -> int:
    import pandas as pd  # noqa: PLC0415

    return len(pd.read_csv(path, parse_dates=["timestamp"]))


CONTENDERS: dict[str, Callable[[Path, Path], int]] = {
    "passline": run_passline,
    "pandas": run_pandas,
}


def peak_mib() -> float:
    """Returns this process's own peak; ru_maxrss would carry over that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, path: Path, repeats: int) -> dict[str, Any]:
    """Runs one contender in this process: a small file first, so that imports do not count."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.csv"
        with path.open("rb") as file:
            small.write_bytes(b"".join(file.readline() for _ in range(2000)))
        CONTENDERS[name](small, Path(folder))
        before = peak_mib()
        seconds, growth, n_rows = [], 0.0, 0
        for repeat in range(repeats):
            begun = time.perf_counter()
            n_rows = CONTENDERS[name](path, Path(folder))
            seconds.append(time.perf_counter() - begun)
            growth = peak_mib() - before if repeat == 0 else growth
    table_mib = n_rows * BYTES_PER_ROW / 2**20
    return {
        "contender": name,
        "rows": n_rows,
        "seconds": [round(value, 3) for value in seconds],
        "rows_per_s_best": round(n_rows / min(seconds)),
        "peak_growth_mib_first_run": round(growth),
        "peak_growth_mib_all_runs": round(peak_mib() - before),
        "output_table_mib": round(table_mib),
        "growth_over_table": round(growth / table_mib, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", choices=sorted(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.only:
        print(json.dumps(measure(words.only, words.file, words.repeats)))
        return
    names = [name for name in CONTENDERS if name == "passline" or find_spec(name)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        generate(path, words.rows)
        rows = [
            json.loads(
                subprocess.run(
                    [
                        *(sys.executable, __file__, "--only", name, "--file", str(path)),
                        *("--repeats", str(words.repeats)),
                    ],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for name in names
        ]
        size_mib = round(path.stat().st_size / 2**20)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "load_1m": round(os.getloadavg()[0], 2),
        "file_mib": size_mib,
        "results": rows,
    }
    if words.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['machine']}, load {result['load_1m']}, commit {commit}, {result['date']}")
    for row in rows:
        print(
            f"{row['contender']:>9}: {row['rows_per_s_best']:>12,} rows/s, "
            f"peak growth {row['peak_growth_mib_first_run']:,} MiB "
            f"({row['growth_over_table']} x the output table of {row['output_table_mib']:,} MiB)"
        )


if __name__ == "__main__":
    main()
