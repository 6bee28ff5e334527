"""What to make of the survivors: the mean of their weights, or of their predictions.

    uniform soup:  the mean of those in the best one's basin
    greedy soup:   from the best on, each joins if the mean with it is no worse
    ensemble:      the mean of the survivors' predictions

Two agents share a basin if the value along the line between them, 0 <= t <= 1, stays near the
line through its ends: max over t of v((1 - t) x + t y) - ((1 - t) v(x) + t v(y)) <= tolerance,
rounding apart. An average over different basins is no good model: hidden units may be permuted,
say. A model state is averaged along; running statistics of a BatchNorm are then those of the
members and not of the average, and are better taken afresh on data.

Sources: soups M. Wortsman et al. 2022, arXiv:2203.05482; the barrier on the line J. Frankle et al.
2020, arXiv:1912.05671.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import chunking, validation
from jaxdescent.agents.arguments import check_agents, check_floating, check_scalar
from jaxdescent.agents.population import Population

ROUNDING = 16
"""How many units in its last place a value on a line may stand above by rounding alone."""


class Soup(NamedTuple):
    """An average of agents.

    Attributes:
      params: of one agent's shapes.
      value: f[], their value.
      members: bool[agents], whose average it is. If no agent is alive with a finite value there
        is none, and `params` are one's that is of no use.
      model_state: the average of theirs; () if there is none.
    """

    params: Any
    value: jax.Array
    members: jax.Array
    model_state: Any = ()


def weighted_average(params: Any, weights: ArrayLike) -> Any:
    """The mean over agents, with weights; agents of weight 0 may be anything, NaN too.

    Sums are taken in float32 or wider. Whole numbers, such as counts in a model state, are
    rounded to the nearest; random keys have no mean, and are the first agent's of positive weight.

    Args:
      params: a tree of arrays [agents, ...].
      weights: f[agents], not negative; not all of them 0.

    Raises:
      ValueError: a leaf has another number of agents, or the weights are out of their range.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> jd.weighted_average({"x": jnp.array([0.0, 8.0, jnp.nan])}, jnp.array([3.0, 1.0, 0.0]))
      {'x': Array(2., dtype=float32)}
    """
    if not isinstance(weights, jax.core.Tracer):
        masks = np.asarray(weights).dtype == bool
        numbers = validation.finite_array("weights", np.asarray(weights, int) if masks else weights)
        if np.any(numbers < 0) or not np.any(numbers > 0):
            raise ValueError(f"weights must be in [0, inf), not all of them 0, got {weights!r}")
    weights = jnp.asarray(weights)
    if weights.ndim != 1:
        raise ValueError(f"weights must have one axis, of agents, got shape {weights.shape}")
    params = jax.tree.map(jnp.asarray, params)
    check_agents("params", params, len(weights))

    def mean(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x[jnp.argmax(weights > 0)]
        dtype = _wide(x.dtype)
        shares = weights.astype(dtype) / jnp.sum(weights.astype(dtype))
        tall = shares.reshape(shares.shape + (1,) * (x.ndim - 1))
        total = jnp.sum(jnp.where(tall != 0, tall * x.astype(dtype), 0), 0)
        whole = not jnp.issubdtype(x.dtype, jnp.inexact)
        return (jnp.round(total) if whole else total).astype(x.dtype)

    return jax.tree.map(mean, params)


def uniform_soup(
    population: Population,
    value_fn: Callable[..., jax.Array],
    *data: Any,
    tolerance: float = 0.0,
    points: int = 5,
) -> Soup:
    """The mean of the survivors that lie in one basin with the best of them.

    Args:
      population: after a run; agents that are dead or whose value is not finite are left out.
      value_fn: from (params, *data), and `model_state=` if the agents have one, to a value, such
        as the held-out loss.
      *data: arrays, arguments of `value_fn`.
      tolerance: how far a value on the line may stand above the straight line between those of its
        ends, in units of the value; in [0, inf). 0 asks for a line as it is in a convex basin.
      points: of the line, ends not counted, at least 1.

    Raises:
      ValueError: an argument is out of its range, or a value is no scalar.
      TypeError: the population is none.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> two_wells = lambda x: jnp.sum((x**2 - 1) ** 2)
      >>> starts = jnp.array([[-2.0], [0.8], [1.3]])
      >>> result = jd.minimize(two_wells, optax.sgd(0.01), init_params=starts, steps=9, rung=9,
      ...     rule=jd.pruning.no_pruning())
      >>> jd.uniform_soup(result.population, two_wells).members.tolist()
      [False, True, True]
    """
    agents, value = _agents(population), lambda agent: _called(value_fn, agent, data)
    members, _ = _in_basin(population, value, tolerance, points)
    # Where there is nobody, weights of 1 keep the mean from a division by zero.
    weights = jnp.where(jnp.any(members), members, True)
    params, model_state = average = weighted_average(agents, weights)
    return Soup(params, value(average), members, model_state)


def greedy_soup(
    population: Population,
    value_fn: Callable[..., jax.Array],
    *data: Any,
    tolerance: float = 0.0,
    points: int = 5,
) -> Soup:
    """Like `uniform_soup`, but from the best on, each joins only if the value is no worse for it.

    Hence the value is never above that of the best survivor.

    Args:
      population: see `uniform_soup`.
      value_fn: see `uniform_soup`.
      *data: see `uniform_soup`.
      tolerance: see `uniform_soup`; `jnp.inf` asks about no line.
      points: see `uniform_soup`.

    Raises:
      ValueError: an argument is out of its range, or a value is no scalar.
      TypeError: the population is none.
    """
    agents, value = _agents(population), lambda agent: _called(value_fn, agent, data)
    candidates, values = _in_basin(population, value, tolerance, points)
    order = jnp.argsort(jnp.where(candidates, values, jnp.inf))
    best = order[0]
    first = (
        jax.tree.map(lambda x: x[best], agents),
        values[best],
        jnp.zeros_like(candidates).at[best].set(candidates[best]),
    )

    def taste(soup: Any, place: jax.Array) -> tuple[Any, None]:
        _, least, members = soup
        more = members.at[place].set(True)
        average = weighted_average(agents, more)
        tasted = value(average)
        better = candidates[place] & ~members[place] & (tasted <= least)
        pick = lambda new, old: jnp.where(better, new, old)
        return jax.tree.map(pick, (average, tasted, more), soup), None

    ((params, model_state), least, members), _ = jax.lax.scan(taste, first, order[1:])
    return Soup(params, least, members, model_state)


def ensemble(
    population: Population, predict: Callable[..., Any], *inputs: Any, chunk_size: int = 64
) -> Any:
    """The mean prediction of the survivors; nan if there is none.

    Average what may be averaged: probabilities rather than classes. Sums are taken in float32 or
    wider.

    Args:
      population: after a run; agents that are dead or whose value is not finite are left out.
      predict: from (params, *inputs), and `model_state=` if the agents have one, to a tree of
        floating arrays.
      *inputs: arrays, arguments of `predict`.
      chunk_size: agents that predict side by side.

    Raises:
      ValueError: `chunk_size` is out of its range, or a prediction is not floating.
      TypeError: the population is none.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> loss = lambda w, x, y: jnp.mean((w * x - y) ** 2)
      >>> x = jnp.arange(4.0)
      >>> result = jd.minimize(lambda w: loss(w, x, 2 * x), optax.sgd(0.1),
      ...     init_params=jnp.array([0.0, 9.0]), steps=50, rung=50, rule=jd.pruning.no_pruning())
      >>> bool(jnp.allclose(jd.ensemble(result.population, lambda w, x: w * x, x), 2 * x))
      True
    """
    validation.integer_in("chunk_size", chunk_size, 1)
    agents = _agents(population)
    chosen = population.alive & jnp.isfinite(population.values)
    order, count = chunking.chosen_first(chosen)
    size = min(chunk_size, len(order))
    padded = jnp.pad(order, (0, -len(order) % size))
    predicted = lambda agent, inputs: _called(predict, agent, inputs)
    shapes = jax.eval_shape(predicted, jax.tree.map(lambda x: x[0], agents), inputs)
    check_floating("predictions", shapes)
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, _wide(x.dtype)), shapes)

    def chunk(i: jax.Array, total: Any) -> Any:
        rows = jax.lax.dynamic_slice_in_dim(padded, i * size, size)
        said = jax.vmap(predicted, (0, None))(chunking.take(agents, rows), inputs)
        counted = i * size + jnp.arange(size, dtype=jnp.int32) < count

        def added(x: jax.Array, new: jax.Array) -> jax.Array:
            tall = counted.reshape(counted.shape + (1,) * x.ndim)
            return x + jnp.sum(jnp.where(tall, new.astype(x.dtype), 0), 0)

        return jax.tree.map(added, total, said)

    total = jax.lax.fori_loop(0, (count + size - 1) // size, chunk, empty)
    return jax.tree.map(
        lambda x, shape: (x / count.astype(x.dtype)).astype(shape.dtype), total, shapes
    )


def _in_basin(
    population: Population, value: Callable[[Any], jax.Array], tolerance: float, points: int
) -> tuple[jax.Array, jax.Array]:
    """bool[agents], who shares the best survivor's basin, itself too; and f[agents], all values."""
    if validation.real_array("tolerance", tolerance).ndim or not tolerance >= 0:
        raise ValueError(f"tolerance must be a number in [0, inf], got {tolerance!r}")
    validation.integer_in("points", points, 1)
    agents = _agents(population)
    check_scalar("value_fn", jax.eval_shape(value, jax.tree.map(lambda x: x[0], agents)))
    values = jax.lax.map(value, agents)
    living = population.alive & jnp.isfinite(population.values) & jnp.isfinite(values)
    best = jnp.argmin(jnp.where(living, values, jnp.inf))
    center = jax.tree.map(lambda x: x[best], agents)
    shares = jnp.arange(1, points + 1, dtype=values.dtype) / (points + 1)
    unit = ROUNDING * jnp.finfo(values.dtype).eps

    def barrier(agent: tuple[Any, jax.Array]) -> jax.Array:
        x, end = agent

        def above(t: jax.Array) -> jax.Array:
            between = jax.tree.map(lambda a, b: _between(a, b, t), center, x)
            return value(between) - ((1 - t) * values[best] + t * end)

        rounding = unit * jnp.maximum(jnp.abs(values[best]), jnp.abs(end))
        return jnp.max(jax.lax.map(above, shares)) - rounding

    flat = jax.lax.map(barrier, (agents, values)) <= tolerance
    itself = jnp.arange(len(values)) == best
    return living & (flat | itself), values


def _between(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    if not jnp.issubdtype(a.dtype, jnp.floating):
        return a
    return (a + t.astype(a.dtype) * (b - a)).astype(a.dtype)


def _agents(population: Population) -> tuple[Any, Any]:
    """Parameters and model states."""
    if not isinstance(population, Population):
        raise TypeError(
            f"population must be one, such as result.population, got a {type(population).__name__}"
        )
    return jax.tree.map(jnp.asarray, (population.params, population.model_state))


def _called(function: Callable[..., Any], agent: tuple[Any, Any], inputs: Any) -> Any:
    """What a user's function says of an agent's parameters, and model state if it has one."""
    params, model_state = agent
    if isinstance(model_state, tuple) and not model_state:
        return function(params, *inputs)
    # Rebuilt, since Flax's variables may be changed only in the trace that made them.
    return function(params, *inputs, model_state=jax.tree.map(lambda x: x, model_state))


def _wide(dtype: Any) -> Any:
    """What numbers of this dtype are summed in."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32
