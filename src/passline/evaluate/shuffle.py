"""The control that asks whether a result hangs on the features: the agent sees another day.

Every session of the evaluated stretch is shown the market features of another session of it, at
the same time of day. What the agent knows of its own account, its mask, its bars and its costs
stay its own. Whole sessions are exchanged, so that features keep their course within a day and
the agent is not made to change its mind at every bar.
"""

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from passline.evaluate.slices import Starts
from passline.market.clock import DAY_NS, session_ns
from passline.task.env import TaskParams
from passline.task.prepare import Prepared

__all__ = ["shuffle_features", "shuffled_rows"]

I64 = NDArray[np.int64]


def shuffle_features(
    prepared: Prepared, params: TaskParams, starts: Starts, *, seed: int
) -> TaskParams:
    """Returns the constants with the market features of the starts' stretch exchanged by session.

    Args:
        prepared: markets.
        params: constants of the phase.
        starts: episodes that will be played; each market's bars from its first start to its last
            end are exchanged among each other.
        seed: of the exchange.
    """
    rng = np.random.default_rng(seed)
    features = params.features
    for market in np.unique(starts.market):
        own = starts.market == market
        first, last = int(starts.bar[own].min()), int(starts.end_bar[own].max())
        source = shuffled_rows(prepared, first, last + 1, rng)
        features = features.at[first : last + 1].set(features[jnp.asarray(source)])
    return params._replace(features=features)


def shuffled_rows(prepared: Prepared, first: int, stop: int, rng: np.random.Generator) -> I64:
    """Returns for each bar of a stretch the bar whose features it is shown; int64 [stop - first].

    It is the last bar of the other session that is no later in the day, or that session's first.
    No session keeps its own features where there are at least two.
    """
    _, code = np.unique(prepared.compiled.session[first:stop], return_inverse=True)
    minute = np.asarray(session_ns(prepared.compiled.ts[first:stop]), np.int64)
    n_sessions = int(code.max()) + 1
    order = rng.permutation(n_sessions)
    other = np.empty(n_sessions, np.int64)
    other[order] = np.roll(order, 1)  # one cycle through all: nobody stays
    edges = np.searchsorted(code, np.arange(n_sessions + 1))
    shown = other[code]
    place = np.searchsorted(code * DAY_NS + minute, shown * DAY_NS + minute, side="right") - 1
    rows: I64 = first + np.clip(place, edges[shown], edges[shown + 1] - 1)
    return rows
