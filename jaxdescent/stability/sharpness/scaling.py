"""Scaling by sharpness: a learning rate held at a fraction of the largest stable one.

    every n steps    s = lambda_max(P^-1/2 H P^-1/2)           at the current parameters
                     eta = fraction * (learning rate with threshold s; 2 / s for gradient descent)
    every step       the optimizer's update with learning rate eta

The probe runs before the step that uses its result; for an adaptive method it uses the P of that
step. The learning rate may decrease by any factor. It increases by at most the factor
`max_increase` between probes, because in flat regions 2 / s is large but valid only for a short
distance. A sharpness that is not positive or not finite leaves the learning rate unchanged. A
sharpness that is not converged can only lower it, because the largest eigenvalue may be larger.

Sources: Y. LeCun et al. 1993, "Automatic learning rate maximization by on-line estimation of
the Hessian's eigenvectors"; `optimizer_thresholds` and `probe` for thresholds and divergence test.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.stability.sharpness.arguments import check_threshold
from jaxdescent.stability.sharpness.optimizer_thresholds import Threshold
from jaxdescent.stability.sharpness.probe import (
    StabilityState,
    measured_dtype,
    stability_probe,
)


class ScaleBySharpnessState(NamedTuple):
    """State of `scale_by_sharpness`.

    Attributes:
      count: i32[], number of updates.
      learning_rate: f[], in use since the last probe.
      found: bool[], True once a converged probe has set the learning rate.
      stability: state of the probe, whose records have the learning rate before each probe.
      optimizer: state of the factory's optimizer.
    """

    count: jax.Array
    learning_rate: jax.Array
    found: jax.Array
    stability: StabilityState
    optimizer: Any


class _Ahead(NamedTuple):
    """The update about to be made, which the probe's threshold reads."""

    learning_rate: jax.Array
    optimizer: Any


