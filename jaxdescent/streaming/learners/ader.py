"""Ader: online gradient descent at many step sizes at once, for comparators that move.

    eta_i = 2^(i-1) (D / G) sqrt(7 / (2 H))     i = 1, ..., N = ceil(log2(1 + 4 H / 7) / 2) + 1
    x_i <- P(x_i - eta_i g)                     expert i
    p_i ~ pi_i exp(-a losses_i)                 pi_i = (N + 1) / (N i (i + 1))
    w   = sum_i p_i x_i                         the parameters

H is the number of rounds, D the diameter of a convex set with the projection P, and G a bound on
the gradients. Experts of large steps follow a fast comparator, experts of small steps a slow one,
and the weights p find out which is needed. With P_T the length of the comparator's path, the
dynamic regret is O(sqrt(T (1 + P_T))), which is optimal; `jd.streaming.regret.ader_bound` has the
constants.

Ader takes the gradient g of each expert at its own point. Ader++ takes one gradient, at w, for all
experts, whose losses are <g, x_i - w>.

The learning rate a of the weights is, in round t,

    "constant"     sqrt(2 / H) / (D G) for Ader++ and sqrt(8 / H) / (D G) for Ader, as published
    "decreasing"   1 / (D G sqrt(t)), as in PyNOL, the authors' library; it has no proof here
    "adaptive"     AdaHedge: 1 / (the regret that mixing has cost so far); no number to choose

If H is unknown, the algorithm begins anew after 1, 3, 7, 15, ... rounds, for H = 2, 4, 8, 16, ...

Sources: L. Zhang, S. Lu, Z.-H. Zhou, NeurIPS 2018, arXiv:1810.10815 (Ader and Ader++);
S. de Rooij, T. van Erven, P. Grunwald, W. Koolen, JMLR 15, 2014, arXiv:1301.0534 (AdaHedge).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.streaming.learners import containment
from jaxdescent.streaming.learners.gradient_descent import Projection, check_projection

MetaRate = Literal["adaptive", "constant", "decreasing"]
MAX_HORIZON = 2**30
EPOCHS = 31  # of unknown horizons: epoch m has 2^m rounds


class AderState(NamedTuple):
    """State of `ader`.

    Attributes:
      center: the initial parameters, the center of the default ball; () with a projection.
      experts: a tree like the parameters with a leading axis of experts, their points.
      losses: f[experts], the sum of the losses of each expert in this epoch.
      mixing: f[], the regret that mixing has cost in this epoch, for the adaptive rate.
      count: i32[], number of rounds until now.
      skipped: i32[], number of rounds that were not finite; they are not in `count`.
    """

    center: Any
    experts: Any
    losses: jax.Array
    mixing: jax.Array
    count: jax.Array
    skipped: jax.Array


def num_experts(horizon: int) -> int:
    """Returns the number of experts for a number of rounds.

    Example:
      >>> num_experts(4000)
      7
    """
    return math.ceil(0.5 * math.log2(1 + 4 * horizon / 7)) + 1


def ader(
    diameter: ArrayLike,
    gradient_bound: ArrayLike,
    *,
    horizon: int | None = None,
    surrogate: bool = True,
    meta_rate: MetaRate = "adaptive",
    projection: Projection | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Follows a moving minimum at an unknown speed: Ader++, or Ader with `surrogate=False`.

    Args:
      diameter: D, of the set of allowed parameters, a number in (0, inf).
      gradient_bound: G, the largest norm of a gradient of all parameters, a number in (0, inf).
      horizon: H, the number of rounds, an integer in [1, 2^30]. None if it is not known, which
        takes 16 experts.
      surrogate: True for Ader++, which needs one gradient per round. False for Ader, which needs
        the gradient of each expert.
      meta_rate: learning rate of the experts' weights, "adaptive", "constant" or "decreasing".
      projection: Called as `projection(params)`; returns the nearest point of a convex set of the
        diameter. By default, the set is the ball of this diameter around the initial parameters.

    Returns:
      A transformation. `update(grads, state, params)` takes the gradient of the loss at `params`,
      and returns the new parameters minus the old. With `surrogate=False` it is
      `update(grads, state, params, value_fn=value_fn)`: `value_fn(params)` is the loss of the
      round, and `grads` are not used. The state has a copy of the parameters for each expert, and
      one for the center of the default ball.

    Raises:
      TypeError: an argument is not a number, or `projection` is not a function.
      ValueError: an argument is out of its range; in `update`, `value_fn` is missing.

    Example:
      A minimum that jumps from 0.5 to -0.5:

      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.ader(diameter=2.0, gradient_bound=2.0)
      >>> def step(carry, target):
      ...     w, state = carry
      ...     updates, state = tx.update(w - target, state, w)  # of (w - target)^2 / 2
      ...     return (optax.apply_updates(w, updates), state), (w - target) ** 2 / 2
      >>> targets = jnp.repeat(jnp.array([0.5, -0.5]), 500)
      >>> w = jnp.zeros(())
      >>> _, losses = jax.lax.scan(step, (w, tx.init(w)), targets)
      >>> bool(jnp.sum(losses) < 5)
      True
    """
    diameter = validation.positive_number("diameter", diameter)
    bound = validation.positive_number("gradient_bound", gradient_bound)
    if horizon is not None:
        horizon = validation.integer_in("horizon", horizon, 1, MAX_HORIZON)
    validation.boolean("surrogate", surrogate)
    if meta_rate not in get_args(MetaRate):
        raise ValueError(
            f"meta_rate must be 'adaptive', 'constant' or 'decreasing', got {meta_rate!r}"
        )
    check_projection(projection)
    epochs = Epochs(horizon)

    def init(params: Any) -> AderState:
        start = jax.tree.map(numerics.wide_copy, params)
        zeros = jnp.zeros(epochs.experts, numerics.widest_float(params))
        return AderState(
            center=() if projection is not None else start,
            experts=jax.tree.map(epochs.repeated, start),
            losses=zeros,
            mixing=zeros[0],
            count=containment.no_rounds(),
            skipped=containment.no_rounds(),
        )

    def log_weights(state: Any, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns f[experts], logarithms of the weights, and the learning rate in use.

        `count` tells the epoch: at its end, `state.count` belongs to the next one.
        """
        losses, log_prior = state.losses, epochs.log_prior(count, state.losses)
        scale = containment.number(diameter, losses) * containment.number(bound, losses)
        if meta_rate == "adaptive":
            rate = 1 / jnp.maximum(state.mixing, jnp.finfo(losses.dtype).tiny ** 0.5)
        elif meta_rate == "constant":
            rounds = epochs.horizon(count).astype(losses.dtype)
            rate = jnp.sqrt((2 if surrogate else 8) / rounds) / scale
        else:  # the losses are already times their learning rates
            rate = jnp.ones_like(scale)
        relative = losses - jnp.min(jnp.where(jnp.isfinite(log_prior), losses, jnp.inf))
        return jax.nn.log_softmax(log_prior - rate * jnp.maximum(relative, 0)), rate

    def step(
        grads: Any, state: Any, params: Any, *, value_fn: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        del extra
        log_p, rate = log_weights(state, state.count)
        played = jax.tree.map(lambda w, x: w.astype(x.dtype), params, state.experts)
        offsets = jax.tree.map(lambda x, w: x - w, state.experts, played)
        if surrogate:
            grads = jax.tree.map(lambda g, x: g.astype(x.dtype)[None], grads, state.experts)
            losses = _products(offsets, grads, rate.dtype)
        else:
            losses, grads = _evaluate(value_fn, state.experts)
            losses = losses.astype(rate.dtype)

        in_epoch = epochs.round(state.count)
        factor = jnp.ones_like(rate)
        if meta_rate == "decreasing":
            scale = containment.number(diameter, rate) * containment.number(bound, rate)
            factor = 1 / (scale * jnp.sqrt(in_epoch.astype(rate.dtype)))
        new = state._replace(
            experts=descend(state, grads),
            losses=state.losses + factor * losses,
            mixing=state.mixing + _mixability_gap(log_p, losses, rate),
            count=containment.next_round(state.count),
        )
        p = jnp.exp(log_weights(new, state.count)[0])
        mixed = jax.tree.map(lambda x: jnp.sum(_column(p, x) * x, axis=0), new.experts)
        new = epochs.begin_anew(new, mixed)
        return jax.tree.map(jnp.subtract, mixed, played), new

    def descend(state: Any, grads: Any) -> Any:
        rates = epochs.step_sizes(state.count, state.losses)
        size = containment.number(diameter, rates) / containment.number(bound, rates)

        def move(x: jax.Array, g: jax.Array) -> jax.Array:
            return x - _column(size * rates, x) * g

        moved = jax.tree.map(move, state.experts, grads)
        if projection is not None:
            return jax.vmap(projection)(moved)
        return jax.vmap(lambda x: _in_ball(x, state.center, diameter))(moved)

    return containment.gradient_learner(init, step)


class Epochs:
    """The grid of experts, for one known horizon or for horizons that double.

    Attributes:
      experts: number of experts that the state holds.
    """

    def __init__(self, horizon: int | None) -> None:
        self._doubling = horizon is None
        horizons = [2**m for m in range(EPOCHS)] if horizon is None else [horizon]
        counts = [num_experts(h) for h in horizons]
        self.experts = max(counts)
        self._horizons = np.array(horizons)
        i = np.arange(1, self.experts + 1)
        self._log_priors = np.full((len(horizons), self.experts), -np.inf)
        for row, n in zip(self._log_priors, counts, strict=True):
            row[:n] = np.log((n + 1) / (n * i[:n] * (i[:n] + 1.0)))
        self._step_sizes = 2.0 ** (i - 1) * np.sqrt(7 / (2 * self._horizons[:, None]))

    def _epoch(self, count: jax.Array) -> Any:
        """Returns the index of the epoch of the round after `count` rounds."""
        if not self._doubling:
            return 0
        return jnp.minimum(31 - jax.lax.clz(containment.next_round(count)), EPOCHS - 1)

    def horizon(self, count: jax.Array) -> jax.Array:
        """Returns i32[], the number of rounds of the epoch."""
        return jnp.asarray(self._horizons, jnp.int32)[self._epoch(count)]

    def round(self, count: jax.Array) -> jax.Array:
        """Returns i32[], the round of the epoch after `count` rounds, from 1 on."""
        following = containment.next_round(count)
        return following - self.horizon(count) + 1 if self._doubling else following

    def log_prior(self, count: jax.Array, like: jax.Array) -> jax.Array:
        """Returns f[experts], the logarithms of the prior weights."""
        return jnp.asarray(self._log_priors, like.dtype)[self._epoch(count)]

    def step_sizes(self, count: jax.Array, like: jax.Array) -> jax.Array:
        """Returns f[experts], the step sizes in units of D / G."""
        return jnp.asarray(self._step_sizes, like.dtype)[self._epoch(count)]

    def repeated(self, leaf: jax.Array) -> jax.Array:
        """Returns a leaf with a leading axis of experts."""
        return jnp.broadcast_to(leaf[None], (self.experts, *leaf.shape))

    def begin_anew(self, state: AderState, mixed: Any) -> AderState:
        """Returns the state in which all experts are at one point, at the end of an epoch."""
        if not self._doubling:
            return state
        fresh = state._replace(
            experts=jax.tree.map(self.repeated, mixed),
            losses=jnp.zeros_like(state.losses),
            mixing=jnp.zeros_like(state.mixing),
        )
        ends = self.round(state.count) == 1
        return optax.tree.where(ends, fresh, state)


def _evaluate(value_fn: Callable[..., Any] | None, experts: Any) -> tuple[Any, Any]:
    if not callable(value_fn):
        raise ValueError(
            "update(grads, state, params, value_fn=value_fn) needs value_fn, the loss of the "
            f"round as a function of the parameters, got {validation.shown(value_fn)}; with "
            "surrogate=True, grads are enough"
        )
    return jax.vmap(jax.value_and_grad(value_fn))(experts)


def _mixability_gap(log_p: jax.Array, losses: jax.Array, rate: jax.Array) -> jax.Array:
    """Returns <p, l> + log(sum_i p_i exp(-a l_i)) / a, which is not negative.

    Where differences of losses are below 1 / a, it is computed as a sum of numbers that are not
    negative, p_i (exp(-y_i) - 1 + y_i), so that nothing cancels. Elsewhere the weights may be too
    small for their dtype, and their logarithms are used.
    """
    used, p = jnp.isfinite(log_p), jnp.exp(log_p)
    # From the smallest first: equal losses have offsets of exactly 0, at any rate.
    offsets = jnp.where(used, losses - jnp.min(jnp.where(used, losses, jnp.inf)), 0)
    small = rate * jnp.max(offsets) < 1
    offsets = jnp.where(used, offsets - jnp.sum(p * offsets), 0)
    y = jnp.where(small, rate * offsets, 0)
    series = y**2 / 2 * (1 - y / 3 * (1 - y / 4 * (1 - y / 5)))
    excess = jnp.where(jnp.abs(y) < 0.05, series, jnp.expm1(-y) + y)
    of_small = jnp.log1p(jnp.sum(p * excess))
    of_large = jax.nn.logsumexp(log_p - jnp.where(small, 0, rate) * offsets)
    return jnp.maximum(jnp.where(small, of_small, of_large) / rate, 0)


def _column(values: jax.Array, like: jax.Array) -> jax.Array:
    """Returns f[experts] in the dtype of a leaf, to be multiplied with it."""
    return values.astype(like.dtype).reshape((-1,) + (1,) * (like.ndim - 1))


def _products(a: Any, b: Any, dtype: Any) -> jax.Array:
    """Returns f[experts], inner products along all axes but the first."""
    leaves = jax.tree.map(
        lambda x, y: jnp.sum((x * y).astype(dtype), axis=tuple(range(1, x.ndim))), a, b
    )
    return sum(jax.tree.leaves(leaves), jnp.zeros((), dtype))


def _in_ball(x: Any, center: Any, diameter: ArrayLike) -> Any:
    offset = jax.tree.map(jnp.subtract, x, center)
    length = numerics.tree_norm(offset)
    radius = containment.number(diameter, length) / 2
    factor = jnp.where(length > radius, radius / jnp.where(length > 0, length, 1), 1)
    return jax.tree.map(
        lambda c, v, x: jnp.where(length > radius, c + factor.astype(v.dtype) * v, x),
        center,
        offset,
        x,
    )
