"""Riding the edge: a learning rate held at a fraction of the greatest stable one.

    every n steps    s = lambda_max(P^-1/2 H P^-1/2)           where the run stands
                     eta = fraction * (the rate at which s is the threshold; 2 / s for descent)
    every step       the optimizer's, with the rate eta

The probe comes before the step that uses its rate; the P of an adaptive method is that of the
update about to be made. A rate falls at once, as it must. It rises by a factor of `max_increase`
from a probe to the next at most: where a network is flat, 2 / s is large, and holds for a short
way only. A sharpness that is not positive, or not finite, leaves the rate as it is, and for
one that has not converged it does not rise: the greatest eigenvalue may be above it.

Sources: Y. LeCun et al. 1993, "Automatic learning rate maximization by on-line estimation of
the Hessian's eigenvectors"; thresholds and guard are those of `thresholds` and `probing`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.stability.probing import (
    StabilityState,
    check_threshold,
    float_dtype,
    stability_probe,
)
from jaxdescent.stability.thresholds import Threshold


class ScaleBySharpnessState(NamedTuple):
    """What `scale_by_sharpness` carries.

    Attributes:
      count: i32[], updates until now.
      learning_rate: f[], in use since the last probe.
      found: bool[], whether a probe that converged has set it yet.
      stability: what the probes found, against the rate in use before each.
      optimizer: the state of the optimizer that the factory makes.
    """

    count: jax.Array
    learning_rate: jax.Array
    found: jax.Array
    stability: StabilityState
    optimizer: Any


class _Ahead(NamedTuple):
    """What the probe's threshold reads: the update about to be made."""

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
    """An optimizer whose learning rate is a fraction of what the loss's curvature allows.

    Args:
      factory: takes `learning_rate` as a keyword and returns an optax transformation:
        `optax.sgd`, `functools.partial(optax.sgd, momentum=0.9)`, `optax.adam`. The rate is an
        array in the state; nothing is compiled anew when it moves. Not one that keeps the rate
        in its own state, such as `optax.inject_hyperparams(optax.sgd)` or a tower.
      loss_fn: from (params, batch) to a scalar.
      threshold: what that optimizer can bear, one of `jd.thresholds`, without a learning rate.
      fraction: of the greatest stable learning rate, in (0, inf). Below 1 descent is stable
        between probes, as far as the curvature does not grow; above 1 it is not.
      every: steps between probes; the first step has one.
      learning_rate: used until a probe has found a positive sharpness; that probe sets it
        without regard to `max_increase`.
      max_increase: the factor by which the rate may grow from one probe to the next, in
        (1, inf].
      **options: of `jd.stability_probe`.

    Returns:
      A transformation. `update(grads, state, params, *, batch=None, **extra)` as for
      `jd.monitor_stability`. The rate is `state.learning_rate`; the guard,
      `state.stability.outcome`, holds as for a fixed rate.

    Raises:
      ValueError, TypeError: an argument is not what it should be.
      ImportError: at the first trace, if matfree is not installed.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x, scales):
      ...     return 0.5 * jnp.sum(scales * x**2)
      >>> tx = jd.scale_by_sharpness(optax.sgd, loss, jd.thresholds.gd(), fraction=0.8)
      >>> x, scales = jnp.ones(3), jnp.array([1.0, 4.0, 16.0])
      >>> _, state = tx.update(jax.grad(loss)(x, scales), tx.init(x), x, batch=scales)
      >>> round(float(state.learning_rate), 4)  # 0.8 * 2 / 16
      0.1
    """
    validation.factory("factory", factory)
    check_threshold(threshold)
    validation.integer_in("every", every, 1)
    for name, value in (("fraction", fraction), ("learning_rate", learning_rate)):
        if not isinstance(value, jax.core.Tracer):
            validation.open_interval(name, value, 0.0, np.inf)
    if not isinstance(max_increase, jax.core.Tracer) and not np.all(np.asarray(max_increase) > 1):
        raise ValueError(f"max_increase must be in (1, inf], got {max_increase!r}")

    _check_stateless(factory)
    make = lambda rate: validation.transformation("factory(...)", factory(learning_rate=rate))
    preconditioner = threshold.preconditioner
    in_use = threshold._replace(
        learning_rate=lambda ahead, _: ahead.learning_rate,
        preconditioner=preconditioner and (lambda ahead: preconditioner(ahead.optimizer)),
    )
    probe = stability_probe(loss_fn, in_use, **options)

    def init(params: Any) -> ScaleBySharpnessState:
        rate = jnp.array(learning_rate, float_dtype(params))
        count = jnp.zeros((), jnp.int32)
        found = jnp.zeros((), bool)
        return ScaleBySharpnessState(
            count, rate, found, probe.init(params), make(rate).init(params)
        )

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
            seen = probe.update(
                state.stability, params, _Ahead(rate, inner), grads, batch, state.count
            )
            sharpness = seen.last.sharpness
            new = (fraction * threshold.rate(sharpness, grads)).astype(rate.dtype)
            usable = (sharpness > 0) & jnp.isfinite(new) & (new > 0)
            most = jnp.where(state.found, max_increase * rate, jnp.inf).astype(rate.dtype)
            # What has not converged is below the greatest eigenvalue: a rate may fall for it.
            most = jnp.where(seen.last.converged, most, rate)
            good = usable & seen.last.converged
            return seen, jnp.where(usable, jnp.minimum(new, most), rate), state.found | good

        stability, rate, found = jax.lax.cond(
            state.count % every == 0,
            probed,
            lambda: (state.stability, state.learning_rate, state.found),
        )
        updates, inner = make(rate).update(grads, state.optimizer, params, **extra)
        updates, inner = jax.tree.map(_like, (updates, inner), (params, state.optimizer))
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, ScaleBySharpnessState(count, rate, found, stability, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_stateless(factory: Any) -> None:
    """Raises ValueError if the state of what the factory makes depends on the rate."""
    try:
        first, second = (
            jax.tree.leaves(factory(learning_rate=jnp.asarray(rate)).init(jnp.zeros(())))
            for rate in (0.25, 0.5)
        )
        moved = any(not jnp.array_equal(a, b) for a, b in zip(first, second, strict=True))
    except Exception:  # it may want other parameters than a number, and is then trusted
        return
    if moved:
        raise ValueError(
            "factory must make transformations that use the learning_rate they are given, got one "
            "that keeps it in its state, where it would stay; pass optax.sgd itself"
        )


def _like(new: Any, old: Any) -> jax.Array:
    """The dtype it had before a float32 rate came in."""
    if isinstance(old, jax.Array) and jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
        return new
    return jnp.asarray(new).astype(jnp.result_type(old))
