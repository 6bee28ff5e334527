"""Model soups, averages of the surviving agents' parameters, and ensembles of their predictions.

    uniform soup:  the mean of the agents in the best agent's basin
    greedy soup:   starting from the best, adds an agent if the mean with it is not worse
    ensemble:      the mean of the survivors' predictions

Two agents share a basin if there is no barrier between them (`jd.landscape.barrier`): the value
along the line between them exceeds the chord between its ends by at most a tolerance, apart from
rounding. Averages over different basins are poor models, because hidden units may be permuted. The
model state is averaged too; re-estimate the running statistics of a BatchNorm afterward, with
`jd.reestimate_statistics`.

Sources: M. Wortsman et al. 2022, arXiv:2203.05482 (soups); J. Frankle et al. 2020, arXiv:1912.05671
(the barrier on the line).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import chunking, validation
from jaxdescent.agents.arguments import check_agents
from jaxdescent.agents.population import Population, has_model_state
from jaxdescent.agents.random_keys import is_key, is_raw_key
from jaxdescent.landscape import barrier
from jaxdescent.numerics import at_least_float32, is_inexact

ROUNDING = 16
"""Units in the last place by which a value on a line may exceed the chord due to rounding."""


class Soup(NamedTuple):
    """Average of agents.

    Attributes:
      params: the averaged parameters, of one agent's shapes.
      value: f[], the value at `params`.
      members: bool[agents], True for agents in the average. All are False, and `params` is
        meaningless, if no agent is alive with a finite value.
      model_state: the averaged model state; () without one.
    """

    params: Any
    value: jax.Array
    members: jax.Array
    model_state: Any = ()


def weighted_average(params: Any, weights: ArrayLike) -> Any:
    """Returns the weighted mean over agents; agents of weight 0 may have any values, even NaN.

    The mean of agents within bounds is within these bounds, despite rounding.
    Sums are computed in float32 or wider. Integers, such as counts in a model state, are rounded to
    the nearest. Of random keys, the first agent's with positive weight is taken.

    Args:
      params: a tree of arrays [agents, ...].
      weights: f[agents], not negative and not all 0.

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
            raise ValueError(
                f"weights must be in [0, inf) and not all 0, got {validation.shown(weights)}"
            )
    weights = jnp.asarray(weights)
    if weights.ndim != 1:
        raise ValueError(f"weights must have one axis, of agents, got shape {weights.shape}")
    validation.check_arrays("params", params)
    params = jax.tree.map(jnp.asarray, params)
    check_agents("params", params, len(weights))

    def mean(path: Any, x: jax.Array) -> jax.Array:
        if is_key(x) or (x.ndim > 1 and path and is_raw_key(path, x)):
            return x[jnp.argmax(weights > 0)]
        dtype = at_least_float32(x.dtype)
        shares = weights.astype(dtype) / jnp.sum(weights.astype(dtype))
        shares = shares.reshape(shares.shape + (1,) * (x.ndim - 1))
        used = shares != 0
        total = jnp.sum(jnp.where(used, shares * x.astype(dtype), 0), 0)
        if jnp.issubdtype(x.dtype, jnp.floating):  # rounding must not leave the agents' range
            wide = x.astype(dtype)
            low = jnp.min(jnp.where(used, wide, jnp.inf), 0)
            total = jnp.clip(total, low, jnp.max(jnp.where(used, wide, -jnp.inf), 0))
        return (total if is_inexact(x) else jnp.round(total)).astype(x.dtype)

    return jax.tree_util.tree_map_with_path(mean, params)


