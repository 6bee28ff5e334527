"""Continual backpropagation: the least useful hidden units are replaced at a constant rate.

For each hidden unit, with age n:

    m <- d m + (1 - d) mean(h)                                   m_c = m / (1 - d^n)
    u <- d u + (1 - d) mean |h - m_c| mean |V| / mean |W|        u_c = u / (1 - d^n)

W are the unit's incoming and V its outgoing weights. In every step the number of mature units (n >
maturity) times the replacement rate is added to a budget. While it is at least 1, the mature unit
of the least u_c is replaced, and begins at age 0. A budget below 1 is kept for later steps: at a
rate of 1e-4 a layer of 100 units replaces one unit in 100 steps.

Source: S. Dohare et al. 2024, "Loss of plasticity in deep continual learning", Nature 632, and its
code, whose runs on MNIST have the utility above ("adaptable contribution").
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.streaming.plasticity.hidden_units import (
    HiddenLayer,
    Initializer,
    check_initializer,
    check_layers,
    find_places,
    over_examples,
    prepare,
    updates_with_replacements,
)
from jaxdescent.towers.tower import wrapper

_INT32_MAX = 2**31 - 1


class UnitStatistics(NamedTuple):
    """Statistics of the hidden units of one layer.

    Attributes:
      age: i32[units], number of updates since the unit was replaced.
      utility: f32[units], u.
      mean: f32[units], m.
      budget: f32[], units that may be replaced.
      replaced: i32[], number of replacements until now.
    """

    age: jax.Array
    utility: jax.Array
    mean: jax.Array
    budget: jax.Array
    replaced: jax.Array


class ContinualBackpropState(NamedTuple):
    """State of `continual_backprop`.

    Attributes:
      inner_state: the transformation's state.
      layers: a `UnitStatistics` for each layer.
      key: random key of the next new weights.
    """

    inner_state: Any
    layers: tuple[UnitStatistics, ...]
    key: jax.Array


def continual_backprop(
    tx: optax.GradientTransformation,
    layers: Sequence[HiddenLayer],
    key: jax.Array,
    *,
    replacement_rate: float | jax.Array = 1e-4,
    decay: float | jax.Array = 0.99,
    maturity: int = 100,
    initializer: Initializer | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer to replace the hidden units that contribute least.

    The state of the optimizer begins anew at the weights of a replaced unit. With
    `elementwise_adam` as the optimizer, so does the count of Adam's bias correction. Activations
    that are not finite are not stored, and no unit is replaced in such a step.

    Args:
      tx: a transformation.
      layers: the layers whose units may be replaced, from input to output.
      key: a random key.
      replacement_rate: share of the mature units that is replaced in a step, in [0, 1].
      decay: d, in [0, 1).
      maturity: number of updates during which a new unit is not replaced.
      initializer: of the incoming weights; `jax.nn.initializers.he_uniform()` by default, which
        suits ReLU.

    Returns:
      A transformation. Its `update(grads, state, params, activations=activations)` needs the
      parameters, and the activations f[..., units] of each layer on the batch, after the
      nonlinearity.

    Raises:
      TypeError: `tx` is not a transformation, `key` is not a random key, or `initializer` is not a
        function.
      ValueError: another argument is out of its range; in `init`, `layers` name parameters that
        are missing or do not fit.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> params = {"w": jnp.ones((3, 2)), "v": jnp.ones((2, 1))}
      >>> tx = jd.streaming.continual_backprop(
      ...     optax.sgd(0.1), [jd.streaming.HiddenLayer("w", "v")], jax.random.key(0),
      ...     replacement_rate=0.5, maturity=0)
      >>> grads = jax.tree.map(jnp.zeros_like, params)
      >>> updates, state = tx.update(
      ...     grads, tx.init(params), params, activations=[jnp.array([[1.0, 0.5], [0.0, 0.5]])])
      >>> optax.apply_updates(params, updates)["v"].ravel()
      Array([1., 0.], dtype=float32)
    """
    inner = validation.transformation("tx", tx)
    layers = check_layers(layers)
    key = validation.random_key("key", key)
    if validation.is_concrete(replacement_rate):
        validation.number_in("replacement_rate", replacement_rate, 0, 1)
    validation.half_open_interval("decay", decay, 0, 1)
    maturity = validation.integer_in("maturity", maturity, 0, _INT32_MAX)
    draw = check_initializer(initializer)

    def init(params: Any) -> ContinualBackpropState:
        validation.check_floating("params", params)
        statistics = tuple(_initial(place.units) for place in find_places(layers, params))
        return ContinualBackpropState(inner.init(params), statistics, key)

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, *, activations: Any = None, **extra: Any
    ) -> tuple[Any, ContinualBackpropState]:
        params, places, hidden = prepare(layers, updates, params, activations)
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        leaves = jax.tree.leaves(optax.apply_updates(params, updates))
        chosen, means, statistics = [], [], []
        for place, h, old in zip(places, hidden, state.layers, strict=True):
            outgoing = jnp.moveaxis(leaves[place.next_kernel], -2, 0)
            new = _follow(old, h, leaves[place.kernel], outgoing, decay)
            mask, new = _choose(new, old, replacement_rate, decay, maturity)
            chosen.append(mask)
            means.append(new.mean / _correction(new.age, decay))
            statistics.append(_begin_anew(new, mask))
        next_key, key = jax.random.split(state.key)
        updates, inner_state = updates_with_replacements(
            inner, key, params, updates, inner_state, places, chosen, means, draw
        )
        return updates, ContinualBackpropState(inner_state, tuple(statistics), next_key)

    return wrapper(inner, init, update)


