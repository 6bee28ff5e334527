"""What is asked of the arguments that several drivers share, and what is made of them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import validation


def check_agents(name: str, tree: Any, num_agents: int) -> None:
    """Raises unless every leaf has the agents along its leading axis.

    Raises:
      ValueError: one has not.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not leaf.ndim or len(leaf) != num_agents:
            raise ValueError(
                f"{name} must have a leading axis of num_agents = {num_agents} in every leaf, got "
                f"shape {leaf.shape} at {jax.tree_util.keystr(path) or 'its only one'}"
            )


def check_floating(name: str, tree: Any) -> None:
    """Raises ValueError unless every leaf is of real floating numbers."""
    for leaf in jax.tree.leaves(tree):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"{name} must be real floating numbers, got {leaf.dtype}")


def check_scalar(name: str, value: Any) -> None:
    """Raises ValueError unless this is (the shape of) one real floating number."""
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{name} must return one real floating number, got {value}")


def checked_hyperparams(hyperparams: Any) -> dict[str, jax.Array]:
    """Hyperparameters as arrays, of None or of a mapping from keyword to numbers.

    Raises:
      TypeError: they are neither.
    """
    if hyperparams is None or (isinstance(hyperparams, Mapping) and not hyperparams):
        return {}
    numbers = validation.mapping("hyperparams", hyperparams, "arrays, by keyword")
    return {name: jnp.array(value) for name, value in numbers.items()}


def checked_length(length: ArrayLike) -> jax.Array:
    """The length of a rung, i32[], of an integer that is not negative.

    Raises:
      ValueError: it is none; of an array only shape and type are looked at.
    """
    if not isinstance(length, jax.Array):
        return jnp.asarray(validation.integer_in("length", length, 0, 2**31 - 1), jnp.int32)
    if length.ndim or not jnp.issubdtype(length.dtype, jnp.integer):
        raise ValueError(f"length must be one integer, got {length!r}")
    return length.astype(jnp.int32)


def factory(optimizer: Any) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """From an agent's hyperparameters, as keywords, to a transformation."""
    if callable(optimizer):
        return lambda **hyperparams: validation.transformation(
            "what the factory optimizer returns", optimizer(**hyperparams)
        )
    shared = validation.transformation("optimizer", optimizer)

    def transformation(**hyperparams: Any) -> optax.GradientTransformationExtraArgs:
        if hyperparams:
            raise ValueError(
                "hyperparams need a factory as optimizer, such as optax.adam, got a "
                f"transformation and {sorted(hyperparams)}"
            )
        return shared

    return transformation
