"""ReDo: dormant hidden units are replaced at intervals.

A unit is dormant if its mean absolute activation on the batch is at most a threshold times the
mean over its layer. A replaced unit gets new incoming weights, a bias of 0 and outgoing weights of
0, so that the outputs of a layer change only by what its dormant units contributed.

Source: G. Sokar et al. 2023, "The dormant neuron phenomenon in deep reinforcement learning",
arXiv:2302.12902.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.streaming.plasticity.diagnostics import dormant_units
from jaxdescent.streaming.plasticity.hidden_units import (
    HiddenLayer,
    Initializer,
    check_initializer,
    check_layers,
    find_places,
    prepare,
    updates_with_replacements,
)
from jaxdescent.towers.tower import wrapper

_INT32_MAX = 2**31 - 1


class RedoState(NamedTuple):
    """State of `redo`.

    Attributes:
      inner_state: the transformation's state.
      count: i32[], number of updates until now.
      replaced: i32[layers], number of replaced units until now.
      key: random key of the next new weights.
    """

    inner_state: Any
    count: jax.Array
    replaced: jax.Array
    key: jax.Array


def redo(
    tx: optax.GradientTransformation,
    layers: Sequence[HiddenLayer],
    key: jax.Array,
    *,
    threshold: float | jax.Array = 0.025,
    period: int = 1000,
    initializer: Initializer | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer to replace dormant hidden units after every `period` updates.

    The state of the optimizer begins anew at the weights of a replaced unit.

    Args:
      tx: a transformation.
      layers: the layers whose units may be replaced, from input to output.
      key: a random key.
      threshold: a unit is dormant up to this share of its layer's mean activation, in [0, inf).
        The paper has 0.025 for DQN; 0 replaces only units that are silent on the whole batch.
      period: number of updates between replacements.
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
      >>> tx = jd.streaming.redo(
      ...     optax.sgd(0.1), [jd.streaming.HiddenLayer("w", "v")], jax.random.key(0), period=1)
      >>> grads = jax.tree.map(jnp.zeros_like, params)
      >>> updates, state = tx.update(
      ...     grads, tx.init(params), params, activations=[jnp.array([[1.0, 0.0]])])
      >>> optax.apply_updates(params, updates)["v"].ravel()
      Array([1., 0.], dtype=float32)
    """
    inner = validation.transformation("tx", tx)
    layers = check_layers(layers)
    key = validation.random_key("key", key)
    validation.check_non_negative("threshold", threshold)
    period = validation.integer_in("period", period, 1, _INT32_MAX)
    draw = check_initializer(initializer)

    def init(params: Any) -> RedoState:
        validation.check_floating("params", params)
        replaced = jnp.zeros(len(find_places(layers, params)), jnp.int32)
        return RedoState(inner.init(params), jnp.zeros((), jnp.int32), replaced, key)

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, *, activations: Any = None, **extra: Any
    ) -> tuple[Any, RedoState]:
        params, places, hidden = prepare(layers, updates, params, activations)
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra)
        count = jnp.asarray(optax.safe_increment(state.count))

        def replace(updates: Any, inner_state: Any) -> tuple[Any, Any, jax.Array, jax.Array]:
            chosen = [dormant_units(h, threshold) for h in hidden]
            nothing = [jnp.zeros(place.units) for place in places]
            next_key, key = jax.random.split(state.key)
            updates, inner_state = updates_with_replacements(
                inner, key, params, updates, inner_state, places, chosen, nothing, draw
            )
            number = jnp.stack([jnp.sum(mask, dtype=jnp.int32) for mask in chosen])
            return updates, inner_state, state.replaced + number, next_key

        def keep(updates: Any, inner_state: Any) -> tuple[Any, Any, jax.Array, jax.Array]:
            return updates, inner_state, state.replaced, state.key

        updates, inner_state, replaced, next_key = jax.lax.cond(
            count % period == 0, replace, keep, updates, inner_state
        )
        return updates, RedoState(inner_state, count, replaced, next_key)

    return wrapper(inner, init, update)
