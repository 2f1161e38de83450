"""Policies as the command line names them: heuristics by their knobs, learned ones by their run."""

from dataclasses import dataclass, replace
from pathlib import Path

from experiments._cli.policy_specs import Klass, PcSampler, Perturbed
from mdm_jax.denoisers.base import Denoise, hidden_width
from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies.base import Policy
from mdm_jax.policies.learned import Fallback, LearnedPolicy
from mdm_jax.runs.config import read_task
from mdm_jax.runs.policies import load_policy
from mdm_jax.tasks.base import Task


@dataclass(frozen=True)
class Learned:
    """The policy of a learn_order or learn_policy run."""

    run: str | None = None  # its run directory; None: that of --run
    steps: int | None = None  # denoiser calls for a sequence; None: as it was trained
    # of the draw of positions; 0: the most probable set; None: as in the run's own comparison
    policy_temperature: float | None = None
    scale: float = 1.0  # probabilities become min(1, scale * probability)
    fallback: Fallback = "best"  # an empty draw reveals the best position, or spends the call

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("policy_temperature", self.policy_temperature, 0)
        check_range("scale", self.scale, 0)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> LearnedPolicy:
        """The policy with its weights, for this denoiser on this task.

        Args:
          run: run directory to use when `self.run` is None.

        Raises:
          MdmError: no such run, no readable checkpoint, or the policy needs canvases or hidden states
            of another shape.
          ValueError: a knob out of range.
        """
        home = self.run or run
        policy = load_policy(home, task)
        learned_on, asked = _shape(read_task(home)), _shape(task)
        if not policy.network.any_length and learned_on != asked:
            raise MdmError(f"{home} learned the order of {learned_on}, not of {asked}")
        seen, given = policy.network.hidden_features(policy.params), hidden_width(denoise)
        if seen not in (None, given):
            raise MdmError(
                f"{home} learned from {seen} hidden features, but the denoiser gives {given}"
            )
        chosen = {"steps": self.steps, "policy_temperature": self.policy_temperature}
        knobs = {name: value for name, value in chosen.items() if value is not None}
        return replace(policy, scale=self.scale, fallback=self.fallback, **knobs)


Spec = Learned | Klass | PcSampler | Perturbed


def resolve(policy: Policy | Spec, run: str | Path, denoise: Denoise, task: Task) -> Policy:
    """The policy, with what the command line leaves out filled in for a denoiser and a task."""
    return policy.load(run, denoise, task) if isinstance(policy, Spec) else policy


def _shape(task: Task) -> str:
    """What the shape of a policy's network depends on, as text."""
    window = task.gen_length or task.length
    return f"{task.name} ({window} of {task.length} positions, {task.vocabulary.size} ids)"
