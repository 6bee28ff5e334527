"""Calls a factory with hyperparameters, and computes its updates in float32 or wider.

The tuned hyperparameters are arrays, without weak types, of float32, or of float64 if a parameter
is float64. Before the factory's update, arrays of floats of 16 bits or fewer are widened to
float32, and its updates and state are returned in the dtypes of the arguments. So bf16 arrays are
stored in bf16, but computed with in float32 (in bf16 a b2 of 0.999 would be 1).
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.towers import spaces

Factory = Callable[..., optax.GradientTransformation]


def build(
    factory: Factory, hyperparams: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation at the given hyperparameters.

    Args:
      factory: takes the names in `hyperparams` as keywords.
      hyperparams: for each name a coordinate, or a `spaces.PerLeaf` of them.
    """
    values = {name: spaces.natural(space) for name, space in hyperparams.items()}
    leafwise = {n: v for n, v in values.items() if isinstance(hyperparams[n], spaces.PerLeaf)}
    shared = {n: v for n, v in values.items() if n not in leafwise}
    if leafwise:
        return _computing_wide(_one_per_leaf(partial(factory, **shared), leafwise))
    return _computing_wide(validation.transformation("the factory's result", factory(**shared)))


def _one_per_leaf(
    factory: Factory, values: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that calls the factory once per leaf.

    The state is a tuple of states in the order of the leaves.
    """
    names = tuple(values)

    def at(leaf_values: tuple[Any, ...]) -> optax.GradientTransformationExtraArgs:
        tx = factory(**dict(zip(names, leaf_values, strict=True)))
        return validation.transformation("the factory's result", tx)

    def columns(structure: Any, *trees: Any) -> Iterable[tuple[Any, ...]]:
        return zip(*map(structure.flatten_up_to, trees), strict=True)

    def init(params: Any) -> Any:
        leaves, structure = jax.tree.flatten(params)
        if not leaves:  # optax.tree.map_params puts a placeholder here and looks for it
            return params
        per_leaf = columns(structure, *values.values())
        return tuple(at(v).init(leaf) for leaf, v in zip(leaves, per_leaf, strict=True))

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(updates)
        if not leaves:
            return updates, state
        leaf_params = [None] * len(leaves) if params is None else structure.flatten_up_to(params)
        per_leaf = columns(structure, *values.values())
        rows = zip(leaves, state, leaf_params, per_leaf, strict=True)
        pairs = [at(v).update(g, s, p, **extra_args) for g, s, p, v in rows]
        return structure.unflatten([u for u, _ in pairs]), tuple(s for _, s in pairs)

    return optax.GradientTransformationExtraArgs(init, update)


def _computing_wide(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    def init(params: Any) -> Any:
        return jax.tree.map(strong, tx.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        widen = partial(jax.tree.map, _widen)
        new_updates, new_state = tx.update(
            widen(updates), widen(state), widen(params), **widen(extra_args)
        )
        return cast_like(new_updates, updates), cast_like(new_state, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _widen(leaf: Any) -> Any:
    """Returns the leaf, in float32 if it is an array of narrower floats."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits >= 32:
        return leaf
    return _convert(leaf, jnp.float32)


def strong(leaf: Any) -> Any:
    """Returns the leaf as an array without a weak type."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return _convert(leaf, jnp.asarray(leaf).dtype)


def cast_like(tree: Any, like: Any) -> Any:
    """Casts each leaf of `tree` to the dtype of the corresponding leaf of `like`."""
    return jax.tree.map(lambda leaf, ref: _convert(leaf, jnp.asarray(ref).dtype), tree, like)


def _convert(leaf: Any, dtype: Any) -> jax.Array:
    if jnp.issubdtype(dtype, jax.dtypes.extended):  # PRNG keys have one dtype only
        return leaf
    return jax.lax.convert_element_type(leaf, dtype)


def check_keywords(factory: Factory, names: Mapping[str, Any]) -> None:
    """Raises if the factory cannot take the tuned names as keywords.

    Raises:
      ValueError: a name is not a keyword of the factory, or a partial fixes it.
    """
    fixed = set()
    inner: Any = factory
    while isinstance(inner, partial):
        fixed |= set(inner.keywords)
        inner = inner.func
    try:
        parameters = inspect.signature(factory).parameters
        all_parameters = inspect.signature(inner).parameters
    except (TypeError, ValueError):  # builtins and some callables have no signature
        return
    keywords = [
        p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name in fixed or (name in all_parameters and name not in parameters):
            raise ValueError(
                f"the tuned keyword {name!r} must not be fixed in a partial; take it out of the "
                "partial, or do not tune it"
            )
        if name not in keywords and not takes_any:
            raise ValueError(
                f"the factory must take the tuned keyword {name!r}; {label(factory)} takes "
                f"{', '.join(keywords)}"
            )


def label(factory: Factory) -> str:
    """Returns a short name of the factory for messages."""
    while isinstance(factory, partial):
        factory = factory.func
    return getattr(factory, "__name__", repr(factory))
