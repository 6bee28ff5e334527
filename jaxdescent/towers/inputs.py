"""The inputs of an update, and an update as data: a factory and what it is called with."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.towers import building, spaces


class Inputs(NamedTuple):
    """What an update is a function of.

    Attributes:
      hyperparams: the coordinates that were used.
      grads: the gradient, in the parameters' dtypes.
      state: the inner optimizer's state before the update.
      params: the parameters before the update, or None if the update does not read them.
      extra_args: the extra arguments that the update reads, by name.
    """

    hyperparams: dict[str, Any]
    grads: Any
    state: Any
    params: Any
    extra_args: dict[str, Any]


class Outcome(NamedTuple):
    """What differentiates an update after it was made.

    Attributes:
      hyperparams: the coordinates that were used.
      grads: the gradient, or None if the derivative does not read it.
      state: the inner optimizer's state after the update.
      params: the parameters before the update, or None if the derivative does not read them.
      extra_args: the extra arguments that the update read, by name.
    """

    hyperparams: dict[str, Any]
    grads: Any
    state: Any
    params: Any
    extra_args: dict[str, Any]


class Update(NamedTuple):
    """An update as data: the factory and what it is called with.

    Attributes:
      factory: makes the transformation.
      inputs: arrays or `jax.ShapeDtypeStruct`s; `params` is what `update` is given.
      others: extra arguments that are not carried: arrays of today, and functions.
    """

    factory: building.Factory
    inputs: Inputs
    others: dict[str, Any]

    def run(self, hyperparams: dict[str, Any]) -> tuple[Any, Any]:
        """The updates and the new state, at other hyperparameters."""
        i = self.inputs
        extra_args = {**self.others, **i.extra_args}
        tx = building.build(self.factory, hyperparams)
        return tx.update(i.grads, i.state, i.params, **extra_args)


def examples_of(extra_args: Mapping[str, Any] | None, dtype: Any = jnp.float32) -> dict[str, Any]:
    """Shapes and dtypes of the extra arguments that an update may read."""
    value = {"value": jax.ShapeDtypeStruct((), dtype)}
    if extra_args is None:
        return value
    if not isinstance(extra_args, Mapping) or extra_args:
        validation.mapping("extra_args", extra_args, "names and example arrays")
    for name, example in extra_args.items():
        for leaf in jax.tree.leaves(example):
            if not (hasattr(leaf, "dtype") or isinstance(leaf, (int, float, complex))):
                kind = "the function " if callable(leaf) else ""
                raise TypeError(
                    f"extra_args must hold example arrays, got {kind}{leaf!r} for {name!r}"
                )
    declared = {n: jax.tree.map(abstract, x) for n, x in {**value, **extra_args}.items()}
    return {name: example for name, example in declared.items() if example is not None}


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array or a number."""
    return jax.ShapeDtypeStruct(jnp.shape(leaf), getattr(leaf, "dtype", jnp.result_type(leaf)))


def dtype_of_hyperparams(params: Any) -> Any:
    """float64 if a parameter is, or complex128; else float32."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(params)]
    wide = any(jnp.issubdtype(d, jnp.inexact) and jnp.finfo(d).bits == 64 for d in dtypes)
    return jnp.float64 if wide else jnp.float32


def starting_hyperparams(starts: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """The starts as strong arrays, one for each leaf of `params` where that is asked for."""
    dtype = dtype_of_hyperparams(params)

    def as_arrays(start: Any) -> Any:
        if not isinstance(start, spaces.PerLeaf):
            return type(start)(jnp.array(start[0], dtype))
        number = start.space[0]
        return spaces.PerLeaf(
            type(start.space)(jax.tree.map(lambda _: jnp.array(number, dtype), params))
        )

    return {name: spaces.clamp(as_arrays(start)) for name, start in starts.items()}
