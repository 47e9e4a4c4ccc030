"""How near does the learner come to the best possible pass probability?

The market is the ladder of tests/ladder.py.

Prints one JSON object: the optimum of the dynamic program, the best rule that ignores the account
(as the built-in market's oracle does), and the exact pass probability of the trained network's
greedy policy, for both treatments of a time-out in the reward. Nothing is sampled but the training.

    python benchmarks/optimum.py --json --seeds 0 1 2
"""

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from ladder import (
    Ladder,
    best_that_ignores_the_account,
    optimum,
    trained_probability,
)
from passline.learn.ppo import PPOConfig

CONFIG = PPOConfig(
    n_lanes=512,
    rollout_steps=32,
    minibatch_size=2048,
    hidden=(64, 64),
    learning_rate=2e-3,
    learning_rate_floor=5e-5,
    entropy_coef=0.01,
    entropy_coef_floor=0.0005,
    gamma=1.0,
    gae_lambda=0.97,
)
LADDERS = {
    "short": Ladder(target=6, allowance=4, n_decisions=30),
    "long": Ladder(target=12, allowance=8, n_decisions=80),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ladders", choices=tuple(LADDERS), nargs="+", default=["short"])
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print JSON (the only form)")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, standing, seed in itertools.product(options.ladders, (1.0, 0.0), options.seeds):
        ladder, began = LADDERS[name], time.perf_counter()
        before, after = trained_probability(
            ladder, CONFIG, options.updates, seed=seed, standing=standing
        )
        top = optimum(ladder)
        rows.append(
            {
                "ladder": name,
                "time_out_keeps_its_potential": bool(standing),
                "seed": seed,
                "optimum": round(top, 4),
                "blind_to_the_account": round(best_that_ignores_the_account(ladder), 4),
                "untrained": round(before, 4),
                "agent": round(after, 4),
                "agent_of_optimum": round(after / top, 4),
                "seconds": round(time.perf_counter() - began, 1),
                "load": round(os.getloadavg()[0], 1),
            }
        )
        print(rows[-1], file=sys.stderr)
    print(json.dumps({"runs": rows}, indent=2))


if __name__ == "__main__":
    main()
