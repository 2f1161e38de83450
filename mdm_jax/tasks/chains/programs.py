"""Straight-line arithmetic programs: drawn, written as text, and assigned to a split."""

import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.tasks.splits import SPLITS

OPERATORS = "+-*/"
_BUCKETS = 10  # of a hash of the program: 8 for training, 1 held out, 1 for the test


class Program(NamedTuple):
    """`values[0] operators[0] operands[0] ...`, left to right, with all intermediate values."""

    operators: str
    operands: list[int]
    values: list[int]  # one more than operators

    @property
    def prompt(self) -> str:
        """Such as `7 +5 *2 -3=?`."""
        steps = zip(self.operators, self.operands, strict=True)
        return f"{self.values[0]}" + "".join(f" {o}{n}" for o, n in steps) + "=?"

    @property
    def solution(self) -> str:
        """Such as `<<7+5=12>><<12*2=24>><<24-3=21>>####21`."""
        steps = zip(self.values, self.operators, self.operands, self.values[1:], strict=False)
        equations = "".join(f"<<{a}{o}{n}={b}>>" for a, o, n, b in steps)
        return f"{equations}####{self.values[-1]}"

    @property
    def split(self) -> str:
        """A function of the prompt alone, so a program is in the same split under all settings."""
        bucket = zlib.crc32(self.prompt.encode()) % _BUCKETS
        return {0: SPLITS[2], 1: SPLITS[1]}.get(bucket, SPLITS[0])


def outcomes(
    values: Int[np.ndarray, " n"], operators: str, max_operand: int, max_value: int
) -> tuple[Int[np.ndarray, "n pairs"], Bool[np.ndarray, "n pairs"]]:
    """Result of every (operator, operand 1..max_operand) for every value, and which are legal.

    Pairs are operator-major. Legal results are whole numbers in 0..max_value.
    """
    n, operand = values[:, None], np.arange(1, max_operand + 1)
    by_name = {"+": n + operand, "-": n - operand, "*": n * operand, "/": n // operand}
    results = np.concatenate([by_name[o] for o in operators], axis=1)
    whole = np.concatenate([(o != "/") | (n % operand == 0) for o in operators], axis=1)
    return results, whole & (results >= 0) & (results <= max_value)


def draw_programs(
    rng: np.random.Generator,
    count: int,
    *,
    depth: int,
    operators: str,
    max_operand: int,
    max_value: int,
) -> list[Program]:
    """A uniform first number, then at each step a uniform legal (operator, operand) pair."""
    values, pairs = [rng.integers(1, max_operand + 1, size=count)], []
    for _ in range(depth):
        results, legal = outcomes(values[-1], operators, max_operand, max_value)
        pairs.append(np.where(legal, rng.random(legal.shape), -1.0).argmax(axis=1))
        values.append(np.take_along_axis(results, pairs[-1][:, None], axis=1)[:, 0])
    which, operand = np.divmod(np.stack(pairs, axis=1), max_operand)
    names = np.array(list(operators))[which]
    columns = zip(names, (operand + 1).tolist(), np.stack(values, 1).tolist(), strict=True)
    return [Program("".join(o), n, v) for o, n, v in columns]
