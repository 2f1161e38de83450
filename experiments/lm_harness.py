"""Evaluate a published checkpoint with lm-evaluation-harness, which has to be installed (`lm_eval`).

  python -m experiments.lm_harness --denoiser DIR --tasks gsm8k --num_fewshot 5 --block_length 32 \\
      policy:confidence-threshold --policy.threshold 0.9

Importing this file registers the model as "mdm_jax": its model arguments are the flags below without
dashes, and policy=NAME,policy.KNOB=VALUE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from experiments import _cli as cli
from experiments._cli.console import console, progress
from experiments._cli.policies import resolve
from mdm_jax.evals.generate import check_request, generate
from mdm_jax.evals.likelihood import row_bounds
from mdm_jax.policies import heuristics
from mdm_jax.runs.published import Loading, load_checkpoint
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Batch
from mdm_jax.tasks.canvases import prompt_canvases, response_ids
from mdm_jax.tasks.prompted.free_prompt import FreePrompt

try:
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
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
      num_fewshot: worked examples; None: as the task has it.
      limit: problems of each task; None: all.
    """

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


@register_model("mdm_jax")
class MaskedDiffusion(LM):
    """A published checkpoint as the harness wants it: texts in, texts and log-likelihoods out."""

    def __init__(self, config: Config):
        super().__init__()
        task = FreePrompt(
            checkpoint=config.denoiser, question=" ", chat=False, gen_length=config.gen_length
        )
        self.config, self.tokenizer = config, task.tokenizer
        self.settings = config.sampling.for_task(task)
        self.denoise = load_checkpoint(config.denoiser, config.loading)
        self.policy = resolve(config.policy, config.denoiser, self.denoise, task)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> "MaskedDiffusion":
        """The model of the harness's own command line; its device is the one JAX finds."""
        given = dict(arg_dict)
        size = (additional_config or {}).get("batch_size")
        if size is not None and str(size).isdigit():
            given.setdefault("batch_size", size)
        policy = given.pop("policy", None)
        words = [] if policy is None else [f"policy:{policy}"]
        words += [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return cls(cli.parse(Config, words))

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> "MaskedDiffusion":
        """The same for `name=value,...`."""
        pairs = [pair.partition("=") for pair in arg_string.split(",") if pair]
        return cls.create_from_arg_obj({name: value for name, _, value in pairs}, additional_config)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.where)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as text; it always ends where the answer begins."""
        return self.tokenizer.chat(chat_history)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """One response to each (context, {"until": [...]}), up to EOS or the first stop text."""
        prompts = self._encode([request.args[0] for request in requests])
        length = self.config.gen_length
        canvases = prompt_canvases(
            prompts, max(map(len, prompts)), length, self.tokenizer.vocabulary
        )
        found = []
        size = self.config.batch_size
        check_request(canvases, self.settings, size)
        key = jax.random.key(self.config.seed)
        with progress("generating", len(requests)) as advance:
            for batch in generate(
                key, canvases, self.denoise, self.policy, self.settings, batch_size=size
            ):
                found += list(batch.rollout.canvas)
                advance(len(batch.indices))
        eos = self.tokenizer.vocabulary.eos_id
        answers = [
            response_ids(canvas, len(prompt), length, eos)
            for canvas, prompt in zip(found, prompts, strict=True)
        ]
        return [
            cut(self.tokenizer.decode(ids), request.args[1].get("until", ()))
            for ids, request in zip(answers, requests, strict=True)
        ]

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The any-order bound on log p(continuation | context) of each pair, nats.

        A greedy continuation depends on the policy, so none is said to be one.
        """
        pairs = [move_blanks(*request.args) for request in requests]
        contexts = self._encode([context for context, _ in pairs])
        wholes = self._encode([context + continuation for context, continuation in pairs])
        return [(bound, False) for bound in self._bounds(contexts, wholes)]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """The bound on log p(text) of each text, nothing of it shown."""
        wholes = self._encode([request.args[0] for request in requests])
        return self._bounds([[]] * len(wholes), wholes)

    def _bounds(self, contexts: list[list[int]], wholes: list[list[int]]) -> list[float]:
        """Of the ids after each context, given that."""
        vocabulary = self.tokenizer.vocabulary
        asked = [len(w) - len(c) for c, w in zip(contexts, wholes, strict=True)]
        shape = len(wholes), max(map(len, contexts)) + max(asked)
        tokens, maskable = np.full(shape, vocabulary.pad_id, np.int32), np.zeros(shape, bool)
        for row, (context, whole) in enumerate(zip(contexts, wholes, strict=True)):
            tokens[row, : len(whole)] = whole
            maskable[row, len(context) : len(whole)] = True
        bounds = row_bounds(
            jax.random.key(self.config.seed),
            self.denoise,
            Batch(tokens, maskable),
            vocabulary,
            window=max(asked),
            draws=self.config.draws,
            batch_size=1,
        )
        return (-bounds).tolist()

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer.encode(texts, bare=self.config.chat)


def move_blanks(context: str, continuation: str) -> tuple[str, str]:
    """Blanks at the end of a context go to the continuation, as tokens begin with theirs."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def cut(text: str, until: str | Sequence[str]) -> str:
    """The text before the first stop text."""
    for stop in [until] if isinstance(until, str) else until:
        text = text.partition(stop)[0] if stop else text
    return text


def run(config: Config) -> dict[str, Any]:
    """Let the harness run its tasks, print and return its results."""
    if not config.tasks:
        raise ValueError("say what to run: --tasks NAME ...")
    found = lm_eval.simple_evaluate(
        model=MaskedDiffusion(config),
        tasks=list(config.tasks),
        num_fewshot=config.num_fewshot,
        limit=config.limit,
        apply_chat_template=config.chat,
    )
    console.print(found["results"])
    return found


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
