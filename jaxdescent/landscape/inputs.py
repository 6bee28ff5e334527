"""What the functions of this folder are given, and what is wrong with it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation

# sin^2 of the least angle to the span of the directions before: what float32 rounds to none.
_DEPENDENT = 1e-10


def parameters(name: str, params: Any) -> None:
    """Raises ValueError unless all leaves are real floating point, and there are some."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"{name} must have leaves of real floating point, got {dtype} at "
                f"{name}{jax.tree_util.keystr(path)}; close over what is not trained"
            )
    if not sum(np.size(leaf) for _, leaf in leaves):
        raise ValueError(f"{name} must hold at least one number, got none")


def scalar_loss(name: str, loss_fn: Any, params: Any, batch: Any) -> None:
    """Raises ValueError unless the function returns one real number."""
    out = jax.eval_shape(loss_fn, params, batch)
    is_array = isinstance(out, jax.ShapeDtypeStruct)
    if not is_array or out.shape or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"{name} must return a real scalar, got {out}")


def coordinates(name: str, values: ArrayLike | None) -> np.ndarray:
    """Numbers along an axis, f64[n]; -1 to 1 in 51 steps where there are none."""
    if values is None:
        return np.linspace(-1.0, 1.0, 51)
    array = validation.finite_array(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, got shape {array.shape}")
    return array


def independent(names: Sequence[str], directions: Sequence[Any], params: Any) -> None:
    """Raises ValueError unless the directions are like the parameters and span something each.

    What is traced has no value yet; of that only the shapes are looked at.
    """
    for name, direction in zip(names, directions, strict=True):
        validation.shaped_like(name, direction, params)
        parameters(name, direction)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(directions)):
        return
    gram = gram_matrix(directions)
    norms = np.sqrt(np.diag(gram))
    for name, norm in zip(names, norms, strict=True):
        if not 0 < norm < np.inf:
            raise ValueError(f"{name} must have a norm in (0, inf), got {norm:g}")
    cosines = gram / norms / norms[:, None]
    for i, name in enumerate(names):
        across = cosines[:i, i]
        sine = 1.0 - across @ np.linalg.solve(cosines[:i, :i], across)
        if sine < _DEPENDENT:
            raise ValueError(
                f"{name} must be linearly independent of {' and '.join(names[:i])}, got one "
                f"within {np.sqrt(max(sine, 0.0)):.1g} radians of what they span"
            )


def gram_matrix(trees: Sequence[Any]) -> np.ndarray:
    """The inner products of trees with each other, f64[n, n]."""
    total = np.zeros((len(trees), len(trees)))
    for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
        rows = np.stack([np.ravel(leaf).astype(np.float64) for leaf in leaves])
        total += rows @ rows.T
    return total


def wide(dtype: Any) -> Any:
    """The dtype in which points are made: float32 at least."""
    return jnp.float64 if jnp.finfo(dtype).bits > 32 else jnp.float32


def widest(params: Any) -> Any:
    """The dtype in which the widest leaf's points are made."""
    dtypes = [wide(jnp.result_type(leaf)) for leaf in jax.tree.leaves(params)]
    return jnp.float64 if jnp.float64 in dtypes else jnp.float32
