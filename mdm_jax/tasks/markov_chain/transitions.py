"""Sparse transition matrices, sequences drawn from them, and how far sequences are from them."""

import numpy as np
from jaxtyping import Float, Int


def draw_transitions(
    rng: np.random.Generator, states: int, successors: int
) -> Float[np.ndarray, "states states"]:
    """A matrix each of whose rows allows `successors` random next states, ergodic.

    Their probabilities are uniform on the simplex. One successor of each state follows a random cycle
    through all states; matrices of a period above one are drawn again.

    Args:
      successors: from 2 to states.
    """
    while True:
        cycle = rng.permutation(states)
        following = np.empty(states, int)
        following[cycle] = np.roll(cycle, -1)
        matrix = np.zeros((states, states))
        for state in range(states):
            others = np.delete(np.arange(states), following[state])
            chosen = rng.choice(others, successors - 1, replace=False)
            matrix[state, [following[state], *chosen]] = rng.dirichlet(np.ones(successors))
        if _is_primitive(matrix > 0):
            return matrix


def _is_primitive(allowed: np.ndarray) -> bool:
    """Whether some number of steps leads from every state to every state."""
    steps, reached = (len(allowed) - 1) ** 2 + 1, allowed  # enough for any (Wielandt's bound)
    while steps > 1:
        reached, steps = reached @ reached, -(-steps // 2)
    return bool(reached.all())


def stationary(transitions: Float[np.ndarray, "states states"]) -> Float[np.ndarray, " states"]:
    """The distribution pi with pi P = pi of an ergodic chain."""
    size = len(transitions)
    equations = np.concatenate([transitions.T - np.eye(size), np.ones((1, size))])
    found = np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0]
    return found / found.sum()


def draw_chains(
    uniforms: Float[np.ndarray, "n length"],
    transitions: Float[np.ndarray, "states states"],
    initial: Float[np.ndarray, " states"],
) -> Int[np.ndarray, "n length"]:
    """One sequence for each row of numbers in [0, 1), by inverting the distribution functions."""
    first, then = (np.cumsum(p, axis=-1) for p in (initial, transitions))
    first, then = first / first[-1], then / then[:, -1:]  # the last allowed state ends at 1 exactly
    tokens = np.empty(uniforms.shape, np.int32)
    below = np.broadcast_to(first, (len(uniforms), len(initial)))
    for position, u in enumerate(uniforms.T):
        tokens[:, position] = (u[:, None] >= below).sum(axis=1)
        below = then[tokens[:, position]]
    return tokens


def transition_error(
    tokens: Int[np.ndarray, "n length"],
    transitions: Float[np.ndarray, "states states"],
    initial: Float[np.ndarray, " states"],
) -> float:
    """Total variation between the pairs of neighbours in sequences and in the chain, 0..1: the mean over
    positions.

    Not zero for a finite number of sequences of the chain itself: compare with as many of those.

    Reference: Tang, Yu, Zhang and Ver Steeg, arXiv:2602.19619.
    """
    states, errors, marginal = len(initial), [], initial
    for left, right in zip(tokens.T[:-1], tokens.T[1:], strict=True):
        counts = np.bincount(left * states + right, minlength=states**2)
        expected = (marginal[:, None] * transitions).ravel()
        errors.append(np.abs(counts / len(tokens) - expected).sum() / 2)
        marginal = marginal @ transitions
    return float(np.mean(errors))