def _initial(units: int) -> UnitStatistics:
    zeros, none = jnp.zeros(units), jnp.zeros((), jnp.int32)
    return UnitStatistics(jnp.zeros(units, jnp.int32), zeros, zeros, jnp.zeros(()), none)


def _correction(age: jax.Array, decay: float | jax.Array) -> jax.Array:
    return jnp.where(age > 0, 1 - jnp.asarray(decay) ** age, 1)


def _follow(
    old: UnitStatistics,
    h: jax.Array,
    kernel: jax.Array,
    outgoing: jax.Array,
    decay: float | jax.Array,
) -> UnitStatistics:
    """Returns the statistics after a batch; the old ones if it is not finite."""
    age = jnp.asarray(optax.safe_increment(old.age))
    mean = decay * old.mean + (1 - decay) * over_examples(h)
    deviation = over_examples(jnp.abs(h - mean / _correction(age, decay)))
    incoming = over_examples(jnp.abs(kernel)).astype(deviation.dtype)
    effect = jnp.mean(jnp.abs(outgoing), axis=tuple(range(1, outgoing.ndim)))
    tiny = jnp.finfo(incoming.dtype).tiny
    contribution = deviation * effect.astype(deviation.dtype) / jnp.maximum(incoming, tiny)
    utility = decay * old.utility + (1 - decay) * contribution
    finite = jnp.all(jnp.isfinite(utility)) & jnp.all(jnp.isfinite(mean))
    new = old._replace(
        age=age,
        mean=mean.astype(old.mean.dtype),
        utility=utility.astype(old.utility.dtype),
    )
    return jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, old)


def _choose(
    new: UnitStatistics,
    old: UnitStatistics,
    replacement_rate: float | jax.Array,
    decay: float | jax.Array,
    maturity: int,
) -> tuple[jax.Array, UnitStatistics]:
    """Returns bool[units], True for each unit to replace, and the statistics with their budget."""
    finite = jnp.any(new.age != old.age)
    mature = (new.age > maturity) & finite
    count = jnp.sum(mature)
    budget = new.budget + replacement_rate * count
    number = jnp.minimum(jnp.floor(budget), count)
    utility = jnp.where(mature, new.utility / _correction(new.age, decay), jnp.inf)
    rank = jnp.argsort(jnp.argsort(utility))
    chosen = mature & (rank < number)
    replaced = new.replaced + number.astype(jnp.int32)
    return chosen, new._replace(
        budget=(budget - number).astype(new.budget.dtype), replaced=replaced
    )


def _begin_anew(statistics: UnitStatistics, chosen: jax.Array) -> UnitStatistics:
    def clear(x: jax.Array) -> jax.Array:
        return jnp.where(chosen, 0, x).astype(x.dtype)

    return statistics._replace(
        age=clear(statistics.age), utility=clear(statistics.utility), mean=clear(statistics.mean)
    )
