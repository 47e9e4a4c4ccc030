"""Walk-forward: the whole job on several cuts of time, each judged on its next unseen window.

`work` trains and judges one fold with one seed, `pool` and `ray_pool` spread that over processes
and machines, `walk` keeps the directory and says what all of it came to.
"""

from passline.walkforward.walk import (
    Walk,
    WalkOutcome,
    continue_walk,
    publish_walk,
    run_walk,
    start_walk,
)

__all__ = ["Walk", "WalkOutcome", "continue_walk", "publish_walk", "run_walk", "start_walk"]
