"""Settings of the sampler: the one place where they are declared, for library and command line."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from mdm_jax.errors import MdmError, check_range
from mdm_jax.sampling.canvas import block_ids

FROM_TASK = (  # never flags of their own
    "mask_id",
    "pad_id",
    "eos_id",
    "unused",
    "gen_length",
    "condition",
    "response",
)


@runtime_checkable
class HasVocabulary(Protocol):
    """What a task says about its canvases; see `mdm_jax.tasks.base.Task`."""

    @property
    def vocabulary(self) -> Any: ...  # with mask_id, pad_id, eos_id and unused

    @property
    def length(self) -> int: ...

    @property
    def gen_length(self) -> int | None: ...


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the sampling loop; static, so each distinct value is compiled once.

    Ids, response window and budget may be left out and filled in by `for_task`.

    Attributes:
      mask_id: id of MASK; never produced.
      pad_id: id of right padding, which nothing attends to; never produced.
      budget: most denoiser calls for one sequence, the last of which reveals all that is left; None:
        as many as there are positions to generate. A policy that looks ahead makes further calls,
        which are counted, but not against it.
      block_length: semi-autoregressive generation in blocks of this many positions, each sequence in
        its own current block; None: all positions at once.
      gen_length: the response is this many positions from the first masked one. Logits are computed
        for those alone, and no mask may lie beyond; None: masks may be anywhere.
      temperature: of the token draws; 0 takes the most probable token.
      top_p: draw from the most probable tokens that together have this probability; 1: all.
      top_k: draw from this many of the most probable tokens; None: all.
      policy_sees_draw: policies see the distribution that tokens are drawn from, after temperature,
        top_p and top_k (as in Dream), instead of the denoiser's own (as in LLaDA).
      forbid_ids: further ids that are never produced; with EOS, LLaDA's logits_eos_inf.
      late_ids: positions that would take one of these ids are revealed last, whatever the policy;
        with EOS and the end of turn, LLaDA's confidence_eos_eot_inf.
      guidance: weight of classifier-free guidance, at two forward passes per call; 0: none. LLaDA's
        cfg_scale.
      guidance_grows: multiply that weight by the share of the response that is revealed.
      condition: positions that guidance masks; (): all but the response, which is `gen_length` long.
      response: positions that are generated after such a condition.
      eos_id: ends a response; None: responses have no end.
      unused: further ids that are never produced, such as embedding rows beyond the tokenizer.
      cache: keep keys and values between denoiser calls, and recompute only the current block (dual)
        or from there to the end of the response (prefix); None: recompute everything. For published
        checkpoints. Reference: Fast-dLLM, arXiv:2505.22618.
      refresh: denoiser calls after which the cache is recomputed, counted within each block, whose
        first call always does; None: at the start of each block only.
      cut_eos: what follows the first EOS of a response becomes EOS, at no cost.
      record: return a `Trace` of every step.
      commit: the last permitted call reveals all that is left.

    Raises:
      MdmError: a value out of range.
    """

    mask_id: int | None = None
    pad_id: int | None = None
    budget: int | None = None
    block_length: int | None = None
    gen_length: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    policy_sees_draw: bool = False
    forbid_ids: tuple[int, ...] = ()
    late_ids: tuple[int, ...] = ()
    guidance: float = 0.0
    guidance_grows: bool = False
    condition: tuple[int, ...] = ()
    response: tuple[int, ...] = ()
    eos_id: int | None = None
    unused: tuple[int, ...] = ()
    cache: Literal["prefix", "dual"] | None = None
    refresh: int | None = None
    cut_eos: bool = True
    record: bool = False
    commit: bool = True

    def __post_init__(self) -> None:
        for name in ("budget", "top_k", "refresh"):
            check_range(name, getattr(self, name), 1)
        check_range("temperature", self.temperature, 0)
        check_range("top_p", self.top_p, above=0, high=1)
        check_range("guidance", self.guidance)
        if self.refresh is not None and self.cache is None:
            raise MdmError(f"refresh {self.refresh} needs a cache: choose prefix or dual")

    def for_task(self, task: HasVocabulary, **overrides: Any) -> "SamplerConfig":
        """These settings for one task: its ids, its response window, and a budget that suffices.

        Args:
          task: fills in what is still at its default among `FROM_TASK`, and the budget.
          overrides: settings that take precedence over both.

        Raises:
          MdmError: an id that the task does not have, or none is left that may be produced.
        """
        vocabulary = task.vocabulary
        of_task = {
            "mask_id": vocabulary.mask_id,
            "pad_id": vocabulary.pad_id,
            "eos_id": vocabulary.eos_id,
            "unused": vocabulary.unused,
            "gen_length": task.gen_length,
            "condition": getattr(task, "condition", ()),
            "response": getattr(task, "response", ()),
            "budget": task.gen_length or task.length,
        }
        missing = {k: v for k, v in of_task.items() if getattr(self, k) in (None, ())}
        config = replace(self, **(missing | overrides))
        for name in ("forbid_ids", "late_ids"):
            for token in getattr(config, name):
                check_range(name, token, 0, vocabulary.size - 1)
        never = {config.mask_id, config.pad_id, *config.unused, *config.forbid_ids}
        if never >= set(range(vocabulary.size)):
            raise MdmError("forbid_ids leave no id that may be produced")
        return config

    def check(self, length: int) -> None:
        """Raise MdmError unless the settings are complete and fit a canvas of `length` positions."""
        absent = [n for n in ("mask_id", "pad_id", "budget") if getattr(self, n) is None]
        if absent:
            raise MdmError(
                f"the sampler needs {', '.join(absent)}: use config.for_task(task), or give them"
            )
        if self.gen_length is not None and not 1 <= self.gen_length <= length:
            raise MdmError(f"gen_length {self.gen_length} does not fit a canvas of {length}")
        if self.guidance and self.gen_length is None and not self.condition:
            raise MdmError(
                f"guidance {self.guidance} masks the prompt: it needs a gen_length, or a task "
                "whose prompts are at positions that are known"
            )
        block_ids(self.gen_length or length, self.block_length)
