"""Ranges of hyperparameters, in the spaces in which population-based training changes them.

    {"learning_rate": jd.positive((1e-4, 1e-1))}

A coordinate (`jd.positive`, `jd.unit_interval`, `jd.unconstrained`) holds the two ends of the
range. The prior is uniform in the coordinate: log-uniform for `jd.positive`.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.numerics import at_least_float32
from jaxdescent.towers.spaces import Space, Unconstrained, is_space

EXAMPLE = "such as jd.positive((1e-4, 1e-1))"


def checked_spaces(spaces: Any) -> dict[str, Space]:
    """Returns the spaces of hyperparameters, by keyword.

    Raises:
      TypeError: `spaces` is not a mapping from strings to coordinates.
      ValueError: a coordinate does not hold two numbers, the lower one first.
    """
    for name, space in validation.mapping("spaces", spaces, f"ranges, {EXAMPLE}").items():
        label = f"spaces[{name!r}]"
        if not is_space(space):
            raise TypeError(
                f"{label} must be a range made by jd.positive, jd.unit_interval or "
                f"jd.unconstrained, {EXAMPLE}, got {validation.shown(space)}"
            )
        ends = np.asarray(space[0], float)
        if ends.shape != (2,) or not ends[0] < ends[1]:
            raise ValueError(
                f"{label} must hold a lower and an upper end, {EXAMPLE}, got "
                f"{validation.shown(np.asarray(space.natural()).tolist())}"
            )
    return dict(spaces)


def sample_hyperparams(
    key: jax.Array, spaces: Mapping[str, Space], num_agents: int
) -> dict[str, jax.Array]:
    """Draws hyperparameters for agents, uniformly in the coordinate of each space.

    Args:
      key: random key.
      spaces: mapping from keywords to ranges, such as
        `{"learning_rate": jd.positive((1e-4, 1e-1))}`, in which numbers are log-uniform.
      num_agents: number of agents.

    Returns:
      A mapping from keywords to f32[num_agents], the argument `hyperparams` of `jd.minimize` and
      `jd.fit`.

    Raises:
      TypeError: `spaces` is not a mapping from keywords to ranges, or the key is not a random key.
      ValueError: a range does not have a lower and an upper end, or `num_agents` is below 1.

    Example:
      >>> import jax, jaxdescent as jd
      >>> spaces = {"learning_rate": jd.positive((1e-4, 1e-1)), "b1": jd.unit_interval((0.5, 0.99))}
      >>> drawn = jd.evolution.sample_hyperparams(jax.random.key(0), spaces, 100)
      >>> bool((drawn["learning_rate"] < 1e-2).sum() > 50)
      True
    """
    key = validation.random_key("key", key)
    num_agents = validation.integer_in("num_agents", num_agents, 1)
    checked = checked_spaces(spaces)
    keys = jax.random.split(key, len(checked))
    return {
        name: drawn(k, space, (num_agents,), jnp.float32)
        for k, (name, space) in zip(keys, checked.items(), strict=True)
    }


def drawn(key: jax.Array, space: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Returns natural values that are uniform in the coordinate."""
    low, high = np.asarray(space[0], float)
    coordinate = jax.random.uniform(key, shape, at_least_float32(dtype), low, high)
    return type(space)(coordinate).clamp().natural().astype(dtype)


def perturbed(
    key: jax.Array, space: Any, value: jax.Array, factors: tuple[float, float]
) -> jax.Array:
    """Returns a natural value after a step of its coordinate, up or down.

    A positive value is multiplied by one of the factors, and so are the odds h / (1 - h) of a value
    in the unit interval. Another value moves by (factor - 1) times the width of its range. `value`
    must be traced: concrete values are checked by `Space.at`.
    """
    kind = type(space)
    if kind is Unconstrained:
        low, high = np.asarray(space[0], float)
        first, second = ((factor - 1) * (high - low) for factor in factors)
    else:
        first, second = (math.log(factor) for factor in factors)
    wide = value.astype(at_least_float32(value.dtype))
    step = jnp.where(jax.random.bernoulli(key, shape=value.shape), first, second)
    coordinate = kind.at("hyperparams", wide)[0]
    return kind(coordinate + step.astype(coordinate.dtype)).clamp().natural().astype(value.dtype)
