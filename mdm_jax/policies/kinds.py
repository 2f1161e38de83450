"""Unions of policies: the types of settings that choose one."""

from mdm_jax.policies import (
    bisection,
    dilated,
    heuristics,
    hierarchical,
    mask_git,
    random_shift,
    randomised,
    threshold_quota,
)
from mdm_jax.policies.lookahead import info_gain, lopa, punt
from mdm_jax.policies.pairwise import adas, dapd, dawn, demask
from mdm_jax.policies.remasking import p2, rcr, remdm, rounds, saber, wino

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
    | mask_git.MaskGit
    | bisection.Bisection
    | dilated.Dilated
    | hierarchical.Hierarchical
    | random_shift.RandomShift
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
    | saber.Saber
    | wino.Wino
)
AnyLookahead = punt.Punt | lopa.Lopa | info_gain.InfoGain
AnyPairwise = adas.Adas | demask.Demask | dapd.Dapd | dawn.Dawn
