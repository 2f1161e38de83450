"""What learning from a replay costs, known before the first update."""

from typing import NamedTuple

from mdm_jax.orders.fidelity.config import ReplayConfig

HELD_OUT_PRICES = 8  # of a score on held-out sequences, evenly spaced in logs
BYTES = 3 * 4 + 3  # kept of one position at one call: three scores, three masks


class FidelityCost(NamedTuple):
    """Denoiser calls on one canvas each, at most, and bytes."""

    update: int
    score: int  # of a policy on held-out sequences, now and then
    total: int
    replay_bytes: int

    def summary(self) -> str:
        """All in one line."""
        return (
            f"at most {self.update:,} denoiser calls an update, on one canvas each, {self.score:,} a "
            f"held-out score, {self.total:,} in all; the replay takes {self.replay_bytes / 1e6:,.0f} MB"
        )


def fidelity_cost(
    config: ReplayConfig,
    *,
    batch_size: int,
    budget: int,
    window: int,
    steps: int,
    heldout_rows: int,
    eval_every: int,
) -> FidelityCost:
    """The most that a run of `steps` updates can take.

    A row is revealed in `budget` calls or fewer; what a row with tokens of its own reveals is followed
    once more by sequential decoding, one position of the window per call at most.
    """
    update = batch_size * budget + round(config.on_policy * batch_size) * window
    score = heldout_rows * HELD_OUT_PRICES * budget
    scores = steps // eval_every + 1  # one before training
    total = steps * update + scores * score + heldout_rows * window
    kept = config.capacity * budget * (window * BYTES + 12)
    return FidelityCost(update, score, total, kept)
