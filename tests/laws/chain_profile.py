"""Random positions of a Markov chain, revealed a few at a time by a denoiser that errs: exact KL."""

from functools import cache
from math import comb

import numpy as np

from mdm_jax.orders.counts import optimal_counts
from mdm_jax.tasks.markov_chain import MarkovChain


def between(task, left, right):
    """(weights, p(x | neighbours)) of a token whose revealed neighbours are that far away; 0: none."""
    steps = [np.linalg.matrix_power(task.transitions, n) for n in (left, right)]
    first = task.initial[:, None, None] if left else task.initial[None, :, None]
    joint = first * (steps[0][:, :, None] if left else 1.0)
    joint = joint * (steps[1][None] if right else 1.0)  # [left, token, right]
    weights = joint.sum(axis=1)
    return weights, np.moveaxis(joint, 1, 2) / np.maximum(weights, 1e-300)[..., None]


def cross_entropies(task, left, right, errors):
    """E[-log q] in nats of q = (1 - error) p + error / states, for each error."""
    weights, probs = between(task, left, right)
    mixed = [(1 - error) * probs + error / probs.shape[-1] for error in errors]
    nats = [-(probs * np.log(np.maximum(q, 1e-300))).sum(axis=-1) for q in mixed]
    return np.array([(weights * each).sum() for each in nats])


def profiles(task, errors):
    """E[-log q(x_j | x_S)] for S random of each size, [errors, sizes]."""
    length, found = task.length, np.zeros((len(errors), task.length))
    nats = cache(lambda left, right: cross_entropies(task, left, right, errors))
    for place in range(length):
        for left in range(place + 1):
            for right in range(length - place):
                gap = (left - 1 if left else place) + (right - 1 if right else length - 1 - place)
                known = (left > 0) + (right > 0)
                rest = length - 1 - gap - known
                chances = [
                    comb(rest, k - known) / comb(length - 1, k) if k >= known else 0.0
                    for k in range(length)
                ]
                found += nats(left, right)[:, None] * np.array(chances) / length
    return found


def exact_runs(errors, calls):
    """calls, excess and kl, in nats per sequence, with the best counts for exact conditionals."""
    task = MarkovChain()
    truth, *wrong = profiles(task, (0.0, *errors))
    rows = []
    for profile in wrong:
        for count in calls:
            counts = np.array(optimal_counts(truth, count))
            revealed = np.concatenate([[0], np.cumsum(counts)[:-1]])
            kl = counts @ profile[revealed] - truth.sum()
            rows.append((count, (profile - truth).sum(), kl))
    return dict(zip(("calls", "excess", "kl"), np.array(rows, float).T, strict=True))