def scale_by_sharpness(
    factory: Callable[..., optax.GradientTransformation],
    loss_fn: Callable[[Any, Any], jax.Array],
    /,
    threshold: Threshold,
    *,
    fraction: ArrayLike = 0.9,
    every: int = 10,
    learning_rate: ArrayLike = 1e-3,
    max_increase: ArrayLike = 2.0,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer whose learning rate is a fraction of the largest stable one.

    Args:
      factory: takes `learning_rate` as a keyword and returns an optax transformation:
        `optax.sgd`, `functools.partial(optax.sgd, momentum=0.9)`, `optax.adam`. The learning rate
        is an array in the state, so changing it does not recompile. Factories that keep it in
        their own state, such as `optax.inject_hyperparams(optax.sgd)` or a tower, raise.
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      threshold: the optimizer's stability threshold, one of `jd.thresholds`, without a learning
        rate.
      fraction: of the largest stable learning rate, in (0, inf). Below 1, training is stable
        between probes unless the curvature grows; above 1 it is unstable.
      every: number of steps between probes; the first step has a probe.
      learning_rate: used until a probe finds a positive sharpness. `max_increase` does not apply
        to that probe.
      max_increase: largest factor by which the learning rate grows from one probe to the next,
        in (1, inf].
      **options: keywords of `jd.stability_probe`.

    Returns:
      A transformation. `update(grads, state, params, *, batch=None, **extra)` as for
      `jd.monitor_stability`. The learning rate is `state.learning_rate`;
      `state.stability.outcome` tells whether the run diverges.

    Raises:
      ValueError, TypeError: an argument is out of its range or of the wrong type.
      ImportError: at the first trace, if matfree is not installed.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x, scales):
      ...     return 0.5 * jnp.sum(scales * x**2)
      >>> tx = jd.scale_by_sharpness(optax.sgd, loss, jd.thresholds.sgd(), fraction=0.8)
      >>> x, scales = jnp.ones(3), jnp.array([1.0, 4.0, 16.0])
      >>> _, state = tx.update(jax.grad(loss)(x, scales), tx.init(x), x, batch=scales)
      >>> round(float(state.learning_rate), 4)  # 0.8 * 2 / 16
      0.1
    """
    validation.factory("factory", factory)
    check_threshold(threshold)
    validation.integer_in("every", every, 1)
    validation.positive("fraction", fraction)
    validation.positive("learning_rate", learning_rate)
    if not isinstance(max_increase, jax.core.Tracer) and not np.all(np.asarray(max_increase) > 1):
        raise ValueError(f"max_increase must be in (1, inf], got {max_increase!r}")

    _check_stateless(factory)
    preconditioner = threshold.preconditioner
    in_use = threshold._replace(
        learning_rate=lambda ahead, _: ahead.learning_rate,
        preconditioner=preconditioner and (lambda ahead: preconditioner(ahead.optimizer)),
    )
    probe = stability_probe(loss_fn, in_use, **options)

    def make(rate: jax.Array) -> optax.GradientTransformationExtraArgs:
        return validation.transformation("factory(...)", factory(learning_rate=rate))

    def init(params: Any) -> ScaleBySharpnessState:
        rate = jnp.array(learning_rate, measured_dtype(params))
        count = jnp.zeros((), jnp.int32)
        found = jnp.zeros((), bool)
        return ScaleBySharpnessState(
            count, rate, found, probe.init(params), make(rate).init(params)
        )

    @compile_eager_calls
    def update(
        updates: Any, state: Any, params: Any = None, *, batch: Any = None, **extra: Any
    ) -> tuple[Any, ScaleBySharpnessState]:
        if params is None:
            raise ValueError("update(grads, state, params, batch=batch) needs params")
        grads = updates

        def probed() -> tuple[StabilityState, jax.Array, jax.Array]:
            rate = state.learning_rate
            inner = state.optimizer
            if preconditioner is not None:
                inner = make(rate).update(grads, inner, params, **extra)[1]
            stability = probe.update(
                state.stability, params, _Ahead(rate, inner), grads, batch, state.count
            )
            sharpness, converged = stability.last.sharpness, stability.last.converged
            new = fraction * threshold.max_learning_rate(sharpness, grads)
            new = new.astype(rate.dtype)
            usable = (sharpness > 0) & jnp.isfinite(new) & (new > 0)
            limit = jnp.where(state.found, max_increase * rate, jnp.inf).astype(rate.dtype)
            # An unconverged value is below the largest eigenvalue, so it may only lower the rate.
            limit = jnp.where(converged, limit, rate)
            rate = jnp.where(usable, jnp.minimum(new, limit), rate)
            return stability, rate, state.found | (usable & converged)

        stability, rate, found = jax.lax.cond(
            state.count % every == 0,
            probed,
            lambda: (state.stability, state.learning_rate, state.found),
        )
        updates, inner = make(rate).update(grads, state.optimizer, params, **extra)
        dtypes_of = containers.params_like(params, updates), state.optimizer
        updates, inner = jax.tree.map(_cast_like, (updates, inner), dtypes_of)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, ScaleBySharpnessState(count, rate, found, stability, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_stateless(factory: Any) -> None:
    """Raises ValueError if the initial state of the factory's optimizer has the learning rate."""
    try:
        first, second = (
            jax.tree.leaves(factory(learning_rate=jnp.asarray(rate)).init(jnp.zeros(())))
            for rate in (0.25, 0.5)
        )
        differs = any(not jnp.array_equal(a, b) for a, b in zip(first, second, strict=True))
    except Exception:  # it may not accept a scalar as parameters; then it is not checked
        return
    if differs:
        raise ValueError(
            "factory must return transformations that use the learning_rate keyword in every "
            "update, got a transformation that stores it in its state; pass optax.sgd itself"
        )


def _cast_like(new: Any, old: Any) -> jax.Array:
    """Casts to the dtype of `old`, which a float32 learning rate may have promoted."""
    if isinstance(old, jax.Array) and jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return new
    return jnp.asarray(new).astype(jnp.result_type(old))
