"""Checks of the arguments that several functions of this package share."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation

# Smallest sin^2 of the angle between a direction and the span of the previous directions.
# Below it, float32 rounding makes the directions dependent.
_DEPENDENT = 1e-10


def check_params(name: str, params: Any) -> None:
    """Raises ValueError unless there are leaves and all are real floating point."""
    validation.check_floating(name, params, "close over other leaves")
    if not sum(np.size(leaf) for leaf in jax.tree.leaves(params)):
        raise ValueError(f"{name} must hold at least one number, got an empty tree")


def as_coordinates(name: str, values: ArrayLike | None) -> np.ndarray:
    """Returns coordinates along an axis, f64[n]; 51 from -1 to 1 if `values` is None."""
    if values is None:
        return np.linspace(-1.0, 1.0, 51)
    array = validation.finite_array(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, got shape {array.shape}")
    return array


def check_independent(names: Sequence[str], directions: Sequence[Any], params: Any) -> None:
    """Raises ValueError unless directions match the parameters and are linearly independent.

    Traced directions have no values yet, so that only their shapes are checked.
    """
    for name, direction in zip(names, directions, strict=True):
        validation.shaped_like(name, direction, params)
        check_params(name, direction)
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
                f"{name} must be linearly independent of {' and '.join(names[:i])}, got a "
                f"direction within {np.sqrt(max(sine, 0.0)):.1g} radians of their span"
            )


def gram_matrix(trees: Sequence[Any]) -> np.ndarray:
    """Returns the inner products of n trees with each other, f64[n, n]."""
    total = np.zeros((len(trees), len(trees)))
    for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
        rows = np.stack([np.ravel(leaf).astype(np.float64) for leaf in leaves])
        total += rows @ rows.T
    return total
