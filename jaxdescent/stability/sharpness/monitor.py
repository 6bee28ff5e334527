"""Monitoring: an optimizer that runs a stability probe every few steps.

    updates, state = optimizer.update(grads, state, params)      returned unchanged, to the bit
    every n steps: sharpness and threshold at these parameters (see `probe`)

A step without a probe only increments a counter. Everything runs inside the compiled step, in one
program. Under `vmap` the condition becomes a select, so that every step runs a probe; call
`stability_probe` between chunks of steps instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.stability.sharpness.optimizer_thresholds import Threshold
from jaxdescent.stability.sharpness.probe import StabilityState, stability_probe


class MonitorState(NamedTuple):
    """State of `monitor_stability`.

    Attributes:
      count: i32[], number of updates.
      stability: state of the probe; `jd.stability_log` returns its records.
      optimizer: state of the optimizer.
    """

    count: jax.Array
    stability: StabilityState
    optimizer: Any


def monitor_stability(
    optimizer: optax.GradientTransformation,
    loss_fn: Callable[[Any, Any], jax.Array],
    /,
    threshold: Threshold,
    *,
    every: int = 200,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that records its sharpness and its stability threshold.

    Args:
      optimizer: any optax transformation; its updates are not changed.
      loss_fn: called as `loss_fn(params, batch)`; returns the scalar whose Hessian is measured.
      threshold: the optimizer's stability threshold, one of `jd.thresholds`, made with the same
        arguments as the optimizer.
      every: number of steps between probes; the first step has a probe.
      **options: keywords of `jd.stability_probe`.

    Returns:
      A transformation. `update(grads, state, params, *, batch=None, **extra)` needs the parameters.
      The probe passes `batch`, for example a quarter of the data, to `loss_fn`; the optimizer
      receives `extra` but not `batch`. Make `batch` an argument of the compiled step, because data
      that a program closes over is stored in it as a constant. The state holds the eigenvector, one
      more copy of the parameters in at least float32; a running probe holds several more.

    Raises:
      ValueError, TypeError: an argument is out of its range or of the wrong type.
      ImportError: at the first trace, if matfree is not installed.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x, scales):
      ...     return 0.5 * jnp.sum(scales * x**2)
      >>> tx = jd.monitor_stability(optax.sgd(0.2), loss, jd.thresholds.sgd(0.2), every=5)
      >>> @jax.jit
      ... def step(x, state, scales):
      ...     grads = jax.grad(loss)(x, scales)
      ...     updates, state = tx.update(grads, state, x, batch=scales)
      ...     return optax.apply_updates(x, updates), state
      >>> x, scales = jnp.ones(3), jnp.array([1.0, 4.0, 11.0])
      >>> state = tx.init(x)
      >>> for _ in range(20):
      ...     x, state = step(x, state, scales)
      >>> [f"{ratio:.3f}" for ratio in jd.stability_log(state).ratio]
      ['1.100', '1.100', '1.100', '1.100']
      >>> jd.StabilityOutcome(int(state.stability.outcome)).name  # it diverges
      'DIVERGING'
    """
    optimizer = validation.transformation("optimizer", optimizer)
    validation.integer_in("every", every, 1)
    probe = stability_probe(loss_fn, threshold, **options)

    def init(params: Any) -> MonitorState:
        count = jnp.zeros((), jnp.int32)
        return MonitorState(count, probe.init(params), optimizer.init(params))

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, *, batch: Any = None, **extra: Any
    ) -> tuple[Any, MonitorState]:
        if params is None:
            raise ValueError("update(grads, state, params, batch=batch) needs params")
        grads = updates
        updates, inner = optimizer.update(grads, state.optimizer, params, **extra)
        stability = jax.lax.cond(
            state.count % every == 0,
            lambda: probe.update(state.stability, params, inner, grads, batch, state.count),
            lambda: state.stability,
        )
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, MonitorState(count, stability, inner)

    return optax.GradientTransformationExtraArgs(init, update)