def uniform_soup(
    population: Population,
    value_fn: Callable[..., jax.Array],
    *data: Any,
    mode: Literal["min", "max"] = "min",
    tolerance: float = 0.0,
    points: int = 5,
) -> Soup:
    """Returns the mean of the survivors in the basin of the best of them.

    Args:
      population: the population after a run; agents that are pruned or whose value is not finite
        are left out.
      value_fn: Called as `value_fn(params, *data)`, with `model_state=` if the agents have one;
        returns a value, such as the validation loss, f[].
      *data: arrays, arguments of `value_fn`.
      mode: "max" if a higher value is better, as of an accuracy.
      tolerance: height of a barrier, in units of the value, below which two agents share a basin;
        in [0, inf]. With 0 the values on the line must be at most the values on the chord.
      points: number of points on the line where the value is computed, without its ends; at
        least 1.

    Raises:
      ValueError: an argument is out of its range, or a value is not a scalar.
      TypeError: `population` is not a `Population`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def two_wells(x):
      ...     return jnp.sum((x**2 - 1) ** 2)
      >>> starts = jnp.array([[-2.0], [0.8], [1.3]])
      >>> result = jd.minimize(
      ...     two_wells, optax.sgd(0.01), init_params=starts, steps=9,
      ...     rule=jd.pruning.no_pruning())
      >>> jd.uniform_soup(result.population, two_wells).members.tolist()
      [False, True, True]
    """
    agents, cost, sign = _agents(population), *_cost(value_fn, data, mode)
    members, _ = _agents_in_best_basin(population, cost, tolerance, points)
    # Without members, weights of 1 avoid a division by zero.
    weights = jnp.where(jnp.any(members), members, True)
    params, model_state = average = weighted_average(agents, weights)
    return Soup(params, sign * cost(average), members, model_state)


def greedy_soup(
    population: Population,
    value_fn: Callable[..., jax.Array],
    *data: Any,
    mode: Literal["min", "max"] = "min",
    tolerance: float = 0.0,
    points: int = 5,
) -> Soup:
    """Returns the mean of agents, each added only if the value of the mean does not get worse.

    Agents are tried in order of their values, the best first. The value of the soup is at least
    as good as the value of the best survivor.

    Args:
      population: see `uniform_soup`.
      value_fn: see `uniform_soup`.
      *data: see `uniform_soup`.
      mode: see `uniform_soup`.
      tolerance: see `uniform_soup`; with `jnp.inf` all basins count.
      points: see `uniform_soup`.

    Raises:
      ValueError: an argument is out of its range, or a value is not a scalar.
      TypeError: `population` is not a `Population`.
    """
    agents, cost, sign = _agents(population), *_cost(value_fn, data, mode)
    candidates, costs = _agents_in_best_basin(population, cost, tolerance, points)
    order = jnp.argsort(jnp.where(candidates, costs, jnp.inf))
    best = order[0]
    first = (
        jax.tree.map(lambda x: x[best], agents),
        costs[best],
        jnp.zeros_like(candidates).at[best].set(candidates[best]),
    )

    def try_add(soup: Any, agent: jax.Array) -> tuple[Any, None]:
        _, least, members = soup
        new_members = members.at[agent].set(True)
        average = weighted_average(agents, new_members)
        new_cost = cost(average)
        better = candidates[agent] & ~members[agent] & (new_cost <= least)
        return optax.tree.where(better, (average, new_cost, new_members), soup), None

    ((params, model_state), least, members), _ = jax.lax.scan(try_add, first, order[1:])
    return Soup(params, sign * least, members, model_state)


