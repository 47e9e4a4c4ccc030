"""Does it learn? The demo over several seeds, with the planted edge and without.

Prints one JSON object: a row a run with phase 1's held-out reward, phase 3's held-out pass rate
beside the untrained policy, random entry and the oracle, the verdict and the seconds it took.

    .venv/bin/python benchmarks/learning.py --json --seeds 0 1 2 --strengths 1 0
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from passline.evaluate.stats import Estimate, mean_interval
from passline.evaluate.table import EvaluationTable, load_evaluations
from passline.evaluate.verdict import score_policies, verdict

SPAN_DAYS = 30


def interval(estimate: Estimate) -> dict[str, float]:
    return {
        "value": round(estimate.value, 4),
        "low": round(estimate.low, 4),
        "high": round(estimate.high, 4),
        "n": estimate.n,
        "n_effective": round(float(estimate.n_effective), 1),
    }


def entry_reward(table: EvaluationTable) -> dict[str, float]:
    """The phase-1 policy's reward a session on the gate slices, at the end of the phase."""
    rows = table.where(phase="entry", policy="agent")
    last = rows.select(rows.evaluation == rows.evaluation.max())
    return interval(mean_interval(last.reward, last.start_day))


def judge(run: Path) -> dict[str, Any]:
    table = load_evaluations(run / "evaluations.npz")
    found = verdict(table, span_days=SPAN_DAYS)
    scores = score_policies(table, span_days=SPAN_DAYS)
    return {
        "verdict": found.word.value,
        "entry_reward_per_session": entry_reward(table),
        "pass_rate": {score.policy: interval(score.pass_rate) for score in scores},
        "net_usd": {score.policy: interval(score.result_usd) for score in scores},
    }


def run_demo(seed: int, strength: float, extra: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "passline", "demo", "--json", "--root", folder]
        command += ["--seed", str(seed), "--market-seed", str(seed), "--strength", str(strength)]
        began = time.perf_counter()
        done = subprocess.run([*command, *extra], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        answer = json.loads(done.stdout)
        row = {"seed": seed, "strength": strength, "seconds": round(seconds, 1)}
        return row | {"stopped_at": answer["stopped_at"]} | judge(Path(folder) / answer["run"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strengths", type=float, nargs="+", default=[1.0, 0.0])
    parser.add_argument("--json", action="store_true", help="print JSON (the only form)")
    options, extra = parser.parse_known_args()
    rows = []
    for strength in options.strengths:
        for seed in options.seeds:
            rows.append(run_demo(seed, strength, extra))
            print(f"seed {seed}, strength {strength}: {rows[-1]['verdict']}", file=sys.stderr)
    oracle = [r["pass_rate"]["oracle"]["value"] for r in rows if r["strength"] > 0]
    agent = [r["pass_rate"]["agent"]["value"] for r in rows if r["strength"] > 0]
    share = float(np.mean(agent) / np.mean(oracle)) if oracle and np.mean(oracle) > 0 else None
    print(json.dumps({"runs": rows, "agent_of_oracle": share}, indent=2))


if __name__ == "__main__":
    main()
