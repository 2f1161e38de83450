"""The current block, revealed positions included, which an observation alone does not show."""

import jax.numpy as jnp

from mdm_jax.types import Decision, Mask, Observation


def current_block(block: Mask, observation: Observation) -> Mask:
    """The positions of the current block that the policy generates, masked and revealed.

    What it was given there when the block was entered stays outside.

    Args:
      block: what this returned at the call before; all False at first.
    """
    return jnp.where(observation.block_step == 0, observation.eligible, block)


def reveal_only(chosen: Mask, block: Mask, observation: Observation) -> Decision:
    """The decision after which exactly `chosen` of the block is revealed."""
    is_masked = observation.is_masked
    return Decision(unmask=observation.eligible & chosen, remask=block & ~is_masked & ~chosen)