def ensemble(
    population: Population, predict: Callable[..., Any], *inputs: Any, chunk_size: int = 64
) -> Any:
    """Returns the mean prediction of the survivors; NaN if there are none.

    Average probabilities rather than classes. Sums are computed in float32 or wider.

    Args:
      population: the population after a run; agents that are pruned or whose value is not finite
        are left out.
      predict: Called as `predict(params, *inputs)`, with `model_state=` if the agents have one;
        returns a tree of floating arrays.
      *inputs: arrays, arguments of `predict`.
      chunk_size: number of agents that predict side by side.

    Raises:
      ValueError: `chunk_size` is out of its range, or a prediction is not floating.
      TypeError: `population` is not a `Population`.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> x = jnp.arange(4.0)
      >>> result = jd.minimize(
      ...     lambda w: jnp.mean((w * x - 2 * x) ** 2), optax.sgd(0.1), steps=50,
      ...     init_params=jnp.array([0.0, 9.0]), rule=jd.pruning.no_pruning())
      >>> bool(jnp.allclose(jd.ensemble(result.population, lambda w, x: w * x, x), 2 * x))
      True
    """
    validation.integer_in("chunk_size", chunk_size, 1)
    agents = _agents(population)
    order, count = chunking.chosen_first(population.alive & jnp.isfinite(population.values))
    size = min(chunk_size, len(order))
    padded = jnp.pad(order, (0, -len(order) % size))

    def predict_one(agent: Any, inputs: Any) -> Any:
        return _on_agent(predict, inputs)(agent)

    shapes = jax.eval_shape(predict_one, jax.tree.map(lambda x: x[0], agents), inputs)
    validation.check_floating("predictions", shapes)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, at_least_float32(x.dtype)), shapes)

    def add_chunk(i: jax.Array, total: Any) -> Any:
        rows = jax.lax.dynamic_slice_in_dim(padded, i * size, size)
        predictions = jax.vmap(predict_one, (0, None))(chunking.take(agents, rows), inputs)
        counts = i * size + jnp.arange(size, dtype=jnp.int32) < count

        def add(x: jax.Array, new: jax.Array) -> jax.Array:
            mask = counts.reshape(counts.shape + (1,) * x.ndim)
            return x + jnp.sum(jnp.where(mask, new.astype(x.dtype), 0), 0)

        return jax.tree.map(add, total, predictions)

    total = jax.lax.fori_loop(0, (count + size - 1) // size, add_chunk, zeros)
    return jax.tree.map(
        lambda x, shape: (x / count.astype(x.dtype)).astype(shape.dtype), total, shapes
    )


def _agents_in_best_basin(
    population: Population, cost: Callable[[Any], jax.Array], tolerance: float, points: int
) -> tuple[jax.Array, jax.Array]:
    """Returns bool[agents], True in the best survivor's basin, and f[agents], all costs."""
    if validation.real_array("tolerance", tolerance).ndim or not tolerance >= 0:
        raise ValueError(
            f"tolerance must be a number in [0, inf], got {validation.shown(tolerance)}"
        )
    validation.integer_in("points", points, 1)
    agents = _agents(population)
    validation.check_scalar("value_fn", jax.eval_shape(cost, jax.tree.map(lambda x: x[0], agents)))
    costs = jax.lax.map(cost, agents)
    usable = population.alive & jnp.isfinite(population.values) & jnp.isfinite(costs)
    best = jnp.argmin(jnp.where(usable, costs, jnp.inf))
    center = jax.tree.map(lambda x: x[best], agents)
    x = jnp.arange(1, points + 1, dtype=costs.dtype) / (points + 1)
    ulps = ROUNDING * jnp.finfo(costs.dtype).eps

    def barrier_to(agent_and_value: tuple[Any, jax.Array]) -> jax.Array:
        agent, end = agent_and_value

        def cost_at(t: jax.Array) -> jax.Array:
            return cost(jax.tree.map(partial(_interpolate, t=t), center, agent))

        rounding = ulps * jnp.maximum(jnp.abs(costs[best]), jnp.abs(end))
        ends = jnp.stack([costs[best], end])
        return barrier(x, jax.lax.map(cost_at, x), ends) - rounding

    is_connected = jax.lax.map(barrier_to, (agents, costs)) <= tolerance
    is_best = jnp.arange(len(costs)) == best
    return usable & (is_connected | is_best), costs


def _cost(
    value_fn: Callable[..., Any], data: Any, mode: str
) -> tuple[Callable[[tuple[Any, Any]], jax.Array], int]:
    """Returns a function of (params, model_state) to minimize, and its sign: value / cost."""
    sign = -1 if validation.mode("mode", mode) == "max" else 1
    value = _on_agent(value_fn, data)

    def negated(agent: tuple[Any, Any]) -> jax.Array:
        return jax.tree.map(jnp.negative, value(agent))

    return (negated if sign < 0 else value), sign


def _interpolate(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    if not jnp.issubdtype(a.dtype, jnp.floating):
        return a
    between = (a + t.astype(a.dtype) * (b - a)).astype(a.dtype)
    return jnp.clip(between, jnp.minimum(a, b), jnp.maximum(a, b))


def _agents(population: Population) -> tuple[Any, Any]:
    """Returns the parameters and the model states of a population."""
    if not isinstance(population, Population):
        raise TypeError(
            "population must be a jd.Population, such as result.population, got a "
            f"{type(population).__name__}"
        )
    return jax.tree.map(jnp.asarray, (population.params, population.model_state))


def _on_agent(function: Callable[..., Any], inputs: Any) -> Callable[[tuple[Any, Any]], Any]:
    """Returns a user's function as a function of (params, model_state)."""

    def call(agent: tuple[Any, Any]) -> Any:
        params, model_state = agent
        if not has_model_state(model_state):
            return function(params, *inputs)
        # Rebuilt, since Flax variables may only be changed in the trace that made them.
        return function(params, *inputs, model_state=jax.tree.map(lambda x: x, model_state))

    return call
