"""A store with damaged or repeated lines made usable again."""

import shutil
from pathlib import Path
from typing import NamedTuple

from mdm_jax.errors import MdmError
from mdm_jax.evals.sample_lines import Sample, parse_line
from mdm_jax.runs.json_files import replace_text


class Repaired(NamedTuple):
    """Numbers of lines."""

    kept: int
    repeated: int  # further copies of a generation that is kept
    contradictory: int  # of prompts with different generations under one name: none of them is kept
    damaged: int  # not what was written


def repair(path: Path, backup: Path) -> Repaired:
    """Drop the lines of a store that are damaged, repeated or contradict each other.

    The next evaluation generates again what is missing then. A file that is in order stays as it is.

    Args:
      backup: where the file as it was is kept.

    Raises:
      MdmError: there is a backup already.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    groups = _by_generation(lines)
    same = {key: len(set(map(_generated, group.values()))) == 1 for key, group in groups.items()}
    kept = [next(iter(group)) for key, group in groups.items() if same[key]]
    read = sum(map(len, groups.values()))
    contradictory = sum(len(group) for key, group in groups.items() if not same[key])
    found = Repaired(len(kept), read - contradictory - len(kept), contradictory, len(lines) - read)
    if found.kept < len(lines):
        if backup.exists():
            raise MdmError(f"{backup} is there already: move it away first")
        shutil.copyfile(path, backup)
        replace_text(path, b"".join(lines[i] for i in sorted(kept)).decode())
    return found


def _by_generation(lines: list[bytes]) -> dict[tuple[str, int], dict[int, Sample]]:
    """The samples of the lines that can be read, by setting and index and then by line."""
    groups: dict[tuple[str, int], dict[int, Sample]] = {}
    for number, line in enumerate(lines):
        try:
            sample = parse_line(line, "")
        except MdmError:
            continue
        groups.setdefault((sample.setting, sample.index), {})[number] = sample
    return groups


def _generated(sample: Sample) -> str:
    """What must not differ between copies; time and passes depend on the batch."""
    return repr(sample._replace(seconds=None, passes=0))
