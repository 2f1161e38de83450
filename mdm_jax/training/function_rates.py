"""Function-space learning rates: how far the update of each parameter moves the network's outputs.

With Phi = sum_i xi_i f_i / sqrt(numel f) for normal xi, g = dPhi/dW, an update dW and u = dW * g, the
mean of (sum u)^2 over xi is the mean square of the change of the outputs, to first order. One draw says
little; as if the covariance of u were a Kronecker product over the axes of the tensor,

  prod_d [sum over other axes of (sum over axis d of u)^2] / (sum u^2)^(n - 1),   n axes,

which is (sum u)^2 itself for updates of rank one. Of the unembedding only the term that sums over its
inputs: outputs have independent xi. Reference: FLeRM, arXiv:2502.17405, as its released code does it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mdm_jax.training.transfer import kind_of
from mdm_jax.types import Count, RowKey, Scalar

MEMORY = 0.9  # of the averages over calls
TINY = 1e-37  # in place of sums that are 0

Sums = Float[Array, " sums"]  # of u^2, then for each axis of its squared sums along it
Sizes = dict[str, Scalar]  # by name of the parameter: RMS of what its update changes of the outputs


def probe_gradient(outputs: Callable[[PyTree], Array], params: PyTree, key: RowKey) -> PyTree:
    """The gradient of Phi for one draw of xi."""
    values, pull = jax.vjp(outputs, params)
    xi = jax.random.normal(key, values.shape, values.dtype)
    return pull(xi / math.sqrt(values.size))[0]


def sums_of(update: Array, gradient: Array) -> Sums:
    """What the size of an update is estimated from."""
    u = update * gradient
    along = [jnp.sum(jnp.sum(u, axis=axis) ** 2) for axis in range(u.ndim)]
    return jnp.stack([jnp.sum(u**2), *along])


def size_of(sums: Sums, is_output: bool = False) -> Scalar:
    """RMS of the change of the outputs.

    Args:
      is_output: the parameter is the unembedding, [inputs, outputs].
    """
    if is_output:
        return jnp.sqrt(sums[1])
    logs = jnp.log(jnp.maximum(sums, TINY))
    return jnp.exp(0.5 * (jnp.sum(logs[1:]) - (len(sums) - 2) * logs[0]))


class Tracked(NamedTuple):
    """Averages over calls, which start from 0, and the number of calls."""

    sums: dict[str, Sums]
    calls: Count

    def then(self, updates: PyTree, gradient: PyTree) -> "Tracked":
        """After one more call."""
        now = jax.tree.map(sums_of, by_name(updates), by_name(gradient))
        sums = jax.tree.map(lambda old, new: MEMORY * old + (1 - MEMORY) * new, self.sums, now)
        return Tracked(sums, self.calls + 1)

    def sizes(self) -> Sizes:
        """The size of the update of every parameter, from averages corrected for their start."""
        share = 1 - MEMORY**self.calls
        return {name: size_of(x / share, is_output(name)) for name, x in self.sums.items()}


def track(params: PyTree) -> Tracked:
    """Before the first call."""
    sums = {name: jnp.zeros(1 + leaf.ndim) for name, leaf in by_name(params).items()}
    return Tracked(sums, jnp.zeros((), jnp.int32))


def by_name(tree: PyTree) -> dict[str, Any]:
    """Parameters by their path, such as block_0/gate/kernel."""
    return {name_of(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def name_of(path: tuple[Any, ...]) -> str:
    """The path of a parameter as text."""
    return "/".join(str(entry.key) for entry in path)


def is_output(name: str) -> bool:
    """Whether a parameter is the unembedding."""
    path = tuple(jax.tree_util.DictKey(part) for part in name.split("/"))
    return kind_of(path) == "unembedding"


def base_sizes(recorded: dict[str, Any], names: list[str], deeper: int) -> dict[str, Any]:
    """What the update of each parameter of a network `deeper` times as deep should move.

    What a block of the base moves is split equally between its `deeper` copies.
    """

    def of(name: str) -> Any:
        block, _, rest = name.partition("/")
        if not block.startswith("block_"):
            return recorded[name]
        return recorded[f"block_{int(block[6:]) // deeper}/{rest}"] / deeper

    return {name: of(name) for name in names}
