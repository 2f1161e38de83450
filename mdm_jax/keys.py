"""Random keys: of a named implementation, and one stream of them for each purpose."""

from enum import IntEnum, unique

import jax

from mdm_jax.errors import check_seed
from mdm_jax.types import RowKey

IMPLEMENTATION = "threefry2x32"


@unique
class Stream(IntEnum):
    """What the keys of a stream are for. A number is never given to another purpose."""

    DENOISER_INIT = 0
    DENOISER_UPDATES = 1
    DENOISER_BOUND = 2
    GENERATION = 3
    ORDER_INIT = 4
    ORDER_SEARCH = 5
    ORDER_UPDATES = 6
    ORDER_BOUND = 7
    COMPARISON = 8  # generations of a learned policy and its baselines
    TUNING = 9  # of baselines to a number of calls
    ORDER_LIMIT = 10  # the search for the best static order under exact conditionals
    POLICY_INIT = 11
    WARM_START = 12
    POLICY_UPDATES = 13
    SEQUENTIAL_NLL = 14  # sequential decoding that the search compares with
    LIKELIHOOD = 15  # masks of the bounds on texts
    FIDELITY_INIT = 16
    FIDELITY_UPDATES = 17
    FIDELITY_HELD_OUT = 18
    EXACT = 19  # policies under exact conditionals
    ORDER_CHOICE = 20  # of one of several static orders for each prompt
    PAIRS_INIT = 21
    PAIRS_UPDATES = 22  # of the head that predicts dependences
    POLICY_HELD_OUT = 23  # of a policy that learns from rewards


def root_key(seed: int) -> RowKey:
    """The key of a seed, whatever implementation JAX is configured to use by default.

    Threefry: with `rbg`, what a row draws under `vmap` depends on the other rows.

    Raises:
      MdmError: the seed has more than 32 bits.
    """
    check_seed(seed)
    return jax.random.key(seed, impl=IMPLEMENTATION)


def stream(seed: int, purpose: Stream) -> RowKey:
    """The key of one purpose of a seed; what is drawn for another is independent of it.

    Raises:
      MdmError: the seed has more than 32 bits.
    """
    return jax.random.fold_in(root_key(seed), purpose)
