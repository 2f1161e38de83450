"""A learned policy by the run that learned it, where every other policy is a name with its knobs."""

from dataclasses import dataclass, replace
from pathlib import Path

from experiments._cli.policy_specs import Klass, PcSampler, Perturbed
from mdm_jax.denoisers.base import Denoise, hidden_width
from mdm_jax.errors import check_range
from mdm_jax.policies.base import Policy
from mdm_jax.policies.learned import Fallback, LearnedPolicy
from mdm_jax.runs.config import read_task
from mdm_jax.runs.policies import load_policy
from mdm_jax.tasks.base import Task


@dataclass(frozen=True)
class Learned:
    """The policy of a `learn_order` or `learn_policy` run: policy:learned on the command line."""

    run: str | None = None  # its run directory; None: --run is one
    steps: int | None = None  # denoiser calls in all; None: what it was learned for
    policy_temperature: float | None = (
        None  # 0: the most probable set; None: as its run compared it
    )
    scale: float = 1.0  # probabilities become min(1, scale * probability)
    fallback: Fallback = "best"  # an empty draw reveals the best position, or spends the step

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("policy_temperature", self.policy_temperature, 0)
        check_range("scale", self.scale, 0)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> LearnedPolicy:
        """The policy with its weights, for this denoiser on this task.

        Args:
          run: where it is when `self.run` is None.

        Raises:
          ValueError: no such run, no readable checkpoint, a knob out of range, or the policy was
            learned on canvases or hidden states of another shape than it can do with.
        """
        home = self.run or run
        policy = load_policy(home, task)
        learned_on, asked = _shape(read_task(home)), _shape(task)
        if not policy.network.any_length and learned_on != asked:
            raise ValueError(f"{home} learned the order of {learned_on}, not of {asked}")
        seen, given = policy.network.hidden_features(policy.params), hidden_width(denoise)
        if seen not in (None, given):
            raise ValueError(
                f"{home} learned from {seen} hidden features, but the denoiser gives {given}"
            )
        chosen = {"steps": self.steps, "policy_temperature": self.policy_temperature}
        knobs = {name: value for name, value in chosen.items() if value is not None}
        return replace(policy, scale=self.scale, fallback=self.fallback, **knobs)


Spec = Learned | Klass | PcSampler | Perturbed


def resolve(policy: Policy | Spec, run: str | Path, denoise: Denoise, task: Task) -> Policy:
    """The policy itself, or the one that is specified."""
    return policy.load(run, denoise, task) if isinstance(policy, Spec) else policy


def _shape(task: Task) -> str:
    """What a policy's network depends on, in words."""
    window = task.gen_length or task.length
    return f"{task.name} ({window} of {task.length} positions, {task.vocabulary.size} ids)"
