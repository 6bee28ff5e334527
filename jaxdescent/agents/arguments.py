"""Checks and conversions of the arguments that loops, `magd` and model soups share."""

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.agents.random_keys import fold_into_keys

DEFAULT_NUM_RUNGS = 10
_INT32_MAX = 2**31 - 1

_NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)

STACKING = "stack one tree for each agent, as jax.vmap(init)(keys) does"
"""Remedy for a tree without an axis of agents."""


def params_of_agents(init_params: Any) -> Any:
    """Returns the agents' initial parameters as arrays.

    Raises:
      TypeError: a leaf is not an array, or a function is given in place of what it returns.
    """
    if callable(init_params) and jax.tree_util.all_leaves([init_params]):
        raise TypeError(
            "init_params must be a tree of arrays, got the function "
            f"{validation.shown(init_params)}; {STACKING}, in one run for each width or other shape"
        )
    return validation.arrays("init_params", init_params, validation.PARTITION)


@contextlib.contextmanager
def noting_one_agent(function: str, params: Any) -> Iterator[None]:
    """Adds to an error of a user's function the shapes of the agent that it was called with."""
    try:
        yield
    except Exception as error:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
        error.add_note(
            f"{function} was called with the parameters of one agent, whose leaves have the shapes "
            f"{validation.shown(shapes)}; if they lack an axis, so does init_params: {STACKING}"
        )
        raise


def check_agents(name: str, tree: Any, num_agents: int) -> None:
    """Raises ValueError unless every leaf has a leading axis of `num_agents`."""
    hint = STACKING if name in ("params", "init_params", "model_state") else ""
    validation.check_leading_axis(name, tree, num_agents, "num_agents", hint)


def count_agents(name: str, tree: Any) -> int:
    """Returns the length of the leading axis of a tree's first leaf.

    Raises:
      ValueError: the tree has no leaves, or its first leaf has no agents.
    """
    validation.check_arrays(name, tree)
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array, got {validation.shown(tree)}")
    shape = np.shape(leaves[0])
    if not shape or not shape[0]:
        raise ValueError(
            f"{name} must have a leading axis of agents, got shape {shape}; {STACKING}"
        )
    return shape[0]


def checked_hyperparams(hyperparams: Any) -> dict[str, jax.Array]:
    """Returns a mapping from keywords to numbers, or None, as a dictionary of arrays.

    Raises:
      TypeError: `hyperparams` is not a mapping, or holds something else than numbers.
    """
    if hyperparams is None or (isinstance(hyperparams, Mapping) and not hyperparams):
        return {}
    numbers = validation.mapping("hyperparams", hyperparams, "arrays, by keyword")
    return {name: _as_array(name, value) for name, value in numbers.items()}


def _as_array(name: str, value: Any) -> jax.Array:
    try:
        # A weak type would compile a second program.
        return jnp.array(value, jnp.asarray(value).dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"hyperparams must hold numbers or arrays of numbers, got {validation.shown(value)} "
            f"for {name!r}; give the factory what is the same for all agents, as with "
            "functools.partial"
        ) from error


def for_each_agent(hyperparams: dict[str, jax.Array], num_agents: int) -> dict[str, jax.Array]:
    """Returns hyperparameters with a leading axis of agents; a scalar is repeated.

    Each agent's id is folded into random keys among them.

    Raises:
      ValueError: an array has another number of agents.
    """
    arrays = {
        name: value if value.ndim else jnp.broadcast_to(value, (num_agents,))
        for name, value in hyperparams.items()
    }
    check_agents("hyperparams", arrays, num_agents)
    return fold_into_keys(arrays, jnp.arange(num_agents, dtype=jnp.int32))


def checked_length(length: ArrayLike) -> jax.Array:
    """Returns the length of a rung as i32[].

    Raises:
      ValueError: the length is not an integer of at least 0. Of an array, only shape and dtype
        are checked.
    """
    if not isinstance(length, jax.Array):
        return jnp.asarray(validation.integer_in("length", length, 0, _INT32_MAX), jnp.int32)
    if length.ndim or not jnp.issubdtype(length.dtype, jnp.integer):
        raise ValueError(f"length must be one integer, got {validation.shown(length)}")
    return length.astype(jnp.int32)


