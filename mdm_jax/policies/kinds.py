"""Unions of policies: the types of settings that choose one."""

from mdm_jax.policies import bisection, heuristics, randomised, threshold_quota
from mdm_jax.policies.remasking import p2, rcr, remdm, rounds, wino

AnyHeuristic = (
    heuristics.Random
    | heuristics.Ancestral
    | heuristics.TopConfidence
    | heuristics.TopMargin
    | heuristics.LowEntropy
    | heuristics.LeftToRight
    | heuristics.ConfidenceThreshold
    | heuristics.Factor
    | heuristics.EntropyBound
    | bisection.Bisection
    | threshold_quota.ThresholdQuota
    | randomised.TopKRandom
    | randomised.SoftmaxConfidence
    | p2.P2Plus
)
AnyRemasking = (
    remdm.RemdmCap
    | remdm.RemdmRescale
    | remdm.RemdmConf
    | remdm.RemdmLoop
    | rounds.RemdmRounds
    | p2.P2
    | rcr.Rcr
    | wino.Wino
)
