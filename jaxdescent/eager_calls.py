"""Updates that are called outside of `jax.jit`, compiled once.

Without `jax.jit`, a training loop would trace an update anew in every step: a tower traces the
last update to differentiate it, and a conditional is traced at each call. `compile_eager_calls`
sends such calls to a compiled program, which belongs to the transformation and is freed with it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def compile_eager_calls(update: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the update of a transformation, compiled wherever all its arguments have values.

    Calls inside `jax.jit` and other transformations of JAX run `update` itself. So do calls with a
    keyword that is not an array, such as a function of the model, and all calls of an update that
    branches in Python on the values of its arguments.

    Args:
      update: called as `update(updates, state, params=None, **extra)`; a pure function.

    Example:
      >>> import jax.numpy as jnp
      >>> traced = []
      >>> update = compile_eager_calls(lambda g, s, p=None: (traced.append(g), (-g, s + 1))[1])
      >>> for _ in range(3):
      ...     updates, state = update(jnp.ones(2), jnp.zeros(()))
      >>> len(traced)
      1
    """
    compiled = jax.jit(update)
    needs_values = False

    @functools.wraps(update)
    def dispatch(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        nonlocal needs_values
        leaves = jax.tree.leaves((updates, state, params, extra))
        if needs_values or not all(map(_has_value, leaves)):
            return update(updates, state, params, **extra)
        try:
            return compiled(updates, state, params, **extra)
        except _NEEDS_VALUES:
            needs_values = True
            return update(updates, state, params, **extra)

    return dispatch


def _has_value(leaf: Any) -> bool:
    """True for arrays and numbers that `jax.jit` accepts and that are not traced."""
    if isinstance(leaf, jax.Array):
        return not isinstance(leaf, jax.core.Tracer)
    return isinstance(leaf, (bool, int, float, complex, np.ndarray, np.generic))
