"""How parameters of a published denoiser are spread over a mesh with axes "data" and "tensor".

The rows of what enters a block's inner width are split over "tensor" and so are the columns of what
leaves it, so that a block sums over devices twice and nothing else moves. Vocabularies are split by
rows. Every device along "data" has a copy, and rows of the batch go there.
"""

from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

ROWS, COLUMNS, COPY = P("tensor", None), P(None, "tensor"), P()
# by the last two names of a parameter's path; whatever is not listed is copied
RULES = {
    ("embed",): ROWS,
    ("head",): ROWS,
    ("query", "weight"): ROWS,
    ("key", "weight"): ROWS,
    ("value", "weight"): ROWS,
    ("query", "bias"): P("tensor"),
    ("key", "bias"): P("tensor"),
    ("value", "bias"): P("tensor"),
    ("out", "weight"): COLUMNS,
    ("gate", "weight"): ROWS,
    ("up", "weight"): ROWS,
    ("down", "weight"): COLUMNS,
}


def sharding(mesh: Mesh, path: tuple[str, ...], shape: tuple[int, ...]) -> NamedSharding:
    """Where a parameter lives on `mesh`.

    An axis that the mesh does not have, or that does not divide the parameter, splits nothing.
    """
    spec = RULES.get(path[-2:], COPY)

    def fits(axis: str | None, size: int) -> bool:
        return axis in mesh.shape and size % mesh.shape[axis] == 0

    kept = (axis if fits(axis, size) else None for axis, size in zip(spec, shape, strict=False))
    return NamedSharding(mesh, P(*kept))
