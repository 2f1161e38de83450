"""Accuracy against cost: generate once, store, score from the store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.asked import asked, check_asked
from mdm_jax.evals.generate import Batching, Generated, Parallel, generate, generate_sweep
from mdm_jax.evals.labels import DRAW, acting, describe_policy, describe_sampler, label_of
from mdm_jax.evals.sample_lines import Sample
from mdm_jax.evals.score import Outcome, row_of, take, verify_all
from mdm_jax.evals.store import SampleStore
from mdm_jax.policies.base import Policy
from mdm_jax.policies.switch import as_switch
from mdm_jax.profiling.throughput import throughput
from mdm_jax.runs.description import digest
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Examples, Task, TextTask
from mdm_jax.types import RowKey


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Everything that an evaluation needs but the policy.

    Prompt i always uses fold_in(key, i), so a generation depends neither on the batch it was made in
    nor on what the store already had.

    Attributes:
      task: verifies.
      examples: the prompts, and what the verifier compares with.
      denoise: the denoiser.
      config: settings of the sampler, filled in by `SamplerConfig.for_task`.
      store: where generations are kept; they are made once.
      key: of the token draws and the policy.
      batch_size: prompts completed at once.
      parallel: how a batch is spread over devices.
      denoiser: what identifies the denoiser's weights; None: a digest of them.
      draw: number of the generation of each prompt; every draw has a key of its own, and 0 is the one
        that policies are compared by.

    Raises:
      MdmError: the store has generations for other prompts or references than these.
    """

    task: Task
    examples: Examples
    denoise: Denoise
    config: SamplerConfig
    store: SampleStore
    key: RowKey
    batch_size: int = 256
    parallel: Parallel = "vmap"
    denoiser: str | None = None
    draw: int = 0

    def __post_init__(self) -> None:
        check_asked(self.store, self.asked)

    @cached_property
    def asked(self) -> list[str]:
        """Digests of each prompt and reference."""
        return asked(self.examples)

    @cached_property
    def _draw_key(self) -> RowKey:
        """The key of this draw. Those of later draws are folded in from the other end than prompts."""
        return jax.random.fold_in(self.key, np.uint32(2**32 - self.draw)) if self.draw else self.key

    @cached_property
    def _world(self) -> dict[str, Any]:
        """What determines the generations, beside prompt and policy."""
        denoiser = digest(self.denoise) if self.denoiser is None else self.denoiser
        return {
            "denoiser": denoiser,
            "sampler": replace(self.config, record=False),
            "key": self._draw_key,
        }

    def settings(self, policy: Policy) -> dict[str, Any]:
        """The policy's knobs and the sampler's settings, as tables show them."""
        shown = describe_policy(policy) | describe_sampler(self.config, self.task)
        return shown | ({DRAW: self.draw} if self.draw else {})

    def label(self, policy: Policy) -> str:
        """What the store calls the generations of a policy: equal labels, equal generations.

        Its digest covers all that is in the policy, the sampler's settings, the key and the denoiser.
        """
        everything = digest({"policy": acting(policy), **self._world})
        return label_of(type(acting(policy)).__name__, self.settings(policy) | {"id": everything})

    def draws(self, count: int) -> "list[Evaluator]":
        """The same evaluation once for each of several generations of every prompt, this one first."""
        return [replace(self, draw=self.draw + number) for number in range(count)]

    def done(self, policy: Policy) -> Int[np.ndarray, " n"]:
        """The prompts that the store has generations of."""
        indices = np.array(sorted(self.store.done(self.label(policy))), dtype=int)
        return indices[indices < len(self.examples.canvases)]

    def generate(
        self, policy: Policy, on_batch: Callable[[int], None] = lambda count: None
    ) -> None:
        """Complete the prompts that the store lacks.

        Args:
          on_batch: called after each batch with its number of prompts.

        Raises:
          ValueError: no examples, or they do not fit the settings or the devices.
        """
        label = self.label(policy)
        batches = generate(
            self._draw_key,
            self.examples.canvases,
            denoise=self.denoise,
            policy=policy,
            config=self.config,
            batching=Batching(self.batch_size, self.parallel),
            indices=self._missing(self.done(policy)),
        )
        for batch in batches:
            self.store.append(self._samples(label, batch))
            on_batch(len(batch.indices))

    def score(self, policy: Policy) -> Outcome:
        """The table row of what the store has of a policy.

        Raises:
          ValueError: it has nothing.
        """
        label = self.label(policy)
        found = self.store.read(label).first(len(self.examples.canvases))
        references = take(self.examples.references, found.index)
        correct = verify_all(self.task, found.tokens, references)
        name = type(acting(policy)).__name__
        row = row_of(name, self.settings(policy), label, correct, found)
        speed = throughput(found, self.examples.canvases, self.task.vocabulary)
        return Outcome(replace(row, tokens_per_call=speed.useful_tokens_per_call), correct)

    def evaluate(
        self, policy: Policy, on_batch: Callable[[int], None] = lambda count: None
    ) -> Outcome:
        """`generate`, then `score`."""
        self.generate(policy, on_batch)
        return self.score(policy)

    def compare(
        self,
        policies: Sequence[Policy],
        on_policy: Callable[[Outcome], None] = lambda outcome: None,
    ) -> list[Outcome]:
        """Evaluate several policies on the same prompts; those of one kind share a compiled program.

        Args:
          on_policy: called with the outcome of each.
        """
        outcomes = []
        for policy in as_switch(tuple(policies)):
            outcomes.append(self.evaluate(policy))
            on_policy(outcomes[-1])
        return outcomes

    def sweep(self, policies: Sequence[Policy]) -> list[Outcome]:
        """Evaluate one policy at several settings of its knobs, as one compiled call per batch.

        A prompt is completed again at all of them unless the store has it at all of them.
        """
        labels = [self.label(policy) for policy in policies]
        done = set.intersection(*(self.store.done(label) for label in labels))
        batches = generate_sweep(
            self._draw_key,
            self.examples.canvases,
            denoise=self.denoise,
            policies=list(policies),
            config=self.config,
            batch_size=self.batch_size,
            indices=self._missing(np.array(sorted(done), dtype=int)),
        )
        for batch in batches:
            for label, one in zip(labels, batch, strict=True):
                done = self.store.done(label)
                samples = self._samples(label, one)
                self.store.append([sample for sample in samples if sample.index not in done])
        return [self.score(policy) for policy in policies]

    def _missing(self, done: Int[np.ndarray, " n"]) -> Int[np.ndarray, " todo"]:
        return np.setdiff1d(np.arange(len(self.examples.canvases)), done)

    def _samples(self, label: str, batch: Generated) -> list[Sample]:
        """Finished canvases as records of the store."""
        found = batch.rollout
        seconds = None if batch.seconds is None else batch.seconds / len(found.nfe)
        columns = zip(
            batch.indices, found.canvas, found.nfe, found.passes, found.revealed_at, strict=True
        )
        return [
            Sample(
                setting=label,
                index=index,
                tokens=tokens,
                nfe=nfe,
                passes=passes,
                seconds=seconds,
                revealed_at=steps,
                asked=self.asked[int(index)],
                **self._text(int(index), tokens),
            )
            for index, tokens, nfe, passes, steps in columns
        ]

    def _text(self, index: int, canvas: Int[np.ndarray, " length"]) -> dict[str, str | None]:
        """The canvas as text: prompt, response, answer and reference where the task has them."""
        if isinstance(self.task, TextTask):
            reference = take(self.examples.references, index)
            return self.task.text_record(canvas, reference)._asdict()
        return {"text": self.task.decode(canvas)}
