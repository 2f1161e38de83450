"""Types of the fields of an experiment's config, and how the command line writes them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from mdm_jax.diffusion.schedules import Cosine, Linear, Polynomial, Schedule
from mdm_jax.policies.count_schedules import (
    AlphaCounts,
    AncestralCounts,
    CountRule,
    GivenCounts,
    LinearCounts,
)
from mdm_jax.policies.kinds import AnyHeuristic, AnyLookahead, AnyPairwise, AnyRemasking
from mdm_jax.policies.mask_git import Annealing, Compounded, Constant, Fading
from mdm_jax.rl.branch_objective import BranchObjective
from mdm_jax.runs.policy_specs import Spec
from mdm_jax.sampling.config import FROM_TASK, SamplerConfig
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.digits3 import Digits3
from mdm_jax.tasks.gsm8k import Gsm8k
from mdm_jax.tasks.markov_chain import MarkovChain
from mdm_jax.tasks.prompted import FreePrompt, HumanEval, PromptedGsm8k, PromptedMath
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.tasks.text import Text8

Trained = Sudoku | Chains | Gsm8k | Text8 | MarkovChain | Digits3
Tasks = Trained | PromptedGsm8k | PromptedMath | HumanEval | FreePrompt
AnyTask = Annotated[Tasks, tyro.conf.AvoidSubcommands]
OptionalTask = Annotated[Tasks | None, tyro.conf.AvoidSubcommands]
OptionalBranches = Annotated[BranchObjective | None, tyro.conf.AvoidSubcommands]
RunDir = Annotated[str, tyro.conf.arg(aliases=("--denoiser",))]
ByRule = AnyHeuristic | AnyRemasking | AnyLookahead | AnyPairwise
AnyPolicy = ByRule | Spec
OptionalPolicy = AnyPolicy | None
Flat = tyro.conf.OmitArgPrefixes
Fixed = tyro.conf.Suppress  # not shown by --help: the preset decides
REQUIRED: Any = tyro.MISSING
SCHEDULES: dict[str, Schedule] = {
    "linear": Linear(),
    "cosine": Cosine(),
    "quadratic": Polynomial(2.0),
}
COUNT_RULES: dict[str, CountRule] = {
    "linear": LinearCounts(),
    "cosine": AlphaCounts(Cosine()),
    "quota": AlphaCounts(Linear()),
    "dream": AncestralCounts(1e-3),
    "smdm": AncestralCounts(1e-5),
}
ANNEALINGS: dict[str, Annealing] = {str(one): one for one in (Fading(), Constant(), Compounded())}
REGISTRY = ConstructorRegistry()
C = TypeVar("C")


def select(kind: type[C], config: Any, /, **more: Any) -> C:
    """A library dataclass with those settings of a config that it has fields for, and more."""
    names = {field.name for field in fields(kind)} & {field.name for field in fields(config)}
    return kind(**{name: getattr(config, name) for name in names} | more)


def _by_name(
    kind: type, choices: Mapping[str, Any], other: Callable[[str], Any] | None = None
) -> None:
    """Let fields annotated with `kind` be given by name, or else by what `other` makes of a word."""
    more = "" if other is None else "|1,2,5"

    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not kind:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="{" + ",".join(choices) + "}" + more,
            instance_from_str=lambda words: choices.get(words[0]) or other(words[0]),
            is_instance=lambda item: isinstance(item, kind),
            str_from_instance=lambda item: [
                next((n for n, c in choices.items() if c == item), str(item))
            ],
            choices=tuple(choices) if other is None else None,
        )

    REGISTRY.primitive_rule(rule)


def _given_counts(text: str) -> GivenCounts:
    """Counts such as 1,2,5."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        names = ", ".join(COUNT_RULES)
        raise ValueError(f"{text!r} is none of {names}, and no counts such as 1,2,5")
    return GivenCounts(tuple(map(int, text.split(","))))


_by_name(Schedule, SCHEDULES)
_by_name(CountRule, COUNT_RULES, _given_counts)
_by_name(Annealing, ANNEALINGS)


@REGISTRY.struct_rule
def _sampler_config(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Flags for all settings of the sampler but those that the task or the program decides."""
    if info.type is not SamplerConfig:
        return None
    default = info.default if isinstance(info.default, SamplerConfig) else SamplerConfig()
    types, doc = get_type_hints(SamplerConfig), docstring_parser.parse(SamplerConfig.__doc__)
    flags = tuple(
        StructFieldSpec(name, types[name], getattr(default, name), " ".join(text.split()))
        for name, text in ((param.arg_name, param.description) for param in doc.params)
        if name not in (*FROM_TASK, "record", "commit")
    )
    return StructConstructorSpec(partial(replace, default), flags)
