"""What every number on a report means: formula or meaning, unit and sample.

The report shows these sentences where the reader points at a number; docs/evaluation.md holds the
same sentences, and a test keeps the two alike.
"""

from dataclasses import dataclass

__all__ = ["DEFINITIONS", "Definition"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One named number.

    Attributes:
        name: as the report writes it.
        text: formula or meaning.
        unit: of the number.
        sample: what it is taken over.
    """

    name: str
    text: str
    unit: str
    sample: str

    @property
    def hover(self) -> str:
        """All of it in one line."""
        return f"{self.name}: {self.text} Unit: {self.unit}. Sample: {self.sample}."


_FINAL = "last held-out evaluation of the final phase, worst path inside a bar"

_TRIPS = "the agent's round trips in its last held-out evaluation, worst path inside a bar"

DEFINITIONS: dict[str, Definition] = {
    "verdict": Definition(
        name="Verdict",
        text="Edge found: for every baseline but the simple strategies the interval of agent minus"
        " baseline lies above 0, and so does that of the mean net result. Undecided: best and worst"
        " path inside a bar disagree, or these episodes show an edge and a gate of the training was"
        " not passed, or nothing can be compared. No edge found: everything else.",
        unit="one of three",
        sample=_FINAL,
    ),
    "pass_rate": Definition(
        name="Pass rate",
        text="Episodes that ended as passed, divided by all episodes.",
        unit="share of episodes",
        sample=_FINAL,
    ),
    "interval": Definition(
        name="Interval",
        text="Range that covers the true value in 95 of 100 such samples. Follows the spread"
        " between blocks of dates, and what touching blocks share; for shares it is Wilson's on"
        " the effective n, for means Student's t, corrected for skewness.",
        unit="that of the figure",
        sample="that of the figure",
    ),
    "n": Definition(
        name="n",
        text="Number of evaluation episodes; each is one account from its first day to its end.",
        unit="episodes",
        sample=_FINAL,
    ),
    "n_effective": Definition(
        name="Effective n",
        text="Independent episodes that would pin the pass rate as firmly as these n do:"
        " p(1 - p) over the cluster-robust variance of p, held between n squared over the sum of"
        " the squared block sizes (the number of blocks, were they of equal size) and n.",
        unit="episodes",
        sample=_FINAL,
    ),
    "n_clusters": Definition(
        name="Blocks of dates",
        text="Blocks as long as an episode may last that the episodes' first days fall into."
        " Episodes of a block share its market, so they are not independent.",
        unit="blocks",
        sample=_FINAL,
    ),
    "result": Definition(
        name="Mean net result",
        text="Equity at the end of the episode minus the starting balance, costs included; mean.",
        unit="USD per episode",
        sample=_FINAL,
    ),
    "advantage": Definition(
        name="Agent minus baseline",
        text="Mean over episodes of (agent passed - baseline passed), both begun at the same bar.",
        unit="percentage points",
        sample="episodes that both played",
    ),
    "result_advantage": Definition(
        name="Agent minus baseline, USD",
        text="Mean over episodes of (agent's net result - baseline's), both begun at the same bar.",
        unit="USD per episode",
        sample="episodes that both played",
    ),
    "redrawn": Definition(
        name="Interval, dates redrawn",
        text="The same interval from drawing stretches of dates anew, two episodes long and one"
        " episode long, 2,000 times each; for comparison. The clustered interval decides.",
        unit="that of the figure",
        sample="episodes that both played",
    ),
    "trips": Definition(
        name="Round trips",
        text="Positions opened and closed again; mean per episode, and over the trading days that"
        " the accounts lived. Random entry is matched to the agent by the day.",
        unit="round trips per episode, per trading day",
        sample=_FINAL,
    ),
    "mean_r": Definition(
        name="Mean R",
        text="Net result of a round trip divided by its initial risk; mean over the round trips of"
        " an episode, then over the episodes that had any, weighted by their round trips.",
        unit="initial risk",
        sample=_FINAL,
    ),
    "reason_share": Definition(
        name="Share of endings",
        text="Episodes of the agent that ended for this reason, divided by all of them. Every"
        " episode has exactly one reason.",
        unit="share of episodes",
        sample=_FINAL,
    ),
    "reason_days": Definition(
        name="Median days",
        text="Trading days begun before the end; median over the episodes of this ending.",
        unit="trading days",
        sample=_FINAL,
    ),
    "death_cause": Definition(
        name="What kills it most",
        text="The rule that ended most accounts without a pass, and its share of all accounts.",
        unit="share of episodes",
        sample=_FINAL,
    ),
    "group_n": Definition(
        name="Round trips of a group",
        text="Round trips entered in the month, weekday, hour, state of volatility or contract."
        " Volatility is that of the last day over that of the last twenty at the decision: calm"
        " below 0.8, lively from 1.25.",
        unit="round trips",
        sample=_TRIPS,
    ),
    "group_dates": Definition(
        name="Dates of a group",
        text="Trade dates on which those round trips were entered. They are the clusters of the"
        " interval; groups of fewer than 10 are shown pale.",
        unit="trade dates",
        sample=_TRIPS,
    ),
    "group_result": Definition(
        name="Net result of a round trip",
        text="Mean net result of the group's round trips, costs included, with the interval that"
        " follows the spread between trade dates. Episodes overlap, so one move of the market may"
        " count several times.",
        unit="USD per round trip",
        sample=_TRIPS,
    ),
    "group_passes": Definition(
        name="Pass rate of a group",
        text="Episodes begun in the month, on the weekday or on the contract that passed, divided"
        " by all of them.",
        unit="share of episodes",
        sample=_FINAL,
    ),
    "group_begun": Definition(
        name="Accounts begun",
        text="Evaluation episodes that began in the month, on the weekday or on the contract.",
        unit="episodes",
        sample=_FINAL,
    ),
    "by_chance": Definition(
        name="Groups by luck",
        text="2.5 % of the groups with at least 10 trade dates: as many 95 % intervals would miss"
        " zero on either side if no group differed from zero.",
        unit="groups",
        sample=_TRIPS,
    ),
    "final_window": Definition(
        name="Final window",
        text="Last stretch of the data, which no training, gate or verdict reads. It is opened by"
        " an explicit command that is recorded in the run; only the first opening is a test."
        " Openings are counted over the runs of one folder; those of other folders are not known.",
        unit="openings",
        sample="the run's record",
    ),
    "replay_page": Definition(
        name="Bar by bar",
        text="First trading day of one of the first accounts that ended so, in the order of the"
        " file; the page shows every bar of it.",
        unit="date",
        sample=_FINAL,
    ),
    "null_p": Definition(
        name="p-value",
        text="(1 + null markets whose result is at least the actual one) / (1 + null markets):"
        " how often luck gives this much. The corrected one charges for the kinds of null market"
        " and for the configurations tried on these data.",
        unit="0 to 1",
        sample="trainings on markets with the predictable part destroyed",
    ),
    "null_result": Definition(
        name="Result on null markets",
        text="The statistic of the null test, on each market in which nothing can be found.",
        unit="as named",
        sample="trainings on markets with the predictable part destroyed",
    ),
    "n_tried": Definition(
        name="Configurations tried",
        text="Different configurations that runs of the same root were made with on these bars.",
        unit="configurations",
        sample="the run registry",
    ),
    "min_cushion": Definition(
        name="Closest to the floor",
        text="Lowest equity minus floor in the life of an account; median over episodes.",
        unit="USD",
        sample=_FINAL,
    ),
    "invalid": Definition(
        name="Masked actions sent",
        text="Actions that the mask forbade, sent anyway and counted as HOLD, divided by all"
        " actions.",
        unit="share of actions",
        sample=_FINAL,
    ),
    "ambiguous": Definition(
        name="Ambiguous bars",
        text="Bars whose outcome depends on whether the high or the low came first, divided by all"
        " bars.",
        unit="share of bars",
        sample=_FINAL,
    ),
    "late_flat": Definition(
        name="Liquidated at flat-by",
        text="Positions still open at the flat-by time and closed by the firm; mean per episode.",
        unit="events per episode",
        sample=_FINAL,
    ),
    "commissions": Definition(
        name="Commissions",
        text="Commissions paid; mean per episode.",
        unit="USD per episode",
        sample=_FINAL,
    ),
    "ks": Definition(
        name="Distance",
        text="Largest gap between the two empirical distribution functions (Kolmogorov-Smirnov):"
        " 0 is the same distribution, 1 no overlap. Above 0.3 the agent is judged on episodes that"
        " differ plainly from those it trained on.",
        unit="0 to 1",
        sample="episodes (or states) of training against those of evaluation, same phase",
    ),
    "shift_median": Definition(
        name="Median of a quantity",
        text="Median over episodes of training, or of evaluation; legal actions are first averaged"
        " over the states of an episode; volatility is the average true range at the start over"
        " its median.",
        unit="that of the quantity",
        sample="episodes of training against those of evaluation, same phase",
    ),
    "choice_share": Definition(
        name="Action share",
        text="Times an action was chosen, divided by all choices, over states in which more than"
        " one action was legal.",
        unit="share of choices",
        sample=_FINAL,
    ),
    "equity": Definition(
        name="Equity by day",
        text="Balance plus open profit at the close of each trading day. An account that has ended"
        " keeps its last value. The floor is the equity at which the account is lost.",
        unit="USD",
        sample="accounts of the agent's last evaluation",
    ),
    "result_distribution": Definition(
        name="Distribution of results",
        text="Share of episodes by net result.",
        unit="share of episodes",
        sample=_FINAL,
    ),
    "checkpoint_reward": Definition(
        name="Held-out reward",
        text="Mean over evaluation episodes of the sum of the phase's rewards, at each evaluated"
        " checkpoint, with its interval. Rewards of different phases have different units.",
        unit="reward of the phase",
        sample="each held-out evaluation of the agent, worst path",
    ),
    "curves": Definition(
        name="Training curves",
        text="What the learner reported after each update, under the names of TensorBoard:"
        " rollout/ep_rew_mean, rollout/ep_len_mean, train/explained_variance, train/approx_kl,"
        " train/entropy_loss, time/fps. They describe training data and prove nothing about the"
        " future.",
        unit="as titled",
        sample="each update of the training",
    ),
}
"""By key; the page refuses a key that is not here."""
