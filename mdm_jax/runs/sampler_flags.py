"""The sampler flags of LLaDA, Dream and Fast-dLLM, such as `--alg entropy --steps 64`.

::

  LLaDA and Fast-dLLM
  --steps N                    policy:top-confidence --policy.steps N
  --steps N --remasking random policy:random --policy.steps N
  --threshold X                policy:confidence-threshold --policy.threshold X
  --factor X                   policy:factor --policy.factor X
  Dream, with its counts, --policy_sees_draw and --budget N
  --alg maskgit_plus           policy:top-confidence
  --alg topk_margin            policy:top-margin
  --alg entropy                policy:low-entropy
  --alg origin                 policy:ancestral
  --alg_temp X                 policy:perturbed around one of the first three
  --alg confidence_threshold   policy:threshold-quota
  all
  --gen_length N               --task.gen_length N
  --cfg_scale X                --guidance X

--temperature, --top_p, --top_k and --block_length have the same name and meaning here.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar

from mdm_jax.errors import MdmError
from mdm_jax.policies.count_schedules import AncestralCounts
from mdm_jax.policies.heuristics import (
    Ancestral,
    ConfidenceThreshold,
    Factor,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.threshold_quota import ThresholdQuota
from mdm_jax.runs.policy_specs import Perturbed

C = TypeVar("C")
Given = dict[str, Any]
BY_REMASKING: dict[str, Callable] = {"low_confidence": TopConfidence, "random": Random}
BY_ALG: dict[str, Callable] = {
    "maskgit_plus": TopConfidence,
    "topk_margin": TopMargin,
    "entropy": LowEntropy,
    "origin": Ancestral,
}
DREAM_COUNTS = AncestralCounts(1e-3)


@dataclass(frozen=True, kw_only=True)
class SamplerFlags:
    """Flags of LLaDA, Dream and Fast-dLLM, in place of policy:NAME and its knobs.

    Attributes:
      steps: LLaDA, Dream: denoiser calls in all.
      remasking: LLaDA: reveal the most confident positions first, or random ones.
      threshold: Fast-dLLM: reveal all positions that are at least this confident.
      factor: Fast-dLLM: reveal more positions together the larger this is.
      alg: Dream: which positions are revealed first.
      alg_temp: Dream: temperature of the noise on the scores of `alg`.
      gen_length: positions of the response; the same as --task.gen_length.
      cfg_scale: weight of classifier-free guidance; the same as --guidance.
    """

    steps: int | None = None
    remasking: Literal["low_confidence", "random"] | None = None
    threshold: float | None = None
    factor: float | None = None
    alg: (
        Literal["maskgit_plus", "topk_margin", "entropy", "origin", "confidence_threshold"] | None
    ) = None
    alg_temp: float | None = None
    gen_length: int | None = None
    cfg_scale: float | None = None


def apply(flags: SamplerFlags, config: C, policy_named: bool = False) -> C:
    """The config with the policy and the settings that the flags stand for.

    Args:
      flags: what was given.
      config: with fields `policy` and `sampling`, and `task` or a `gen_length` of its own.
      policy_named: whether the command line names a policy, which it may not beside the flags.

    Raises:
      MdmError: flags that contradict each other, a policy:NAME, or the task.
    """
    given = {name: value for name, value in asdict(flags).items() if value is not None}
    length, weight = given.pop("gen_length", None), given.pop("cfg_scale", None)
    settings: Given = {} if weight is None else {"guidance": weight}
    if length is not None and not hasattr(config, "gen_length"):
        config = replace(config, task=_with_length(config.task, length))
    if given:
        if policy_named:
            raise MdmError(f"give {_shown(given)} or a policy:NAME with its knobs, not both")
        policy, more = _dream(given, length) if "alg" in given else (_llada(given), {})
        if given:
            raise MdmError(f"{_shown(given)} has no effect with the other flags: leave it out")
        config, settings = replace(config, policy=policy), settings | more
    return replace(config, sampling=replace(config.sampling, **settings))


def _with_length(task: Any, length: int) -> Any:
    if task is None or "gen_length" not in {field.name for field in fields(task)}:
        name = "this run" if task is None else f"task {task.name}"
        raise MdmError(f"--gen_length {length}: {name} has no such setting")
    return replace(task, gen_length=length)


def _llada(given: Given) -> Any:
    """The policy of LLaDA's and Fast-dLLM's flags; removes from `given` those that determine it."""
    kind = BY_REMASKING[given.pop("remasking", "low_confidence")]
    steps = given.pop("steps", None)  # no effect on an adaptive rule
    if "threshold" in given:
        return ConfidenceThreshold(given.pop("threshold"))
    if "factor" in given:
        return Factor(given.pop("factor"))
    if steps is None:
        raise MdmError("give --steps, --threshold or --factor too")
    return kind(steps)


def _dream(given: Given, length: int | None) -> tuple[Any, Given]:
    """The policy and settings of Dream's flags; removes from `given` those that determine them."""
    alg = given.pop("alg")
    if "steps" not in given:
        raise MdmError(f"--alg {alg} needs --steps")
    steps = given.pop("steps")
    settings = {"policy_sees_draw": True, "budget": steps}
    if alg == "confidence_threshold":
        policy = ThresholdQuota(steps, given.pop("threshold", 0.9))
        return policy, settings | {
            "budget": steps + (length or steps)
        }  # rejections take more calls
    policy = BY_ALG[alg](steps, DREAM_COUNTS)
    if alg != "origin" and "alg_temp" in given:
        policy = Perturbed(policy, given.pop("alg_temp"))
    return policy, settings


def _shown(given: Given) -> str:
    return " ".join(
        f"--{flag} {value:g}" if isinstance(value, float) else f"--{flag} {value}"
        for flag, value in given.items()
    )
