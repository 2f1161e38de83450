"""The policy of a head that predicts dependences, from its run directory."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import hidden_width
from mdm_jax.external_files import expand
from mdm_jax.keys import root_key
from mdm_jax.policies.networks.pair_network import PairConfig, PairNetwork
from mdm_jax.policies.pairwise.demask import Demask
from mdm_jax.policies.pairwise.predicted import PredictedPairs
from mdm_jax.runs.denoisers import denoiser_shapes
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import CHECKPOINTS
from mdm_jax.training.checkpoints import restore_ema
from mdm_jax.training.state import Params
from mdm_jax.types import RowKey


def init_pairs(network: PairNetwork, key: RowKey, features: int) -> Params:
    """The head's parameters before training, for hidden states of that many features."""
    return jax.jit(network.init)(key, jnp.zeros((2, features)))["params"]


def load_pairs(run: str | Path, config: dict[str, Any]) -> PredictedPairs:
    """DEMASK with the head of a `learn_pairs` run, at the allowance of the run.

    Args:
      config: the run's config.json.

    Raises:
      MdmError: no readable checkpoint.
    """
    network = PairNetwork(from_json(config["network"], PairConfig))
    width = hidden_width(denoiser_shapes(run, config).denoise)
    like = jax.eval_shape(lambda: init_pairs(network, root_key(0), width))
    params, _ = restore_ema(expand(run) / CHECKPOINTS, like)
    return PredictedPairs(network, params, Demask(config["allowance"]))
