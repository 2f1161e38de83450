"""Shape and conventions of a published denoiser."""

from dataclasses import dataclass
from typing import Literal

from mdm_jax.denoisers.attention import Implementation
from mdm_jax.errors import MdmError

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Shape, conventions and numerics of a published denoiser.

    Attributes:
      vocab: rows of the head: ids that have a logit.
      embeddings: rows of the embedding; the id after them is padding.
      width: of the residual stream.
      depth: blocks.
      heads: of the queries.
      kv_heads: of keys and values; each is shared by heads / kv_heads query heads.
      mlp: inner width of the SwiGLU.
      max_length: most positions of a canvas.
      norm_eps: of every RMSNorm.
      rope_base: base of the rotary frequencies.
      qkv_bias: whether queries, keys and values have biases (Dream).
      shifted: the logits of position i are row i - 1 of the head's output, those of position 0 row 0
        (Dream). The network shifts them back: callers always index by position.
      rounded_rope: the rotary cos and sin are rounded to bfloat16 whatever is computed in (SMDM).
      dtype: what is computed in, and what fresh parameters are. Rotation, softmax and logits are
        float32.
      attention: which kernel; see `mdm_jax.denoisers.attention`.

    Raises:
      MdmError: a size below 1, an `rope_base` or `norm_eps` that is not positive, heads that do not
        divide the width into even parts, or kv_heads that do not divide the heads.
    """

    vocab: int
    embeddings: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    mlp: int
    max_length: int
    norm_eps: float
    rope_base: float
    qkv_bias: bool = False
    shifted: bool = False
    rounded_rope: bool = False
    dtype: Dtype = "float32"
    attention: Implementation = "auto"

    def __post_init__(self) -> None:
        sizes = ("vocab", "embeddings", "width", "depth", "heads", "kv_heads", "mlp", "max_length")
        for name in sizes:
            if getattr(self, name) < 1:
                raise MdmError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("norm_eps", "rope_base"):
            if not 0 < getattr(self, name) < float("inf"):
                raise MdmError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if self.width % self.heads or self.dim % 2:
            raise MdmError(
                f"heads {self.heads} must divide width {self.width} into even parts (rotary pairs)"
            )
        if self.heads % self.kv_heads:
            raise MdmError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")

    @property
    def dim(self) -> int:
        """Width of one head."""
        return self.width // self.heads
