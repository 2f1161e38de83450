"""Reading the fields of a published config.json: used, admitted with one value, or without effect."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from mdm_jax.errors import MdmError

Fields = Mapping[str, Any]

# written by the libraries that trained and stored a model; no forward pass depends on them
IGNORED = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "cls_token_id",
        "dtype",
        "embedding_dropout",
        "finetuning_task",
        "generation_config",
        "id2label",
        "init_cutoff_factor",
        "init_device",
        "init_fn",
        "init_std",
        "initializer_range",
        "label2id",
        "max_window_layers",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "precision",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "residual_dropout",
        "return_dict",
        "sep_token_id",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "unk_token_id",
        "use_bfloat16",
        "use_cache",
    }
)
# defaults that transformers writes out; with another value they would change the network
NEUTRAL: Mapping[str, tuple] = {
    "add_cross_attention": (False, None),
    "chunk_size_feed_forward": (0, None),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "rope_scaling": (None, {"rope_type": "default"}, {"type": "default"}),
    "sliding_window": (None,),
    "tie_encoder_decoder": (False, None),
    "tie_word_embeddings": (False,),
    "use_mrope": (False, None),
    "use_sliding_window": (False,),
}
FLOATS = ("norm_eps", "rope_base")  # attributes of `PretrainedConfig`; the other numbers are whole


class FieldRules(NamedTuple):
    """What a family's config.json may say.

    Attributes:
      attributes: required numbers, each with the attribute of `PretrainedConfig` that it sets.
      required: further numbers that must be there.
      fixed: fields that may be missing, and the values that are implemented.
      ignored: further fields that change nothing, or that the family reads by itself.
    """

    attributes: Mapping[str, str]
    required: Collection[str]
    fixed: Mapping[str, tuple]
    ignored: Collection[str] = ()


def read_attributes(published: Fields, rules: FieldRules) -> dict[str, Any]:
    """The attributes of `PretrainedConfig` that the fields give by `rules.attributes`.

    Raises:
      MdmError: a field is missing, is not understood, or has a value that is not implemented.
    """
    published = _without_rope_parameters(published)
    required = {*rules.attributes, *rules.required}
    missing = sorted(required - published.keys())
    if missing:
        raise MdmError(f"config.json lacks {', '.join(missing)}")
    fixed = {**NEUTRAL, **rules.fixed}
    known = {*required, *fixed, *rules.ignored, *IGNORED, "head_dim", "layer_types"}
    unknown = {name: published[name] for name in sorted(published.keys() - known)}
    if unknown:
        raise MdmError(f"config.json has fields that are not understood: {unknown}")
    for name in required:
        check_number(name, published[name])
    for name, admitted in fixed.items():
        check_value(name, published.get(name, admitted[0]), admitted)
    layers = published.get("layer_types")
    others = [x for x in layers if x != "full_attention"] if isinstance(layers, list) else layers
    check_value("layer_types", others, (None, []))
    return {ours: _typed(name, published[name], ours) for name, ours in rules.attributes.items()}


def _typed(name: str, value: int | float, attribute: str) -> int | float:
    """A float for the attributes that are floats, else a whole number."""
    if attribute in FLOATS:
        return float(value)
    if not isinstance(value, int):
        raise MdmError(f"config.json says {name} = {value!r}; it must be a whole number")
    return value


def check_number(name: str, value: Any) -> None:
    """Raise MdmError unless `value` is a finite number (a list of token ids is one per id)."""
    values = value if name.endswith("_token_id") and isinstance(value, list) else [value]
    if not values or not all(map(_is_number, values)):
        raise MdmError(f"config.json says {name} = {value!r}; it must be a number")


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def check_value(name: str, value: Any, admitted: tuple) -> None:
    """Raise MdmError unless `value` is one of those that are implemented."""
    if value not in admitted:
        said = " or ".join(map(repr, admitted))
        raise MdmError(f"config.json says {name} = {value!r}; only {said} is implemented")


def _without_rope_parameters(published: Fields) -> Fields:
    """`rope_theta` as a field of its own: transformers 5 writes it inside `rope_parameters`."""
    rope = published.get("rope_parameters")
    rest = {name: value for name, value in published.items() if name != "rope_parameters"}
    if rope is None:
        return rest
    base = rope.get("rope_theta") if isinstance(rope, Mapping) else None
    plain = {"rope_theta": base, "rope_type": "default"}
    check_value("rope_parameters", rope, (plain, {"rope_theta": base}))
    if rest.setdefault("rope_theta", base) != base:
        raise MdmError(
            f"config.json contradicts itself: rope_theta is {rest['rope_theta']}, and {base} in "
            "rope_parameters"
        )
    return rest
