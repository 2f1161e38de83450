"""The policy that samples from a run with learned masking rates."""

from dataclasses import dataclass
from pathlib import Path

from mdm_jax.denoisers.base import Denoise, hidden_width, logit_columns
from mdm_jax.diffusion.context_rates import ContextRates
from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies.context_ancestral import ContextAncestral
from mdm_jax.policies.rated_ancestral import RatedAncestral
from mdm_jax.runs.denoisers import load_rates
from mdm_jax.tasks.base import Task


@dataclass(frozen=True)
class Genmd4:
    """Ancestral sampling under the masking rates that a run learned (objective:genmd4)."""

    run: str | None = None  # its run directory; None: that of --run
    steps: int = 8  # denoiser calls in all

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def load(
        self, run: str | Path, denoise: Denoise, task: Task
    ) -> RatedAncestral | ContextAncestral:
        """The policy with the rates of the run.

        Raises:
          MdmError: it has none, they are for canvases of another shape, or for another denoiser.
        """
        rates = load_rates(home := self.run or run)
        if isinstance(rates, ContextRates):
            if rates.heads.shape[1] != hidden_width(denoise) + 1:
                raise MdmError(
                    f"the rates of {home} are read off the hidden states of its denoiser"
                )
            return ContextAncestral(rates, self.steps)
        by_position, by_token = (size > 1 for size in rates.exponents.shape)
        if by_position and (task.gen_length or len(rates.exponents) != task.length):
            raise MdmError(
                f"the rates of {home} are for the positions of a canvas of {len(rates.exponents)}, "
                "all of which are generated"
            )
        if by_token and rates.exponents.shape[1] != logit_columns(denoise, task.length):
            raise MdmError(f"the rates of {home} are for {rates.exponents.shape[1]} ids")
        return RatedAncestral(rates, self.steps)
