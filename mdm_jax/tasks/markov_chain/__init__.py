"""A Markov chain, whose best parallel order is known."""

from mdm_jax.tasks.markov_chain.task import MarkovChain
from mdm_jax.tasks.markov_chain.transitions import transition_error

__all__ = ["MarkovChain", "transition_error"]
