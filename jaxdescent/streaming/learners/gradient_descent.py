"""Online gradient descent with the step sizes of its regret bounds.

    w_{t+1} = P(w_t - eta_t g_t),    t = 1, 2, ...

P is the projection onto a convex set, g_t the gradient of the loss of round t at w_t. With D the
diameter of the set and G a bound on |g_t|, the regret after T rounds is at most

    eta_t = D / (G sqrt(t))      3/2 D G sqrt(T)
    eta_t = D / (G sqrt(H))      D G (sqrt(H) + T / sqrt(H)) / 2, which is D G sqrt(T) at T = H
    eta_t = 1 / (mu t)           G^2 / (2 mu) (1 + log T), for losses that are mu-strongly convex

Sources: M. Zinkevich, ICML 2003; E. Hazan, A. Agarwal, S. Kale, Machine Learning 69, 2007 (strongly
convex losses); E. Hazan, "Introduction to Online Convex Optimization", arXiv:1909.05207, theorem
3.1 (the constant 3/2).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.streaming.learners import containment

Projection = Callable[[Any], Any]


class OnlineGradientDescentState(NamedTuple):
    """State of `online_gradient_descent`.

    Attributes:
      count: i32[], number of rounds until now.
      skipped: i32[], number of rounds that were not finite; they are not in `count`.
    """

    count: jax.Array
    skipped: jax.Array


def online_gradient_descent(
    diameter: ArrayLike | None = None,
    gradient_bound: ArrayLike | None = None,
    *,
    horizon: ArrayLike | None = None,
    strong_convexity: ArrayLike | None = None,
    projection: Projection | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent with the step size of its regret bound.

    Give `diameter` and `gradient_bound`, and `horizon` if the number of rounds is known; or give
    `strong_convexity` alone.

    Args:
      diameter: D, the largest distance between two points of the set, a number in (0, inf).
        Without a projection, the largest distance of the parameters from the comparator.
      gradient_bound: G, the largest norm of a gradient of all parameters, a number in (0, inf).
      horizon: H, the number of rounds, a number in (0, inf). By default it is not known, and the
        step size decreases like 1 / sqrt(t).
      strong_convexity: mu, a number in (0, inf): the step size is 1 / (mu t).
      projection: Called as `projection(params)`; returns the nearest point of a convex set. For
        example `functools.partial(optax.projections.projection_l2_ball, scale=radius)` or
        `functools.partial(optax.projections.projection_box, lower=-1.0, upper=1.0)`. By default,
        all parameters are allowed.

    Returns:
      A transformation. `update(grads, state, params)` takes the gradient of the loss at `params`.

    Raises:
      TypeError: an argument is not a number, or `projection` is not a function.
      ValueError: an argument is out of its range; or both or neither of the two ways to choose
        the step size are given.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.online_gradient_descent(diameter=2.0, gradient_bound=1.0)
      >>> w = jnp.zeros(1)
      >>> state = tx.init(w)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.array([0.5]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> [round(float(x), 4) for x in w]  # -2 / sqrt(1) / 2 - 2 / sqrt(2) / 2
      [-1.7071]
    """
    if strong_convexity is not None:
        given = [diameter, gradient_bound, horizon]
        if any(x is not None for x in given):
            raise ValueError(
                "strong_convexity must be given without diameter, gradient_bound and horizon, got "
                f"{given}; leave out one way to choose the step size"
            )
        strong_convexity = validation.positive_number("strong_convexity", strong_convexity)
    else:
        for name, value in (("diameter", diameter), ("gradient_bound", gradient_bound)):
            if value is None:
                raise ValueError(
                    f"{name} must be a number in (0, inf), got None; or give strong_convexity"
                )
        diameter = validation.positive_number("diameter", diameter)
        gradient_bound = validation.positive_number("gradient_bound", gradient_bound)
        if horizon is not None:
            horizon = validation.positive_number("horizon", horizon)
    check_projection(projection)

    def step_size(t: jax.Array) -> jax.Array:
        if strong_convexity is not None:
            return 1 / (containment.number(strong_convexity, t) * t)
        rounds = t if horizon is None else containment.number(horizon, t)
        size = containment.number(diameter, t) / containment.number(gradient_bound, t)
        return size / jnp.sqrt(rounds)

    def init(params: Any) -> OnlineGradientDescentState:
        del params
        return OnlineGradientDescentState(containment.no_rounds(), containment.no_rounds())

    def step(grads: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        del extra
        count = containment.next_round(state.count)
        eta = step_size(count.astype(numerics.widest_float(grads)))
        return descend(params, grads, eta, projection), state._replace(count=count)

    return containment.gradient_learner(init, step)


def descend(params: Any, grads: Any, step_size: jax.Array, projection: Projection | None) -> Any:
    """Returns P(w - eta g) - w, in float32 or wider."""
    moves = jax.tree.map(lambda g: -step_size.astype(g.dtype) * g, containment.widened(grads))
    if projection is None:
        return moves
    wide = jax.tree.map(lambda w, m: w.astype(m.dtype), params, moves)
    projected = projection(jax.tree.map(jnp.add, wide, moves))
    return jax.tree.map(jnp.subtract, projected, wide)


def check_projection(projection: Any) -> None:
    """Raises TypeError unless a projection is a function or None."""
    if projection is not None and not callable(projection):
        raise TypeError(
            f"projection must be a function or None, got {validation.shown(projection)}; see "
            "optax.projections"
        )
