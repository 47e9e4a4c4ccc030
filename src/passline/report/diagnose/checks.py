"""All questions that are asked of a training's logs, in the order in which answers are shown."""

from passline.report.diagnose import of_conduct, of_evaluation, of_logs, of_training
from passline.report.diagnose.findings import Check

__all__ = ["CHECKS"]

CHECKS = (
    Check(
        name="horizon_mismatch",
        problem="Training and evaluation are different tasks",
        asks="episode lengths of training and evaluation",
        of_phase=of_evaluation.horizon_mismatch,
    ),
    Check(
        name="evaluation_spread",
        problem="The evaluation covers too little",
        asks="spread of the evaluation",
        of_phase=of_evaluation.evaluation_spread,
    ),
    Check(
        name="few_checkpoints",
        problem="Too few evaluated checkpoints",
        asks="number of evaluated checkpoints",
        of_phase=of_evaluation.few_checkpoints,
    ),
    Check(
        name="lost_logs",
        problem="The record of the training is not safe or not whole",
        asks="completeness of the logs",
        of_phase=of_logs.lost_logs,
    ),
    Check(
        name="weak_base",
        problem="A weak base policy was handed on",
        asks="held-out reward of phases handed on",
        of_run=of_logs.weak_base,
    ),
    Check(
        name="gates",
        problem="A gate was not passed",
        asks="gates between phases",
        of_run=of_logs.gates,
    ),
    Check(
        name="rule_breach",
        problem="Evaluation accounts break a rule",
        asks="endings of evaluation accounts",
        of_phase=of_conduct.rule_breach,
    ),
    Check(
        name="invalid_actions",
        problem="The evaluation ignores the action mask",
        asks="masked actions sent",
        of_phase=of_conduct.invalid_actions,
    ),
    Check(
        name="flat_collapse",
        problem="The agent does not trade",
        asks="whether it trades",
        of_phase=of_conduct.flat_collapse,
    ),
    Check(
        name="overfitting",
        problem="Held-out reward falls while training goes on",
        asks="course of the held-out reward",
        of_phase=of_evaluation.overfitting,
    ),
    Check(
        name="frozen",
        problem="The policy does not change",
        asks="movement of the policy",
        of_phase=of_training.frozen,
    ),
    Check(
        name="undone",
        problem="A phase did not make the policy better",
        asks="what a phase gained on training days",
        of_phase=of_training.undone,
    ),
    Check(
        name="jumps",
        problem="The policy's steps are too long",
        asks="length of the policy's steps",
        of_phase=of_training.jumps,
    ),
    Check(
        name="entropy_collapse",
        problem="The policy has stopped exploring",
        asks="entropy",
        of_phase=of_training.entropy_collapse,
    ),
    Check(
        name="value_collapse",
        problem="The critic does not predict returns",
        asks="explained variance",
        of_phase=of_training.value_collapse,
    ),
    Check(
        name="diverged",
        problem="Losses are not numbers",
        asks="finiteness of the losses",
        of_phase=of_training.diverged,
    ),
    Check(
        name="reward_scale",
        problem="Rewards are of an unfit scale",
        asks="scale of rewards",
        of_phase=of_training.reward_scale,
    ),
    Check(
        name="throughput",
        problem="Training is slow",
        asks="speed",
        of_phase=of_training.throughput,
    ),
    Check(
        name="unfinished",
        problem="The run did not come to its end",
        asks="status of the run",
        of_run=of_logs.unfinished,
    ),
    Check(
        name="blind_spots",
        problem="The logs do not tell enough",
        asks="what is on record",
        of_run=of_logs.blind_spots,
    ),
)
