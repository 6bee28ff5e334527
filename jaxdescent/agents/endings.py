"""What to make of the survivors: the mean of their weights, or of their predictions.

    uniform soup:  the mean of those in the best one's basin
    greedy soup:   from the best on, each joins if the mean with it is no worse
    ensemble:      the mean of the survivors' predictions

Two agents share a basin if the value along the line between them, 0 <= t <= 1, stays near the
line through its ends: max over t of v((1 - t) x + t y) - ((1 - t) v(x) + t v(y)) <= tolerance.
An average over different basins is no good model: hidden units may be permuted, say.

Sources: soups M. Wortsman et al. 2022, arXiv:2203.05482; the barrier on the line J. Frankle et al.
2020, arXiv:1912.05671.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescent import chunking, validation
from jaxdescent.agents.driver import check_agents
from jaxdescent.agents.population import Population


class Soup(NamedTuple):
    """An average of agents.

    Attributes:
      params: of one agent's shapes.
      value: f[], their value.
      members: bool[agents], whose average it is. If no agent is alive with a finite value there
        is none, and `params` are one's that is of no use.
    """

    params: Any
    value: jax.Array
    members: jax.Array


def weighted_average(params: Any, weights: ArrayLike) -> Any:
    """The mean over agents, with weights; agents of weight 0 may be anything, NaN too.

    Sums are taken in float32 or wider.

    Args:
      params: a tree of arrays [agents, ...].
      weights: f[agents], not negative; not all of them 0.

    Raises:
      ValueError: a leaf has another number of agents.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> jd.weighted_average({"x": jnp.array([0.0, 8.0, jnp.nan])}, jnp.array([3.0, 1.0, 0.0]))
      {'x': Array(2., dtype=float32)}
    """
    weights = jnp.asarray(weights)
    if weights.ndim != 1:
        raise ValueError(f"weights must have one axis, of agents, got shape {weights.shape}")
    params = jax.tree.map(jnp.asarray, params)
    check_agents("params", params, len(weights))

    def mean(x: jax.Array) -> jax.Array:
        dtype = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
        shares = weights.astype(dtype) / jnp.sum(weights.astype(dtype))
        wide = shares.reshape(shares.shape + (1,) * (x.ndim - 1))
        return jnp.sum(jnp.where(wide != 0, wide * x.astype(dtype), 0), 0).astype(x.dtype)

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
      value_fn: from (params, *data) to a value, such as the held-out loss.
      *data: arrays, arguments of `value_fn`.
      tolerance: how far a value on the line may stand above the straight line between those of its
        ends, in units of the value; in [0, inf). 0 asks for a line as it is in a convex basin.
      points: of the line, ends not counted, at least 1.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> two_wells = lambda x: jnp.sum((x**2 - 1) ** 2)
      >>> starts = jnp.array([[-2.0], [0.8], [1.3]])
      >>> result = jd.minimize(two_wells, optax.sgd(0.01), starts=starts, steps=9, rung=9,
      ...     rule=jd.pruning.never())
      >>> jd.uniform_soup(result.population, two_wells).members.tolist()
      [False, True, True]
    """
    members, _ = _in_basin(population, value_fn, data, tolerance, points)
    # Where there is nobody, weights of 1 keep the mean from a division by zero.
    weights = jnp.where(jnp.any(members), members, True)
    params = weighted_average(population.params, weights)
    return Soup(params, value_fn(params, *data), members)


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
      ValueError: an argument is out of its range.
    """
    candidates, values = _in_basin(population, value_fn, data, tolerance, points)
    order = jnp.argsort(jnp.where(candidates, values, jnp.inf))
    best = order[0]
    first = (
        jax.tree.map(lambda x: x[best], population.params),
        values[best],
        jnp.zeros_like(candidates).at[best].set(candidates[best]),
    )

    def taste(soup: Any, place: jax.Array) -> tuple[Any, None]:
        _, value, members = soup
        more = members.at[place].set(True)
        params = weighted_average(population.params, more)
        tasted = value_fn(params, *data)
        better = candidates[place] & ~members[place] & (tasted <= value)
        pick = lambda new, old: jnp.where(better, new, old)
        return jax.tree.map(pick, (params, tasted, more), soup), None

    return Soup(*jax.lax.scan(taste, first, order[1:])[0])


def ensemble(
    population: Population, predict: Callable[..., Any], *inputs: Any, chunk_size: int = 64
) -> Any:
    """The mean prediction of the survivors; nan if there is none.

    Average what may be averaged: probabilities rather than classes.

    Args:
      population: after a run; agents that are dead or whose value is not finite are left out.
      predict: from (params, *inputs) to a tree of floating arrays.
      *inputs: arrays, arguments of `predict`.
      chunk_size: agents that predict side by side.

    Raises:
      ValueError: `chunk_size` is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> loss = lambda w, x, y: jnp.mean((w * x - y) ** 2)
      >>> x = jnp.arange(4.0)
      >>> result = jd.minimize(lambda w: loss(w, x, 2 * x), optax.sgd(0.1),
      ...     starts=jnp.array([0.0, 9.0]), steps=50, rung=50, rule=jd.pruning.never())
      >>> bool(jnp.allclose(jd.ensemble(result.population, lambda w, x: w * x, x), 2 * x))
      True
    """
    validation.integer_in("chunk_size", chunk_size, 1)
    params = jax.tree.map(jnp.asarray, population.params)
    chosen = population.alive & jnp.isfinite(population.values)
    order, count = chunking.chosen_first(chosen)
    size = min(chunk_size, len(order))
    padded = jnp.pad(order, (0, -len(order) % size))
    one = jax.tree.map(lambda x: x[0], params)
    empty = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(predict, one, *inputs)
    )

    def chunk(i: jax.Array, total: Any) -> Any:
        rows = jax.lax.dynamic_slice_in_dim(padded, i * size, size)
        said = jax.vmap(lambda x: predict(x, *inputs))(chunking.take(params, rows))
        counted = i * size + jnp.arange(size, dtype=jnp.int32) < count

        def added(x: jax.Array, new: jax.Array) -> jax.Array:
            wide = counted.reshape(counted.shape + (1,) * x.ndim)
            return x + jnp.sum(jnp.where(wide, new, 0), 0, dtype=x.dtype)

        return jax.tree.map(added, total, said)

    total = jax.lax.fori_loop(0, (count + size - 1) // size, chunk, empty)
    return jax.tree.map(lambda x: x / count.astype(x.dtype), total)


def _in_basin(
    population: Population,
    value_fn: Callable[..., jax.Array],
    data: tuple[Any, ...],
    tolerance: float,
    points: int,
) -> tuple[jax.Array, jax.Array]:
    """bool[agents], who shares the best survivor's basin, itself too; and f[agents], all values."""
    if validation.real_array("tolerance", tolerance).ndim or not tolerance >= 0:
        raise ValueError(f"tolerance must be a number in [0, inf], got {tolerance!r}")
    validation.integer_in("points", points, 1)
    params = jax.tree.map(jnp.asarray, population.params)
    value = lambda x: value_fn(x, *data)
    values = jax.lax.map(value, params)
    living = population.alive & jnp.isfinite(population.values) & jnp.isfinite(values)
    best = jnp.argmin(jnp.where(living, values, jnp.inf))
    center = jax.tree.map(lambda x: x[best], params)
    shares = jnp.arange(1, points + 1, dtype=values.dtype) / (points + 1)

    def barrier(agent: tuple[Any, jax.Array]) -> jax.Array:
        x, end = agent

        def above(t: jax.Array) -> jax.Array:
            between = jax.tree.map(
                lambda a, b: (a + t.astype(a.dtype) * (b - a)).astype(a.dtype), center, x
            )
            return value(between) - ((1 - t) * values[best] + t * end)

        return jnp.max(jax.lax.map(above, shares))

    flat = jax.lax.map(barrier, (params, values)) <= tolerance
    itself = jnp.arange(len(values)) == best
    return living & (flat | itself), values
