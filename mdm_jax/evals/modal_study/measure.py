"""What a training of the study reached: bits per token of each modality, and accuracy by direction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.guidance import Guided
from mdm_jax.evals.generate import Batching, generate
from mdm_jax.evals.likelihood import position_bounds
from mdm_jax.evals.modal_study.variants import Setting
from mdm_jax.evals.score import verify_all
from mdm_jax.keys import Stream, stream
from mdm_jax.runs.denoisers import LoadedDenoiser, load_denoiser
from mdm_jax.runs.json_files import append_rows, read_rows
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task, stream_of

ROWS = "study.jsonl"  # in a run's directory
BITS = "bits"  # the name of the row that is not about a direction
AT_ONCE = 512  # canvases

Row = Mapping[str, Any]
Rows = Mapping[str, Row]  # of one run, by name


def rows_in(run: Path, training: str) -> dict[str, Row]:
    """What is known of a run by name, if its training was this one.

    Args:
      training: a digest of its settings.
    """
    return {row["name"]: row for row in read_rows(run / ROWS) if row["training"] == training}


def measured(
    run: Path, training: str, task: Task, settings: Sequence[Setting], examples: int
) -> Rows:
    """Rows by name, those that RUN/study.jsonl lacks made first.

    Args:
      training: a digest of its settings.
      task: mixed, whose held-out sequences the bits are of, whatever the run was trained on.
      examples: test prompts of each direction.
    """
    known = rows_in(run, training)
    names = {name_of(setting, examples): setting for setting in settings}
    missing = [name for name in (BITS, *names) if name not in known]
    if missing:
        loaded = load_denoiser(run, replace(task, direction="mixed"))
        for name in missing:
            setting = names.get(name)
            row = accuracy_of(loaded, setting, examples) if setting else bits_of(loaded)
            known[name] = {"name": name, "training": training} | row
            append_rows(run / ROWS, [known[name]])
    return {name: known[name] for name in (BITS, *names)}


def name_of(setting: Setting, examples: int) -> str:
    """What a row is called."""
    return f"{setting.direction}: {setting.name}, {examples} prompts"


def bits_of(loaded: LoadedDenoiser) -> Row:
    """The any-order bound on held-out sequences: nats of a sequence, and bits per token by modality."""
    task = loaded.task
    data, key = task.heldout(), stream(0, Stream.DENOISER_BOUND)
    bounds = position_bounds(key, loaded.denoise, data, task.vocabulary)
    found = {"nats": float(bounds.sum(axis=1).mean())}
    for span in stream_of(task).spans:
        tokens = max(int(data.maskable[:, span.positions].sum()), 1)
        found[span.modality] = float(bounds[:, span.positions].sum()) / tokens / math.log(2.0)
    return found


def accuracy_of(loaded: LoadedDenoiser, setting: Setting, examples: int) -> Row:
    """How often the verifier is satisfied, mean denoiser calls, and how many canvases differ."""
    task = replace(loaded.task, direction=setting.direction)
    prompts = task.examples("test", examples)
    plain = SamplerConfig(temperature=setting.temperature).for_task(task)
    config = replace(plain, condition=(), response=())  # compiled once for all directions
    found = generate(
        stream(0, Stream.GENERATION),
        prompts.canvases,
        denoise=guided(loaded.denoise, setting, plain),
        policy=setting.policy,
        config=config,
        batching=Batching(min(examples, AT_ONCE)),
    )
    batches = sorted(found, key=lambda one: int(one.indices[0]))
    order = np.argsort(np.concatenate([one.indices for one in batches]))
    canvases = np.concatenate([one.rollout.canvas for one in batches])[order]
    calls = np.concatenate([one.rollout.nfe for one in batches])
    correct = verify_all(task, canvases, prompts.references)
    return {
        "correct": int(correct.sum()),
        "total": len(correct),
        "calls": float(calls.mean()),
        "distinct": len(np.unique(canvases, axis=0)) / len(canvases),
    }


def guided(denoise: Denoise, setting: Setting, config: SamplerConfig) -> Denoise:
    """The denoiser away from its logits without the prompt; a weight compiles nothing again."""
    if not setting.guidance:
        return denoise
    weight = jnp.asarray(setting.guidance, jnp.float32)
    rest = config.mask_id, setting.grows, config.condition, config.response
    return Guided(denoise, weight, *rest)
