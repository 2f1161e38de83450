"""A run directory: config.json (what was run) and env.json (with which versions, on which devices).

No run overwrites another: a directory is either new, or resumed with the configuration that it was
created with, by one process at a time. The other files are the metrics (`MetricsLog`), the checkpoints
and the results.
"""

import json
import pathlib
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.runs.description import Json, describe
from mdm_jax.runs.environment import STARTS, environment
from mdm_jax.runs.json_files import Path, read_json, write_json
from mdm_jax.runs.lock import LOCK, only_writer
from mdm_jax.sharding import wait_for_processes

FORMAT = 2  # of config.json and everything beside it
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
BEST = "best"  # checkpoint of the best window of rewards
DENOISER = "denoiser"  # the run of the denoiser that an order or a policy trained for itself
DENOISER_IDENTITY = "denoiser_identity"  # key of config.json: the weights that were learned with
START_IDENTITY = "start_identity"  # and those that learning started from
TOKENIZER = "tokenizer.json"
OFF = ("none", "softmax")  # values of settings that change nothing, beside those that are false


@contextmanager
def open_run(
    directory: Path, experiment: str, config: Any, ignore: Sequence[str] = ()
) -> Iterator[pathlib.Path]:
    """Creates a run directory, or resumes the one that is there with the same configuration.

    No other process can open it while the block runs. config.json is {"format": 2, "experiment": NAME,
    **describe(config)}; env.json gets one entry more for each start.

    Args:
        directory: new, empty, or a run directory.
        experiment: the entry point, such as "train_denoiser".
        config: a dataclass or a mapping that `describe` understands.
        ignore: dotted keys that may differ on resume ("steps", "policy.threshold"; a prefix stands
            for all below it). config.json keeps their first values, env.json lists the new ones.

    Yields:
        The directory's path.

    Raises:
        MdmError: if the directory holds something else, or a run with another configuration or of an
            earlier version, or another process has opened it. Nothing has been written then.
    """
    directory = expand(directory)
    described = {"format": FORMAT, "experiment": experiment, **describe(config)}
    _refuse_others(directory)
    with only_writer(directory):
        if jax.process_index() == 0:
            _start(directory, described, ignore)
        wait_for_processes("run directory")
        yield directory


def _start(directory: pathlib.Path, described: dict, ignore: Sequence[str]) -> None:
    """Writes config.json in a new directory, compares it in an old one, and notes the start."""
    changed = {}
    if (directory / CONFIG).exists():
        changed = _changed_settings(directory, described, ignore)
    else:
        write_json(directory / CONFIG, described)
    path = directory / STARTS
    starts = read_json(path) if path.exists() else []
    write_json(path, [*starts, {**environment(), "config_changes": changed}])


def _changed_settings(
    directory: pathlib.Path, described: dict, ignore: Sequence[str]
) -> dict[str, Json]:
    """New values of the ignored keys that have changed; raises if any other key has.

    Weights are compared where the run has recorded them. A setting that it does not have, because it is
    new since, differs only where it is turned on.
    """
    stored, now = read_json(directory / CONFIG), described["experiment"]
    stored["experiment"] = experiment_of(stored)
    if (before := stored["experiment"]) != now:
        raise MdmError(
            f"{directory} holds a run of {before}, not of {now}: choose another directory"
        )
    old, new = _flat(stored), _flat(json.loads(json.dumps(described)))
    new = {key: value for key, value in new.items() if (value and value not in OFF) or key in old}
    differ = {
        key: (old.get(key, "absent"), new.get(key, "absent"))
        for key in sorted(old.keys() | new.keys())
        if json.dumps(old.get(key, "absent")) != json.dumps(new.get(key, "absent"))
    }
    unknown = [name for name in (DENOISER_IDENTITY, START_IDENTITY) if name not in stored]
    free = *ignore, *unknown  # earlier runs recorded no identities
    ignored = {key for key in differ if any(f"{key}.".startswith(f"{name}.") for name in free)}
    if fatal := sorted(differ.keys() - ignored):
        raise MdmError(
            f"{directory} holds a run with another configuration "
            f"({_differences({key: differ[key] for key in fatal})}): "
            "choose another directory or delete it"
        )
    return {key: differ[key][1] for key in sorted(ignored)}


def _differences(differ: dict[str, tuple[Json, Json]], most: int = 3) -> str:
    """The first stored and new values in a line, long ones cut, and how many more there are."""
    shown = [
        f"{key}: {reprlib.repr(old)}, now {reprlib.repr(new)}"
        for key, (old, new) in list(differ.items())[:most]
    ]
    more = len(differ) - most
    return "; ".join(shown + [f"and {more} more"] * (more > 0))


def experiment_of(config: dict[str, Json]) -> str | None:
    """The experiment that wrote a config.json, by the name that it has today; None: it has none."""
    name = config.get("experiment")
    if name == "learn_adaptive_order":
        return "learn_order"
    if name == "learn_order" and "replay" not in config:
        return "learn_variational_order"
    return name


def _refuse_others(directory: pathlib.Path) -> None:
    """Raise MdmError for a directory that is neither new nor a run's.

    What a start leaves that was killed before config.json was written is no obstacle.
    """
    if (directory / CONFIG).exists():
        _refuse_other_configs(directory)
        return
    if not directory.exists():
        return
    found = sorted({path.name for path in directory.iterdir()} - {CONFIG + ".tmp", LOCK})
    if found:
        raise MdmError(
            f"{directory} is not a run directory but holds {', '.join(found[:5])}: "
            "choose another directory or delete it"
        )


def _refuse_other_configs(directory: pathlib.Path) -> None:
    """Raise MdmError for a config.json that no run of this version wrote."""
    stored = read_json(directory / CONFIG)
    if not isinstance(stored, dict) or not {"experiment", "kind"} & stored.keys():
        raise MdmError(f"{directory / CONFIG} is not that of a run: choose another directory")
    if stored.get("format") != FORMAT:
        raise MdmError(
            f"{directory} was written by an earlier version of mdm_jax: choose another directory "
            "or delete it"
        )


def _flat(value: Json, prefix: str = "") -> dict[str, Json]:
    """Nested dicts as one, with dotted keys; an empty dict stays a value."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    parts = [_flat(part, f"{prefix}.{key}" if prefix else key) for key, part in value.items()]
    return {key: leaf for part in parts for key, leaf in part.items()}
