"""The command line: one parser for all experiments, and one clean line for what a person got wrong."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
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

from experiments._cli import field_flags, policy_specs
from experiments._cli.flags import peek, take
from experiments._cli.policies import Learned
from mdm_jax.diffusion.schedules import Cosine, Linear, Polynomial, Schedule
from mdm_jax.policies import heuristics, randomised, threshold_quota
from mdm_jax.policies.count_schedules import AlphaCounts, AncestralCounts, CountRule, LinearCounts
from mdm_jax.policies.remasking import p2, rcr, remdm, rounds, wino
from mdm_jax.runs.loading import read_task
from mdm_jax.runs.published import is_published
from mdm_jax.sampling.config import FROM_TASK, SamplerConfig
from mdm_jax.tasks import PROMPTED, TASKS
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.chains.task import Chains
from mdm_jax.tasks.gsm8k.task import Gsm8k
from mdm_jax.tasks.prompted.free_prompt import FreePrompt
from mdm_jax.tasks.prompted.gsm8k import PromptedGsm8k
from mdm_jax.tasks.prompted.humaneval import HumanEval
from mdm_jax.tasks.prompted.math import PromptedMath
from mdm_jax.tasks.sudoku.task import Sudoku
from mdm_jax.tasks.text.task import Text8

C = TypeVar("C")
Tasks = Sudoku | Chains | Gsm8k | Text8 | PromptedGsm8k | PromptedMath | HumanEval | FreePrompt
AnyTask = Annotated[Tasks, tyro.conf.AvoidSubcommands]
OptionalTask = Annotated[Tasks | None, tyro.conf.AvoidSubcommands]
RunDir = Annotated[str, tyro.conf.arg(aliases=("--denoiser",))]
AnyHeuristic = (
    heuristics.Random
    | heuristics.Ancestral
    | heuristics.TopConfidence
    | heuristics.TopMargin
    | heuristics.LowEntropy
    | heuristics.LeftToRight
    | heuristics.ConfidenceThreshold
    | heuristics.Factor
    | heuristics.EntropyBound
    | threshold_quota.ThresholdQuota
    | randomised.TopKRandom
    | randomised.SoftmaxConfidence
    | p2.P2Plus
)
AnyRemasking = (
    remdm.RemdmCap
    | remdm.RemdmRescale
    | remdm.RemdmConf
    | remdm.RemdmLoop
    | rounds.RemdmRounds
    | p2.P2
    | rcr.Rcr
    | wino.Wino
)
AnySpec = policy_specs.Perturbed | policy_specs.PcSampler | policy_specs.Klass
AnyPolicy = AnyHeuristic | AnyRemasking | AnySpec | Learned
Flat = tyro.conf.OmitArgPrefixes
Fixed = tyro.conf.Fixed
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
REGISTRY = ConstructorRegistry()


def _by_name(kind: type, choices: Mapping[str, Any]) -> None:
    """Let fields annotated with `kind` be given by name."""

    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not kind:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="{" + ",".join(choices) + "}",
            instance_from_str=lambda words: choices[words[0]],
            is_instance=lambda item: isinstance(item, kind),
            str_from_instance=lambda item: [
                next((n for n, c in choices.items() if c == item), str(item))
            ],
            choices=tuple(choices),
        )

    REGISTRY.primitive_rule(rule)


_by_name(Schedule, SCHEDULES)
_by_name(CountRule, COUNT_RULES)


@REGISTRY.struct_rule
def _sampler_flags(info: StructTypeInfo) -> StructConstructorSpec | None:
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


def main(
    config_type: type[C],
    run: Callable[[C], Any],
    doc: str | None,
    presets: Mapping[str, C] | None = None,
    words: list[str] | None = None,
) -> None:
    """Parse the command line into a config and run it; exit 2 with one line on bad input."""
    try:
        run(parse(config_type, sys.argv[1:] if words is None else words, doc, presets))
    except (ValueError, FileNotFoundError, PermissionError, NotADirectoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def parse(
    config_type: type[C],
    words: list[str],
    doc: str | None = None,
    presets: Mapping[str, C] | None = None,
) -> C:
    """The config that the words of a command line say.

    `--task NAME`, `--run DIR` or `--denoiser DIR` (a run's task is the default, a published
    checkpoint is asked the task in words) and `--preset NAME` choose the defaults that the other flags
    then change, so they may stand anywhere.
    """
    words = [re.sub(":iid$", ":ancestral", word) for word in words]  # its other name in the field
    words = field_flags.translate(words) if _takes_policy(config_type) else words
    default, rest = _defaults(config_type, words, presets or {})
    return tyro.cli(
        config_type,
        default=default,
        args=rest,
        description=_describe(doc, default, presets or {}),
        config=(tyro.conf.CascadeSubcommandArgs,),
        registry=REGISTRY,
    )


def with_data_dir(task: Task, data_dir: str | None) -> Task:
    """The task reading its files from `data_dir`.

    Raises:
      ValueError: the task has no files.
    """
    if data_dir is None:
        return task
    if not hasattr(task, "data_dir"):
        raise ValueError(f"task {task.name} makes its own data; leave out --data_dir {data_dir}")
    return replace(task, data_dir=data_dir)


def _takes_policy(config_type: type) -> bool:
    """Whether the field's flags can be said: one policy on one task, no --steps of the config's own."""
    names = {f.name for f in fields(config_type)}
    return {"policy", "task"} <= names and "steps" not in names


def _defaults(
    config_type: type[C], words: list[str], presets: Mapping[str, C]
) -> tuple[C, list[str]]:
    """The config to start from, and the words that are left to parse."""
    preset, words = take(words, "--preset")
    if preset is not None and preset not in presets:
        raise ValueError(f"unknown preset {preset!r}; choose from {', '.join(presets) or 'none'}")
    default = config_type() if preset is None else presets[preset]
    if not hasattr(default, "task"):
        return default, words
    home = peek(words, "--run") or peek(words, "--denoiser")
    name, words = take(words, "--task")
    if home is not None and is_published(home):
        return replace(default, task=_asked(home, name, hasattr(default, "prompt"))), words
    if peek(words, "--run") or (home and (Path(home) / "config.json").is_file()):
        default = replace(default, task=read_task(home))
    if name is not None and name not in TASKS:
        raise ValueError(f"unknown task {name!r}; choose from {', '.join(TASKS)}")
    if name is not None and (default.task is None or name != default.task.name):
        default = replace(default, task=TASKS[name]())
    return default, words


def _asked(checkpoint: str, name: str | None, may_be_free: bool) -> Task:
    """The task in words that a published checkpoint is asked."""
    name = FreePrompt.name if name is None and may_be_free else name
    if name not in PROMPTED:
        raise ValueError(
            f"{checkpoint} is a published checkpoint: say what to ask it with --task, one of "
            f"{', '.join(PROMPTED)}" + ("" if name is None else f", not {name!r}")
        )
    return PROMPTED[name](checkpoint=checkpoint)


def _describe(doc: str | None, default: Any, presets: Mapping[str, Any]) -> str:
    """The experiment's own words, and the flags that choose defaults."""
    lines = [(doc or "").strip()]
    if hasattr(default, "task"):
        lines.append(
            f"--task NAME, one of {', '.join(TASKS)}; its settings follow as --task.X below. "
            f"Published checkpoints are asked {', '.join(PROMPTED)}, in words."
        )
    if _takes_policy(type(default)):
        flags = " ".join(f"--{flag}" for flag in field_flags.FLAGS)
        lines.append(
            f"The field's own flags are understood too: {flags} (experiments/field_names.py)."
        )
    if presets:
        lines.append(f"--preset NAME, one of {', '.join(presets)}.")
    return "\n\n".join(lines)
