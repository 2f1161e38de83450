"""The current block including its revealed positions, which policies have to remember."""

import jax.numpy as jnp

from mdm_jax.types import Decision, Mask, Observation


def current_block(block: Mask, observation: Observation) -> Mask:
    """The generated positions of the current block, masked and revealed.

    Positions that were already revealed when the block was entered do not belong to it.

    Args:
      block: the value returned at the previous call; all False at first.
    """
    return jnp.where(observation.block_step == 0, observation.eligible, block)


def reveal_only(chosen: Mask, block: Mask, observation: Observation) -> Decision:
    """The decision after which exactly the `chosen` positions of the block are revealed."""
    is_masked = observation.is_masked
    return Decision(unmask=observation.eligible & chosen, remask=block & ~is_masked & ~chosen)
