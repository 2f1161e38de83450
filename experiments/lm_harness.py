"""Evaluate a published checkpoint with lm-evaluation-harness, which has to be installed (`lm_eval`).

  python -m experiments.lm_harness --denoiser DIR --tasks gsm8k --num_fewshot 5 --block_length 32 \\
      policy:confidence-threshold --policy.threshold 0.9

Importing this file registers the model as "mdm_jax": its model arguments are the flags below without
dashes, and policy=NAME,policy.KNOB=VALUE.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from experiments import _cli as cli
from experiments._cli.console import console, progress
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals.text_model import TextModel
from mdm_jax.policies import heuristics
from mdm_jax.runs.policy_specs import resolve
from mdm_jax.runs.published import Loading, load_checkpoint
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.prompted import FreePrompt

try:
    import lm_eval
    from lm_eval.api.registry import register_model

    from mdm_jax.evals.lm_harness import HarnessModel
except ModuleNotFoundError as error:
    missing = "error: lm-evaluation-harness is not installed: pip install -e '.[harness]'"
    raise SystemExit(missing) from error


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the model, and what the harness is to run.

    Attributes:
      denoiser: directory of a published checkpoint.
      policy: which positions next; policy:NAME on the command line.
      sampling: temperature, blocks, budget.
      loading: how the checkpoint is put on devices.
      chat: requests go through the checkpoint's chat template.
      gen_length: positions for an answer, whatever a task asks for.
      draws: masks per answer, for its likelihood.
      batch_size: answers at once.
      seed: of token draws, policy and masks.
      tasks: names of the harness's tasks.
      num_fewshot: few-shot examples; None: as the task has it.
      limit: problems of each task; None: all.
      confirm_run_unsafe_code: let tasks run the programs that were generated, with what the harness
        has to contain them.
    """

    sampler_flags: ClassVar[bool] = True  # LLaDA's and Dream's are understood too
    denoiser: str = cli.REQUIRED
    policy: cli.AnyPolicy = field(default_factory=lambda: heuristics.ConfidenceThreshold(0.9))
    sampling: cli.Flat[SamplerConfig] = field(default_factory=SamplerConfig)
    loading: cli.Flat[Loading] = field(default_factory=Loading)
    chat: bool = False
    gen_length: int = 256
    draws: int = 128
    batch_size: int = 8
    seed: int = 0
    tasks: tuple[str, ...] = ()
    num_fewshot: int | None = None
    limit: int | None = None
    confirm_run_unsafe_code: bool = False

    def __post_init__(self) -> None:
        for name in ("draws", "batch_size", "limit"):
            check_range(name, getattr(self, name), 1)
        check_range("num_fewshot", self.num_fewshot, 0)
        check_seed(self.seed)


@register_model("mdm_jax")
class MaskedDiffusion(HarnessModel):
    """A published checkpoint as the harness wants it."""

    def __init__(self, config: Config):
        super().__init__()
        task = FreePrompt(
            checkpoint=config.denoiser, question=" ", chat=False, gen_length=config.gen_length
        )
        length = task.length  # refused here where it does not fit the checkpoint
        settings = config.sampling.for_task(task)
        settings.check(length)
        denoise = load_checkpoint(config.denoiser, config.loading)
        self.config, self.progress = config, progress
        self.model = cli.select(
            TextModel,
            config,
            denoise=denoise,
            policy=resolve(config.policy, config.denoiser, denoise, task),
            tokenizer=task.tokenizer,
            config=settings,
            bare=config.chat,
        )

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "MaskedDiffusion":
        """The model that the flags below describe."""
        return cls(cli.parse(Config, words))


def run(config: Config) -> dict[str, Any]:
    """Let the harness run its tasks, print and return its results."""
    if not config.tasks:
        raise MdmError("say what to run: --tasks NAME ...")
    found = lm_eval.simple_evaluate(
        model=MaskedDiffusion(config),
        tasks=list(config.tasks),
        num_fewshot=config.num_fewshot,
        limit=config.limit,
        apply_chat_template=config.chat,
        confirm_run_unsafe_code=config.confirm_run_unsafe_code,
    )
    console.print(found["results"])
    return found


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
