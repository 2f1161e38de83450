"""A masked diffusion model of text, for evaluation harnesses: text in, text and likelihoods out."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.generate import Batching, generate
from mdm_jax.evals.likelihood import row_bounds
from mdm_jax.keys import Stream, stream
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Batch
from mdm_jax.tasks.canvases import prompt_canvases, response_ids
from mdm_jax.tasks.prompted.tokenizer import TextTokenizer


@dataclass(frozen=True, eq=False)
class TextModel:
    """A denoiser, a policy and a tokenizer.

    A context that leaves no room for the answer on the checkpoint's longest canvas loses its beginning,
    with a warning.

    Attributes:
      config: of the sampler, with a `gen_length`.
      bare: prompts already contain the chat template, so no special ids are added.
      draws: masks per text, for its likelihood.
      batch_size: responses at once.
      seed: of token draws, policy and masks.
    """

    denoise: Denoise
    policy: Policy
    tokenizer: TextTokenizer
    config: SamplerConfig
    bare: bool = False
    draws: int = 128
    batch_size: int = 8
    seed: int = 0

    def complete(
        self,
        prompts: Sequence[str],
        stops: Sequence[Sequence[str] | str],
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> list[str]:
        """One response to each prompt, up to EOS or the first of its stop texts.

        Args:
          stops: stop texts of each prompt.
          on_batch: called after each batch with its number of prompts.
        """
        length = self.config.gen_length
        ids = self._ends(self._encode(prompts), self.tokenizer.max_length - length)
        vocabulary = self.tokenizer.vocabulary
        canvases = prompt_canvases(ids, max(map(len, ids)), length, vocabulary)
        responses = [
            response_ids(canvas, len(prompt), length, vocabulary)
            for canvas, prompt in zip(self._generate(canvases, on_batch), ids, strict=True)
        ]
        return [
            cut(self.tokenizer.decode(response), stop)
            for response, stop in zip(responses, stops, strict=True)
        ]

    def _generate(self, canvases: np.ndarray, on_batch: Callable[[int], None]) -> list[np.ndarray]:
        finished, batching = {}, Batching(self.batch_size)
        for batch in generate(
            stream(self.seed, Stream.GENERATION),
            canvases,
            denoise=self.denoise,
            policy=self.policy,
            config=self.config,
            batching=batching,
        ):
            finished |= dict(zip(batch.indices.tolist(), batch.rollout.canvas, strict=True))
            on_batch(len(batch.indices))
        return [finished[index] for index in range(len(canvases))]

    def log_likelihoods(self, contexts: Sequence[str], continuations: Sequence[str]) -> list[float]:
        """The any-order bound on log p(continuation | context) of each pair, nats."""
        pairs = [move_blanks(*pair) for pair in zip(contexts, continuations, strict=True)]
        given = self._encode([context for context, _ in pairs])
        wholes = self._encode([context + continuation for context, continuation in pairs])
        kept = self._ends(wholes, self.tokenizer.max_length)
        cut = [len(whole) - len(end) for whole, end in zip(wholes, kept, strict=True)]
        return self._bounds([ids[n:] for ids, n in zip(given, cut, strict=True)], kept)

    def text_log_likelihoods(self, texts: Sequence[str]) -> list[float]:
        """The any-order bound on log p(text) of each text, nats.

        A text beyond the longest canvas is cut into pieces, whose bounds are added up.
        """
        most = self.tokenizer.max_length
        pieces = [_pieces(ids, most) for ids in self._encode(texts)]
        bounds = iter(self._bounds([], [piece for row in pieces for piece in row]))
        return [sum(next(bounds) for _ in row) for row in pieces]

    def _bounds(self, contexts: list[list[int]], wholes: list[list[int]]) -> list[float]:
        """Of the ids after each context, given that; no contexts: of all ids."""
        vocabulary, contexts = self.tokenizer.vocabulary, contexts or [[]] * len(wholes)
        lengths = [len(w) - len(c) for c, w in zip(contexts, wholes, strict=True)]
        longest = max(map(len, contexts)) + max(lengths)
        shape = len(wholes), min(longest, self.tokenizer.max_length)
        tokens, maskable = np.full(shape, vocabulary.pad_id, np.int32), np.zeros(shape, bool)
        for row, (context, whole) in enumerate(zip(contexts, wholes, strict=True)):
            tokens[row, : len(whole)] = whole
            maskable[row, len(context) : len(whole)] = True
        bounds = row_bounds(
            stream(self.seed, Stream.LIKELIHOOD),
            self.denoise,
            Batch(tokens, maskable),
            vocabulary,
            window=max(lengths),
            draws=self.draws,
            batch_size=1,
        )
        return (-bounds).tolist()

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self.bare:
            return self.tokenizer.encode(texts, bare=True)
        return self.tokenizer.encode_text(texts)

    def _ends(self, texts: list[list[int]], most: int) -> list[list[int]]:
        """The last `most` ids of each text."""
        long = [len(ids) for ids in texts if len(ids) > most]
        if long:
            warnings.warn(
                f"{len(long)} of {len(texts)} contexts lose their beginning: up to {max(long)} tokens, "
                f"where {most} fit the checkpoint beside the answer",
                stacklevel=2,
            )
        return [ids[-most:] for ids in texts]


def _pieces(ids: list[int], most: int) -> list[list[int]]:
    """Ids in pieces of at most `most`; one of nothing where there are none."""
    return [ids[start : start + most] for start in range(0, max(len(ids), 1), most)]


def move_blanks(context: str, continuation: str) -> tuple[str, str]:
    """Blanks at the end of a context go to the continuation, as tokens begin with theirs."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def cut(text: str, stops: str | Sequence[str]) -> str:
    """The text before the first stop text."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0] if stop else text
    return text
