"""SwiftTD: a step size for each feature of a linear model, learned online and bounded.

With phi the features, exp(beta) the step sizes, delta the error, and for gamma lambda = 0:

    alpha = exp(beta) min(1, eta / tau)                   tau = sum exp(beta) phi^2
    beta <- beta + mu / exp(beta) delta h_before phi      a gradient of the squared error by beta
    w    <- w + alpha delta phi
    h    <- h (1 - alpha phi^2) + alpha delta phi         the derivative of w by beta

An update changes the prediction by at most eta times its error. Where tau is above eta, the step
sizes are multiplied by decay^(phi^2), and h starts again from 0. With traces, w follows true
online TD(lambda). beta is kept in [log(min), log(eta)]. Implementations compare
exp(beta) with log(min), which is never below it.

Source: K. Javed, A. Sharifnassab, R. S. Sutton, "SwiftTD: A Fast and Robust Algorithm for Temporal
Difference Learning", RLC 2024, and the authors' implementation for dense features.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.streaming.learners import containment
from jaxdescent.streaming.learners.obgd import check_traces, decay_factor

EPSILON = 1e-8


class SwiftTdState(NamedTuple):
    """State of `swift_td`; trees like the parameters, except for `skipped`.

    Attributes:
      log_rates: beta, logarithms of the step sizes.
      moves: the last update.
      trace: z, the trace of steps.
      meta_trace: p, the trace of derivatives of the prediction by beta.
      trace_derivative: the derivative of z by beta.
      h: the derivative of the parameters by beta.
      h_before: h before the last update.
      skipped: i32[], number of rounds that were not finite.
    """

    log_rates: Any
    moves: Any
    trace: Any
    meta_trace: Any
    trace_derivative: Any
    h: Any
    h_before: Any
    skipped: jax.Array


class _Feature(NamedTuple):
    """Values of one leaf during an update, named as in `SwiftTdState`."""

    log_rates: jax.Array
    moves: jax.Array
    trace: jax.Array
    meta_trace: jax.Array
    trace_derivative: jax.Array
    h: jax.Array
    h_before: jax.Array
    phi: jax.Array


def swift_td(
    learning_rate: ArrayLike = 1e-3,
    *,
    meta_learning_rate: ArrayLike = 1e-3,
    max_rate: ArrayLike = 0.1,
    min_learning_rate: ArrayLike = 1e-10,
    decay: ArrayLike = 0.999,
    discount: ArrayLike = 0.0,
    trace_decay: ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Learns a step size for each feature of a linear model, with bounded updates.

    The gradient of the prediction must be the features: the derivative of the parameters by the
    step sizes is exact for linear models only.

    Args:
      learning_rate: the initial step size of each feature, a number in (0, inf).
      meta_learning_rate: mu, a number in (0, inf).
      max_rate: eta, the largest share of the error that an update removes, in (0, inf); also the
        largest step size.
      min_learning_rate: the smallest step size, a number in (0, inf).
      decay: factor of the step sizes, for features of 1, where the bound acts, in (0, 1].
      discount: gamma, a number in [0, 1]: 0 for supervised learning.
      trace_decay: lambda, a number in [0, 1].

    Returns:
      A transformation. `update(features, state, params, error=error)` takes the gradient of a
      scalar prediction by the parameters, and its error at these parameters: the target minus the
      prediction.

    Raises:
      TypeError: an argument is not a number.
      ValueError: an argument is out of its range; in `update`, `error` is missing or is not a
        scalar.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> tx = jd.streaming.swift_td(learning_rate=1.0, max_rate=0.5)
      >>> w, x = jnp.zeros(2), jnp.array([1.0, -3.0])
      >>> updates, _ = tx.update(x, tx.init(w), w, error=2.0 - w @ x)
      >>> round(float(updates @ x), 3)  # half of the error
      1.0
    """
    rate = validation.positive_number("learning_rate", learning_rate)
    mu = validation.positive_number("meta_learning_rate", meta_learning_rate)
    eta = validation.positive_number("max_rate", max_rate)
    floor = validation.positive_number("min_learning_rate", min_learning_rate)
    decay = validation.positive_up_to("decay", decay, 1)
    if np.ndim(decay):
        raise ValueError(f"decay must be a number in (0, 1], got {validation.shown(decay)}")
    check_traces(discount, trace_decay)

    def logarithm(x: Any, like: jax.Array) -> jax.Array:
        return jnp.log(containment.number(x, like))

    def init(params: Any) -> SwiftTdState:
        trees = [containment.zeros_like(params) for _ in SwiftTdState._fields[1:]]
        log_rates = jax.tree.map(lambda x: x + logarithm(rate, x), trees.pop())
        return SwiftTdState._make([log_rates, *trees, containment.no_rounds()])

    def step(grads: Any, state: Any, error: jax.Array) -> tuple[Any, Any]:
        features = containment.widened(grads)
        tau = _sum(lambda b, x: jnp.exp(b) * x**2, error, state.log_rates, features)
        overlap = _sum(lambda z, x: z * x, error, state.trace, features)
        # The error that true online TD uses is of the prediction before the last update.
        change = _sum(lambda m, x: m * x, error, state.moves, features)
        limit = containment.number(eta, error)
        capped = tau > limit
        share = jnp.where(capped, limit / jnp.where(capped, tau, 1), 1)
        delta = error + change
        mu_of_error = containment.number(mu, error) * error

        def leaf(f: _Feature) -> _Feature:
            like = f.phi
            share_, overlap_, delta_, change_, meta = (
                x.astype(like.dtype) for x in (share, overlap, delta, change, mu_of_error)
            )
            alpha = share_ * jnp.exp(f.log_rates) * f.phi  # times the feature
            z = f.trace + alpha * (1 - overlap_)
            p = f.meta_trace + f.h_before * f.phi
            z_bar = f.trace_derivative
            z_bar = z_bar + alpha * (1 - overlap_ - z_bar * f.phi)
            h = f.h - f.h_before * f.phi * (z - alpha) - f.h * alpha * f.phi
            last = jnp.where(capped, 0, f.h)
            h, z_bar = jnp.where(capped, 0, h), jnp.where(capped, 0, z_bar)
            beta = f.log_rates
            beta = beta + jnp.where(capped, logarithm(decay, like) * f.phi**2, 0)

            moves = delta_ * z - alpha * change_
            beta = beta + meta / (jnp.exp(beta) + EPSILON) * p
            beta = jnp.minimum(beta, logarithm(eta, like))
            beta = jnp.maximum(beta, logarithm(floor, like))
            h = h + delta_ * z_bar - alpha * change_
            kept = decay_factor(discount, trace_decay, like)
            return _Feature(beta, moves, kept * z, kept * p, kept * z_bar, h, last, f.phi)

        leaves, structure = jax.tree.flatten(features)
        columns = [jax.tree.leaves(tree) for tree in state[:-1]]
        new = [leaf(_Feature(*row)) for row in zip(*columns, leaves, strict=True)]
        trees = [structure.unflatten([f[i] for f in new]) for i in range(len(columns))]
        return trees[1], SwiftTdState._make([*trees, state.skipped])

    return containment.error_learner(init, step)


def _sum(product: Any, like: jax.Array, *trees: Any) -> jax.Array:
    terms = jax.tree.map(lambda *x: jnp.sum(product(*x)).astype(like.dtype), *trees)
    return sum(jax.tree.leaves(terms), jnp.zeros((), like.dtype))
