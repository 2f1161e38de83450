"""Settings of the sampler."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CacheConfig:
    """Keys and values are kept from one denoiser call to the next (Fast-dLLM, arXiv:2505.22618).

    Attributes:
      kind: what is computed anew in between. "prefix": from the current block to the end of the
        response; "dual": the current block alone.
      refresh: calls after which everything is computed anew, counted inside each block, whose first
        call is always full; 1 is sampling without a cache. None: only at the start of a block.
    """

    kind: Literal["prefix", "dual"] = "dual"
    refresh: int | None = None

    def __post_init__(self) -> None:
        if self.refresh is not None and self.refresh < 1:
            raise ValueError(f"refresh must be at least 1, got {self.refresh}")


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the loop; static, so each value is compiled once.

    Attributes:
      mask_id: the id of MASK; never produced.
      pad_id: the id of right padding, which nothing attends to; never produced.
      budget: most denoiser calls for one sequence; the last one commits all that is left.
      block_length: semi-autoregressive generation in blocks of this many positions, each row in its
        own; None: the whole canvas at once.
      gen_length: the response is this many positions from the first masked one, and the denoiser's
        unembedding and the policy see only those, so no mask may lie beyond; None: masks may be
        anywhere.
      temperature: of the token draw; 0 takes the argmax.
      top_p: share of probability that tokens are drawn from; 1 keeps all.
      top_k: number of tokens at each position that are drawn from; None keeps all.
      policy_sees_draw: policies see the distribution that tokens are drawn from, after temperature,
        top_p and top_k (Dream), instead of the denoiser's own (LLaDA).
      forbid_ids: further ids that are never produced; with EOS, LLaDA's `logits_eos_inf`.
      late_ids: positions that would take one of these come last, whatever the policy; with EOS and
        the end of turn, LLaDA's `confidence_eos_eot_inf`.
      guidance: weight of classifier-free guidance, see `Guided`; needs a gen_length; 0: none.
      eos_id: where given, whatever follows the first EOS of the response is EOS, at no cost.
      unused: further ids that are never produced, such as rows beyond a tokenizer.
      cache: between full calls of the denoiser, compute only part of the canvas anew; None: never.
      record: keep a `Trace`.
      commit: whether the last permitted step reveals all that is left.
    """

    mask_id: int
    pad_id: int
    budget: int
    block_length: int | None = None
    gen_length: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    policy_sees_draw: bool = False
    forbid_ids: tuple[int, ...] = ()
    late_ids: tuple[int, ...] = ()
    guidance: float = 0.0
    eos_id: int | None = None
    unused: tuple[int, ...] = ()
    cache: CacheConfig | None = None
    record: bool = False
    commit: bool = True

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"budget must be at least one denoiser call, got {self.budget}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}; None keeps all tokens")
        if self.guidance and self.gen_length is None:
            raise ValueError(f"guidance {self.guidance} masks the prompt: it needs a gen_length")