def rung_lengths(
    steps: int, *, steps_per_rung: int | None = None, num_rungs: int | None = None
) -> np.ndarray:
    """Returns i32[rungs], the number of steps of each rung; their sum is `steps`.

    With `steps_per_rung` the last rung may be shorter. Otherwise there are `num_rungs` rungs, 10 by
    default, whose lengths differ by at most one, the longer ones first. If `steps` is smaller than
    the number of rungs, every step is a rung. If it is 0, there is one rung of length 0.

    Raises:
      ValueError: an argument is out of its range, or both options are given.
    """
    steps = validation.integer_in("steps", steps, 0, _INT32_MAX)
    if steps_per_rung is not None and num_rungs is not None:
        raise ValueError(
            "steps_per_rung and num_rungs must not both be given with steps, got "
            f"{steps_per_rung!r} and {num_rungs!r}"
        )
    if steps_per_rung is not None:
        each = validation.integer_in("steps_per_rung", steps_per_rung, 1, _INT32_MAX)
        full, rest = divmod(steps, each)
        lengths = [each] * full + ([rest] if rest or not full else [])
    else:
        count = min(checked_num_rungs(num_rungs), max(steps, 1))
        each, longer = divmod(steps, count)
        lengths = [each + 1] * longer + [each] * (count - longer)
    return np.array(lengths, np.int32)


def checked_num_rungs(num_rungs: int | None) -> int:
    """Returns the number of rungs, 10 by default; raises ValueError if it is below 1."""
    return validation.integer_in(
        "num_rungs", DEFAULT_NUM_RUNGS if num_rungs is None else num_rungs, 1
    )


@dataclasses.dataclass(frozen=True)
class OptimizerFactory:
    """Function of an agent's hyperparameters, as keywords, that returns its optimizer.

    Two are equal if they were made from the same argument, so that they share compiled programs.

    Attributes:
      optimizer: a transformation that all agents share, or a factory such as `optax.adam`.
      not_its_own: names of hyperparameters that the factory is not called with, because they
        belong to the estimator.
    """

    optimizer: Any
    not_its_own: tuple[str, ...] = ()

    def __call__(self, **hyperparams: Any) -> optax.GradientTransformationExtraArgs:
        """Returns the optimizer of an agent with these hyperparameters."""
        for name in self.not_its_own:
            hyperparams.pop(name, None)
        if callable(self.optimizer):
            _check_keywords(self.optimizer, hyperparams)
            return validation.transformation(
                "the return value of the factory optimizer", self._call(hyperparams)
            )
        if hyperparams:
            raise ValueError(
                "hyperparams need a factory as optimizer, such as optax.adam; got a "
                f"transformation and hyperparams for {sorted(hyperparams)}"
            )
        return validation.transformation("optimizer", self.optimizer)

    def _call(self, hyperparams: Any) -> Any:
        try:
            return self.optimizer(**hyperparams)
        except TypeError as error:
            if not (isinstance(error, _NEEDS_VALUES) or "Shapes must be" in str(error)):
                raise
            raise TypeError(
                f"hyperparams must be numbers that optimizer only computes with, got "
                f"{sorted(hyperparams)}, of which one is a shape, a flag or a choice; use "
                "functools.partial and one run for each value, or jd.select_optimizer"
            ) from error


def optimizer_factory(optimizer: Any, not_its_own: tuple[str, ...] = ()) -> OptimizerFactory:
    """Returns `optimizer` as a factory; raises TypeError if it is not one nor a transformation."""
    if not callable(optimizer):
        validation.transformation("optimizer", optimizer)
    return OptimizerFactory(optimizer, not_its_own)


def _check_keywords(factory: Any, hyperparams: Mapping[str, Any]) -> None:
    """Raises unless the factory can be called with the hyperparameters as keywords."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # builtins and some callables have no signature
        return
    name = getattr(factory, "__name__", repr(factory))
    try:
        signature.bind(**hyperparams)
    except TypeError as error:
        takes = signature.parameters
        if unknown := [keyword for keyword in hyperparams if keyword not in takes]:
            raise ValueError(
                f"hyperparams must be keywords of the factory {name}, which takes "
                f"{', '.join(takes)}, got {', '.join(unknown)}; use one run for each value of what "
                "is not the optimizer's, such as a width or a batch size"
            ) from None
        # Without hyperparameters, a transformation may have been meant.
        raise (ValueError if hyperparams else TypeError)(
            f"hyperparams= must have the keywords with which the factory {name} is called, got "
            f"{sorted(hyperparams)}: {error}; give hyperparams={{...}}, or as optimizer a "
            f"transformation such as {name}(...)"
        ) from None
