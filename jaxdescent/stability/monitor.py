"""Monitoring: an optimizer as it is, with a probe of its stability every so many steps.

    updates, state = optimizer.update(grads, state, params)      passed on to the bit
    every n steps: sharpness against threshold, at these parameters (see `probing`)

Between probes it costs a count. Everything happens in the compiled step: one program, no
host. Under `vmap` the condition turns into a choice between results, and every step pays for a
probe: there, call `stability_probe` between chunks of steps instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.stability.probing import StabilityState, stability_probe
from jaxdescent.stability.thresholds import Threshold


class MonitorState(NamedTuple):
    """What `monitor_stability` carries.

    Attributes:
      count: i32[], updates until now.
      stability: what the probes found; `jd.stability_log` lists it.
      optimizer: the optimizer's own state.
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
    """An optimizer that records its sharpness against what it can bear.

    Args:
      optimizer: any optax transformation; its updates are not changed.
      loss_fn: from (params, batch) to a scalar; the loss whose Hessian is looked at.
      threshold: what the optimizer can bear, one of `jd.thresholds`, with the
        optimizer's own arguments.
      every: steps between probes; the first step has one.
      **options: of `jd.stability_probe`.

    Returns:
      A transformation. `update(grads, state, params, *, batch=None, **extra)` needs the
      parameters; `batch` is what the probe gives to `loss_fn`, say a quarter of the data, and
      is not handed to the optimizer, as `extra` is. Take `batch` from the arguments of
      the compiled step: what a program closes over is folded into it. The state holds one more
      copy of the parameters, the eigenvector, in float32 at least; a probe holds several more
      while it works.

    Raises:
      ValueError, TypeError: an argument is not what it should be.
      ImportError: at the first trace, if matfree is not installed.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x, scales):
      ...     return 0.5 * jnp.sum(scales * x**2)
      >>> tx = jd.monitor_stability(optax.sgd(0.2), loss, jd.thresholds.gd(0.2), every=5)
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
