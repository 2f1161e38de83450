"""All answers of short chains, with their probabilities where the prompt is not shown."""

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.tasks.chains.programs import Program, outcomes
from mdm_jax.tasks.chains.task import Chains, encode


def listed_answers(
    task: Chains,
) -> tuple[Int[np.ndarray, "count length"], Float[np.ndarray, " count"]]:
    """Every answer that some program has, and the probability that a drawn program has it.

    Numbers, operators and results depend on each other, and where they stand is certain.

    Raises:
      MdmError: answers of different lengths: numbers of more than one digit.
    """
    if max(task.max_value, task.max_operand) > 9:
        raise MdmError(
            f"max_value {task.max_value} must be at most 9, so that all answers are alike"
        )
    chances: dict[str, float] = {}
    first = [Program("", [], [n]) for n in range(1, task.max_operand + 1)]
    grown = [(program, 1 / task.max_operand) for program in first]
    for _ in range(task.depth):
        grown = [longer for program, chance in grown for longer in _next(task, program, chance)]
    for program, chance in grown:
        chances[program.solution] = chances.get(program.solution, 0.0) + chance
    tokens = np.array([encode(text) for text in chances], np.int32)
    return tokens, np.array(list(chances.values()))


def _next(task: Chains, program: Program, chance: float) -> list[tuple[Program, float]]:
    """The programs with one operation more, uniform over those that are legal."""
    operators, operands, values = program
    results, legal = outcomes(
        np.array(values[-1:]), task.operators, task.max_operand, task.max_value
    )
    names = np.repeat(list(task.operators), task.max_operand)
    numbers = np.tile(np.arange(1, task.max_operand + 1), len(task.operators))
    return [
        (
            Program(operators + names[i], [*operands, int(numbers[i])], [*values, int(result)]),
            chance / legal.sum(),
        )
        for i, result in enumerate(results[0])
        if legal[0, i]
    ]
