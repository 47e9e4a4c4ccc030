"""Everything that reads a stranger's file, as one function of bytes each, with sound examples.

A target writes the bytes into an empty folder and hands the file to its reader. It may refuse them
with one of our errors and nothing else; it may not hang; and what it refuses leaves no file behind.
The commands must end with 0, 2 or 3, say a refusal in one line on stderr and nothing on stdout,
and print whole JSON otherwise.
"""

import contextlib
import gzip
import io
import json
import signal
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

import made_dbn
import made_sb3
from passline.cli import main
from passline.config import read_config
from passline.errors import CheckpointError, PasslineError
from passline.evaluate.audit.formats import read_trips
from passline.evaluate.audit.judge import audit
from passline.evaluate.signals import read_signals
from passline.learn.checkpoint import read_checkpoint_info
from passline.learn.sb3_model import read_sb3_model
from passline.learn.torch_file import read_state_dict
from passline.market.bars import Bars
from passline.market.contracts import find_contract, load_contracts
from passline.market.load import import_bars, read_bars, write_bars
from passline.rulebook.catalog import load_rulebook
from passline.runs import list_runs, open_run
from passline.task.phases import PHASES_FILE, load_phases

__all__ = ["TARGETS", "Target", "check"]

CPU_LIMIT_S, LIMIT_S = 20, 120
"""A target that has not ended after so much of the processor's time, or of the clock's, hangs."""
BOOK = """
firm = "Mine"
plan = "Test"
size = 50_000
stage = "evaluation"
platform = "desk"
start_balance = 50_000
as_of = 2026-11-01
confidence = "low"
source = "a letter"
[automation]
policy = "allowed"
[drawdown]
trail = "intraday"
allowance = 2000
lock_trigger = 52_000
lock_level = 50_000
[target]
profit = 3000
[daily_limit]
kind = "soft"
amount = 1000
[[tiers]]
from_profit = 0
minis = 5
[[consistency]]
scope = "pass"
best_day = 0.55
[clock]
flat_by = "16:59"
[platforms.other.drawdown]
allowance = 1_500
"""
SIGNALS = (
    "time,action,qty,stop_ticks,target_ticks\n"
    "2025-01-06T14:31:00Z,long,1,20,40\n2025-01-06T14:33:00Z,trail_on,,,\n"
    "2025-01-06T14:35:00+00:00,close,,,\n2025-01-06T14:36:00Z,short,2,8,\n"
)
TRADES = (
    "Trade number,Instrument,Account,Strategy,Market pos.,Qty,Entry price,Exit price,Entry time,"
    "Exit time,Entry name,Exit name,Profit,Cum. net profit,Commission,MAE,MFE,ETD,Bars,\n"
    "1,MNQ 06-25,Sim101,,Long,2,20000.25,20010.25,3/12/2025 9:31:00 AM,3/12/2025 9:45:30 AM,Entry,"
    "Target,$37.92,$37.92,$2.08,$15.00,$44.00,$4.00,15,\n"
)
FILLS = (
    "_timestamp,_action,_qty,_price,Fill ID,Timestamp,B/S,Quantity,Price,Contract,commission\n"
    "2025-05-06 13:40:00.500Z,0,2,5600.25,1,05/06/2025 15:40:00, Buy,2,5600.25,ESM5,2.80\n"
    "2025-05-06 13:45:10.000Z,1,2,5601.50,3,05/06/2025 15:45:10, Sell,2,5601.50,ESM5,2.80\n"
)
GENERIC = "time,symbol,side,qty,price\n2025-05-06T13:40:00Z,ES,buy,1,5600.25\n"
GENERIC += "2025-05-06T13:45:00Z,ES,sell,1,5601.25\n"
CONTRACT = """
as_of = 2026-10-06
[source]
mine = "a letter"
[contract.XX]
name = "Mine"
exchange = "CME"
tick_size = "0.25"
tick_usd = "12.50"
point_usd = "50"
size_units = 10
calendar = "equity"
commission_usd = "1.99"
slippage_ticks = 1
source = ["mine"]
"""
SETTINGS = """
[market]
strength = 1.0
[slices]
test_days = 40
[ppo]
learning_rate = 0.0003
n_lanes = 64
"""
SMALL_STATE = {"w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}
RUN_ID = "20260101T000000Z-mine-abcdef"
RUN = 'format = 1\nstatus = "finished"\ncommand = "train"\n[config]\na = 1\n'
CHECKPOINT = 'format = 1\ntensors = "a.safetensors"\nsha256 = "00"\n[meta]\nstep = 1\n'


class Target(NamedTuple):
    """A reader of strangers' files.

    Attributes:
        name: of the file that is written; its ending may matter.
        seeds: sound files.
        read: takes the path of the file in a folder of its own; raises only our errors.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], None]


class BrokenReaderError(AssertionError):
    """A reader did what no reader may do."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Ends a hanging block with an error (main thread of a POSIX system)."""

    def stop(*_: object) -> None:
        raise BrokenReaderError(f"not ended after {CPU_LIMIT_S} s at work, or {LIMIT_S} s in all")

    kinds = (signal.SIGPROF, signal.SIGALRM)
    before = [signal.signal(kind, stop) for kind in kinds]
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def check(target: Target, data: bytes) -> str:
    """Hands data to a target in an empty folder; returns "read" or the refusal, less the folder.

    Raises:
        BrokenReaderError: it hung, left files behind a refusal, or a command ended as none may.
    """
    with tempfile.TemporaryDirectory() as folder, bounded():
        path = Path(folder) / target.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        before = files_of(folder)
        try:
            target.read(path)
        except PasslineError as error:
            if files_of(folder) != before:
                raise BrokenReaderError(
                    f"left {files_of(folder) - before} behind: {error}"
                ) from error
            if not str(error).strip():
                raise BrokenReaderError("refused without a word") from error
            return str(error).replace(folder, "")
        return "read"


def files_of(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def run_command(*arguments: object) -> None:
    """Runs the program and checks how it ended."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
    printed, told = out.getvalue(), err.getvalue()
    if code not in (0, 2, 3):
        raise BrokenReaderError(f"exit code {code}: {told}")
    if code == 0:
        json.loads(printed)
    elif code == 2 and (printed or told.count("\n") != 1 or "Traceback" in told):
        raise BrokenReaderError(f"a refusal said {told!r} and printed {printed[:200]!r}")


# Sound examples.


def bar_rows(separator: str = ",", pattern: str = "2025-01-06 15:{:02d}:00") -> str:
    return "".join(
        separator.join((pattern.format(m), "5000", "5001.25", "4999", "5000.5", "10")) + "\n"
        for m in range(30)
    )


def bar_files() -> tuple[bytes, ...]:
    named = "time,open,high,low,close,volume\n" + bar_rows()
    monthly = "time,open,high,low,close,volume,symbol\n" + bar_rows().replace("\n", ",ESH5\n")
    ninja = bar_rows(";", "20250106 15{:02d}00")
    epoch = "time,open,high,low,close,volume\n" + "".join(
        f"{1736175600 + 60 * m},5000,5001,4999,5000,3\n" for m in range(30)
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("es.csv", named)
    texts = (named, monthly, ninja, epoch)
    return (*(text.encode() for text in texts), gzip.compress(named.encode()), archive.getvalue())


def tick_file() -> bytes:
    rows = (f"2025-01-06 15:{s // 60:02d}:{s % 60:02d},5000.25,1\n" for s in range(0, 600, 7))
    return ("time,price,volume\n" + "".join(rows)).encode()


def json_files() -> tuple[bytes, ...]:
    """Databento's JSON lines of bars, and another's without its header."""
    cells = '"open":"5000.25","high":"5001","low":"4999","close":"5000.5","volume":"10"'
    headed, plain = [], []
    for minute in range(30):
        ts = f'"ts_event":"{1_736_175_600 + 60 * minute}000000000"'
        headed.append(f'{{"hd":{{{ts},"rtype":33,"instrument_id":1}},{cells},"symbol":"ESH5"}}\n')
        plain.append(f'{{"time":"2025-01-06T15:{minute:02d}:00Z",{cells}}}\n')
    return "".join(headed).encode(), "".join(plain).encode()


def dbn_files() -> tuple[bytes, ...]:
    """Bars plain, packed and of two frames, and bars with the time of sending."""
    plain = made_dbn.metadata() + made_dbn.bars(30)
    cut = len(plain) - 10 * made_dbn.BAR_BYTES
    two = made_dbn.zstd_frame(plain[:cut]) + made_dbn.zstd_frame(plain[cut:])
    live = made_dbn.metadata(has_ts_out=True) + made_dbn.with_ts_out(made_dbn.bars(30))
    return plain, made_dbn.zstd_frame(plain), two, live


def lean_file() -> bytes:
    """Two months of a futures day, one of them stored as it is."""
    rows = "".join(f"{54_000_000 + 60_000 * m},5000,5001,4999,5000.5,7\n" for m in range(30))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("20250106_es_minute_trade_202503.csv", rows)
        members.writestr("20250106_es_minute_trade_202506.csv", rows, zipfile.ZIP_STORED)
    return archive.getvalue()


def model_files() -> tuple[bytes, ...]:
    """Models of one and of two hidden layers, as stable-baselines3 saves them."""
    return tuple(made_sb3.model_zip(made_sb3.state_of(widths)) for widths in ((2,), (3, 2)))


@cache
def foreign_parquet() -> tuple[bytes, ...]:
    """Bars with floats and a zone, and with whole numbers, months and epoch seconds."""
    time = np.arange(30) * 60 + 1_736_175_600
    prices = dict.fromkeys(("open", "close"), [5000.25] * 30) | {"high": [5001.0] * 30}
    prices |= {"low": [4999.0] * 30}
    stamps = pl.Series(time * 1_000_000).cast(pl.Datetime("us", "UTC"))
    tables = (
        pl.DataFrame({"timestamp": stamps, **prices, "volume": [7] * 30}),
        pl.DataFrame({"ts": time, "price": [5000] * 30, "symbol": ["ESH5"] * 30}),
    )
    sinks = [io.BytesIO() for _ in tables]
    for table, sink in zip(tables, sinks, strict=True):
        table.write_parquet(sink)
    return tuple(sink.getvalue() for sink in sinks)


@cache
def sound_bars() -> bytes:
    """Ten quiet minutes of ES as passline writes them."""
    with tempfile.TemporaryDirectory() as folder:
        ticks = np.full(10, 20_000, np.int32)
        bars = Bars(
            contract=find_contract("ES"),
            bar_ns=60 * 10**9,
            ts=1_736_173_800 * 10**9 + np.arange(10, dtype=np.int64) * 60 * 10**9,
            open=ticks,
            high=ticks + 2,
            low=ticks - 2,
            close=ticks,
            volume=np.ones(10, np.int64),
            expiry=np.zeros(10, np.int16),
        )
        path = Path(folder) / "es.parquet"
        write_bars(bars, path)
        return path.read_bytes()


@contextlib.contextmanager
def beside(**files: bytes) -> Iterator[dict[str, Path]]:
    """Sound files in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name.replace("_", ".") for name in files}
        for name, data in files.items():
            paths[name].write_bytes(data)
        yield paths


# Targets.


def read_market_file(path: Path, bar: str | None = None, stamp: str | None = None) -> None:
    out = path.with_suffix(".out.parquet")
    import_bars(path, contract=find_contract("ES"), out=out, tz="UTC", bar=bar, stamp=stamp)
    out.unlink()


def read_ticks(path: Path) -> None:
    read_market_file(path, "1m")


def read_table(path: Path) -> None:
    read_market_file(path, "1m", "open")


def read_lean(path: Path) -> None:
    out = path.with_suffix(".out.parquet")
    import_bars(path, contract=find_contract("ES"), out=out, roll="volume")
    out.unlink()


def read_fills(path: Path) -> None:
    trips, _ = read_trips(path, zone="UTC")
    json.dumps(audit(trips, load_rulebook("topstep-combine-50k")).to_dict(), allow_nan=False)


def read_pickle(path: Path) -> None:
    """Puts it into a sound zip, whose checksum is then right."""
    read_state_dict(made_sb3.pth_of(SMALL_STATE, **{"data.pkl": path.read_bytes()}), path.name)


def read_facts(path: Path) -> None:
    """Puts what a model tells of itself into a sound zip, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        zipped = made_sb3.write_model(Path(folder, "model.zip"), data=path.read_bytes())
        try:
            read_sb3_model(zipped)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(folder, "")) from error


def read_settings(path: Path) -> None:
    read_config(path, {})


def read_run(path: Path) -> None:
    open_run(path.parent)
    list_runs(path.parent.parent)


def play_signals(path: Path) -> None:
    with beside(es_parquet=sound_bars()) as files:
        book = "topstep-combine-50k"
        bars = files["es_parquet"]
        run_command("play", "--bars", bars, "--signals", path, "--rulebook", book, "--json")


def play_bars(path: Path) -> None:
    with beside(S_csv=SIGNALS.encode()) as files:
        book, signals = "topstep-combine-50k", files["S_csv"]
        run_command("play", "--bars", path, "--signals", signals, "--rulebook", book, "--json")


def play_book(path: Path) -> None:
    with beside(S_csv=SIGNALS.encode(), es_parquet=sound_bars()) as files:
        bars, signals = files["es_parquet"], files["S_csv"]
        run_command("play", "--bars", bars, "--signals", signals, "--rulebook", path, "--json")


def audit_fills(path: Path) -> None:
    book = "apex-eod-50k"
    run_command("audit", path, "--rulebook", book, "--tz", "UTC", "--json")


def audit_book(path: Path) -> None:
    with beside(fills_csv=FILLS.encode()) as files:
        run_command("audit", files["fills_csv"], "--rulebook", path, "--json")


SOUND_TRADES = tuple(text.encode() for text in (TRADES, FILLS, GENERIC))
TARGETS: dict[str, Target] = {
    "bars": Target("es.csv", bar_files(), read_market_file),
    "ticks": Target("es.csv", (tick_file(),), read_ticks),
    "json": Target("es.json", json_files(), read_table),
    "foreign parquet": Target("es.parquet", foreign_parquet(), read_table),
    "dbn": Target("es.dbn.zst", dbn_files(), read_table),
    "dbn-trades": Target(
        "es.dbn", (made_dbn.metadata("trades") + made_dbn.trades(60),), read_table
    ),
    "lean": Target("20250106_trade.zip", (lean_file(),), read_lean),
    "bar file": Target("es.parquet", (sound_bars(),), lambda path: void(read_bars(path))),
    "rulebook": Target("mine.toml", (BOOK.encode(),), lambda path: void(load_rulebook(str(path)))),
    "contracts": Target("mine.toml", (CONTRACT.encode(),), lambda path: void(load_contracts(path))),
    "phases": Target(
        "phases.toml", (PHASES_FILE.read_bytes(),), lambda path: void(load_phases(path))
    ),
    "settings": Target("train.toml", (SETTINGS.encode(),), read_settings),
    "run": Target(f"{RUN_ID}/run.toml", (RUN.encode(),), read_run),
    "checkpoint": Target(
        "a.toml", (CHECKPOINT.encode(),), lambda path: void(read_checkpoint_info(path))
    ),
    "model": Target("data", (json.dumps(made_sb3.facts_of()).encode(),), read_facts),
    "model zip": Target("model.zip", model_files(), lambda path: void(read_sb3_model(path))),
    "pickle": Target("data.pkl", (made_sb3.pickled(SMALL_STATE),), read_pickle),
    "signals": Target("S.csv", (SIGNALS.encode(),), lambda path: void(read_signals(path))),
    "fills": Target("fills.csv", SOUND_TRADES, read_fills),
    "play signals": Target("S.csv", (SIGNALS.encode(),), play_signals),
    "play bars": Target("es.parquet", (sound_bars(),), play_bars),
    "play rulebook": Target("mine.toml", (BOOK.encode(),), play_book),
    "audit fills": Target("fills.csv", SOUND_TRADES, audit_fills),
    "audit rulebook": Target("mine.toml", (BOOK.encode(),), audit_book),
}


def void(value: Any) -> None:
    """Drops a value."""
    del value
