"""Regret of a learner: its losses minus the losses of a comparator, and theorems that bound it.

    static     R_T(u)   = sum_t f_t(w_t) - f_t(u)        against one point, such as the best one
    dynamic    R_T(u_t) = sum_t f_t(w_t) - f_t(u_t)      against a sequence, such as the best points
    P_T        = sum_{t>1} |u_t - u_{t-1}|               the length of the sequence's path

w_t are the parameters before round t's update. The best comparators in a ball have closed forms for
linear and for quadratic losses:

    comparators = jd.streaming.regret.quadratic_comparators(targets, radius=1.0)
    jd.streaming.regret.static_regret(loss_fn, points, targets, comparators.fixed)
    jd.streaming.regret.dynamic_regret(loss_fn, points, targets, comparators.moving)

    online_gradient_descent_bound, dynamic_gradient_descent_bound, adagrad_norm_bound,
    ftrl_proximal_bound, coin_betting_bound, ader_bound

hold for every sequence of convex losses whose gradients are within the given bound. Each can be
given the sums up to every round as arrays, and returns an array.

Sources: the modules of the learners.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.streaming.learners.ader import EPOCHS

__all__ = [
    "Comparators",
    "adagrad_norm_bound",
    "ader_bound",
    "coin_betting_bound",
    "dynamic_gradient_descent_bound",
    "dynamic_regret",
    "ftrl_proximal_bound",
    "linear_comparators",
    "online_gradient_descent_bound",
    "path_length",
    "quadratic_comparators",
    "static_regret",
]


def __dir__() -> list[str]:
    return __all__


class Comparators(NamedTuple):
    """The best points of a ball in hindsight.

    Attributes:
      fixed: f[d], the point with the least sum of losses.
      moving: f[rounds, d], the point with the least loss of each round.
    """

    fixed: jax.Array
    moving: jax.Array


def linear_comparators(grads: ArrayLike, radius: ArrayLike, center: ArrayLike = 0.0) -> Comparators:
    """Returns the best points of a ball for the losses <g_t, w>.

    Args:
      grads: f[rounds, d], the gradients g_t.
      radius: of the ball, a number in (0, inf).
      center: of the ball, f[d] or a number.

    Raises:
      TypeError: an argument is not a number.
      ValueError: `grads` has another rank, or `radius` is out of its range.

    Example:
      >>> import jaxdescent as jd
      >>> jd.streaming.regret.linear_comparators([[3.0, 0.0], [0.0, 4.0]], radius=5.0).fixed
      Array([-3., -4.], dtype=float32)
    """
    grads = _rounds_of_points("grads", grads)
    radius = validation.positive_number("radius", radius)

    def lowest(g: jax.Array) -> jax.Array:
        length = numerics.norm(g, -1, keepdims=True)
        return jnp.asarray(center - radius * g / jnp.where(length > 0, length, 1))

    return Comparators(lowest(jnp.sum(grads, 0)), lowest(grads))


def quadratic_comparators(
    targets: ArrayLike, radius: ArrayLike, center: ArrayLike = 0.0
) -> Comparators:
    """Returns the best points of a ball for the losses |w - c_t|^2 / 2.

    Args:
      targets: f[rounds, d], the minima c_t, inside of the ball or not.
      radius: of the ball, a number in (0, inf].
      center: of the ball, f[d] or a number.

    Raises:
      TypeError: an argument is not a number.
      ValueError: `targets` has another rank, or `radius` is out of its range.

    Example:
      >>> import jaxdescent as jd
      >>> found = jd.streaming.regret.quadratic_comparators([[2.0, 0.0], [0.0, 1.0]], radius=1.0)
      >>> found.moving.tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    targets = _rounds_of_points("targets", targets)
    radius = validation.positive_number("radius", radius, infinite=True)

    def nearest(c: jax.Array) -> jax.Array:
        offset = c - center
        length = numerics.norm(offset, -1, keepdims=True)
        inside = length <= radius
        return jnp.where(inside, c, center + radius * offset / jnp.where(inside, 1, length))

    return Comparators(nearest(jnp.mean(targets, 0)), nearest(targets))


def _rounds_of_points(name: str, value: Any) -> jax.Array:
    array = value if isinstance(value, jax.core.Tracer) else validation.finite_array(name, value)
    if array.ndim != 2:
        raise ValueError(f"{name} must have the shape [rounds, d], got {array.shape}")
    return jnp.asarray(array, float)


def static_regret(
    loss_fn: Callable[..., Any], points: Any, data: Any, comparator: Any
) -> jax.Array:
    """Returns the regret after each round against one point.

    Args:
      loss_fn: Called as `loss_fn(params, datum)`; returns the loss of a round, a scalar.
      points: the parameters before each round's update, with a leading axis of rounds.
      data: of the rounds, with a leading axis of rounds.
      comparator: a tree like the parameters, such as the point with the least sum of losses.

    Returns:
      f[rounds], the sum of the differences up to each round.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> def loss_fn(w, target):
      ...     return (w - target) ** 2
      >>> points, targets = jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0])
      >>> jd.streaming.regret.static_regret(loss_fn, points, targets, jnp.array(2.0)).tolist()
      [0.0, 3.0]
    """
    losses = _losses(loss_fn, points, data)
    return _summed(losses - jax.vmap(loss_fn, (None, 0))(comparator, data))


def dynamic_regret(
    loss_fn: Callable[..., Any], points: Any, data: Any, comparators: Any
) -> jax.Array:
    """Returns the regret after each round against a sequence of points.

    Args:
      loss_fn: Called as `loss_fn(params, datum)`; returns the loss of a round, a scalar.
      points: the parameters before each round's update, with a leading axis of rounds.
      data: of the rounds, with a leading axis of rounds.
      comparators: a tree like `points`.

    Returns:
      f[rounds], the sum of the differences up to each round.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> def loss_fn(w, target):
      ...     return (w - target) ** 2
      >>> points, targets = jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0])
      >>> jd.streaming.regret.dynamic_regret(loss_fn, points, targets, targets).tolist()
      [1.0, 5.0]
    """
    validation.shaped_like("comparators", comparators, points, "points")
    return _summed(_losses(loss_fn, points, data) - _losses(loss_fn, comparators, data))


def _losses(loss_fn: Callable[..., Any], points: Any, data: Any) -> jax.Array:
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function, got {validation.shown(loss_fn)}")
    rounds = {np.shape(leaf)[:1] for leaf in jax.tree.leaves((points, data))}
    if len(rounds) > 1 or () in rounds:
        raise ValueError(
            f"points and data must have the same leading axis of rounds, got axes {sorted(rounds)}"
        )
    losses = jax.vmap(loss_fn)(points, data)
    validation.check_scalar("loss_fn", jax.ShapeDtypeStruct(losses.shape[1:], losses.dtype))
    return losses


def _summed(differences: jax.Array) -> jax.Array:
    return jnp.cumsum(differences.astype(numerics.at_least_float32(differences.dtype)))


def path_length(comparators: Any) -> jax.Array:
    """Returns f[], the length P_T of the path of a sequence, a tree with an axis of rounds.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> float(jd.streaming.regret.path_length(jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])))
      5.0
    """
    steps = jax.tree.map(lambda u: jnp.asarray(u)[1:] - jnp.asarray(u)[:-1], comparators)
    return jnp.sum(jax.vmap(numerics.tree_norm)(steps))


def online_gradient_descent_bound(
    num_rounds: ArrayLike,
    diameter: ArrayLike | None = None,
    gradient_bound: ArrayLike = 1.0,
    *,
    horizon: ArrayLike | None = None,
    strong_convexity: ArrayLike | None = None,
) -> np.ndarray:
    """Returns the bound on the static regret of `online_gradient_descent` with these arguments.

    Args:
      num_rounds: T, numbers of at least 1.
      diameter: D. Not used for strongly convex losses.
      gradient_bound: G.
      horizon: the number of rounds that the learner was given; with it, the step size is constant.
      strong_convexity: mu of the losses.

    Example:
      >>> import jaxdescent as jd
      >>> bound = jd.streaming.regret.online_gradient_descent_bound
      >>> float(bound(100, 2.0, 1.0)), float(bound(100, 2.0, 1.0, horizon=100))
      (30.0, 20.0)
    """
    rounds, bound = _rounds(num_rounds), validation.positive("gradient_bound", gradient_bound)
    if strong_convexity is not None:
        mu = validation.positive("strong_convexity", strong_convexity)
        return bound**2 / (2 * mu) * (1 + np.log(rounds))
    product = validation.positive("diameter", diameter) * bound
    if horizon is None:
        return 1.5 * product * np.sqrt(rounds)
    root = np.sqrt(validation.positive("horizon", horizon))
    return product / 2 * (root + rounds / root)


def dynamic_gradient_descent_bound(
    num_rounds: ArrayLike,
    diameter: ArrayLike,
    gradient_bound: ArrayLike,
    path_length: ArrayLike,
    *,
    step_size: ArrayLike,
) -> np.ndarray:
    """Returns the bound on the dynamic regret of gradient descent with a constant step size.

    It is 7 D^2 / (4 eta) + D P_T / eta + eta T G^2 / 2: the step size D / (G sqrt(T)) makes it
    O(sqrt(T) (1 + P_T)).

    Args:
      num_rounds: T, numbers of at least 1.
      diameter: D.
      gradient_bound: G.
      path_length: P_T of the comparators.
      step_size: eta.

    Example:
      >>> import jaxdescent as jd
      >>> bound = jd.streaming.regret.dynamic_gradient_descent_bound
      >>> float(bound(100, 2.0, 1.0, 0.0, step_size=0.1))
      75.0
    """
    rounds, diameter = _rounds(num_rounds), validation.positive("diameter", diameter)
    bound = validation.positive("gradient_bound", gradient_bound)
    eta, path = (
        validation.positive("step_size", step_size),
        _non_negative("path_length", path_length),
    )
    return (7 / 4 * diameter**2 + diameter * path) / eta + eta * rounds * bound**2 / 2


def adagrad_norm_bound(
    sum_of_squares: ArrayLike,
    *,
    diameter: ArrayLike,
    learning_rate: ArrayLike | None = None,
    offset: ArrayLike = 0.0,
) -> np.ndarray:
    """Returns the bound on the static regret of `adagrad_norm` with these arguments.

    Args:
      sum_of_squares: S_T, the sum of the squared norms of the gradients.
      diameter: D of the set; without one, the largest distance of the parameters from the
        comparator.
      learning_rate: eta, if it was given instead of `diameter`.
      offset: b0.

    Example:
      >>> import jaxdescent as jd
      >>> round(float(jd.streaming.regret.adagrad_norm_bound(8.0, diameter=1.0)), 6)
      4.0
    """
    sums = _non_negative("sum_of_squares", sum_of_squares)
    diameter = validation.positive("diameter", diameter)
    eta = diameter / np.sqrt(2)
    if learning_rate is not None:
        eta = validation.positive("learning_rate", learning_rate)
    root = np.sqrt(_non_negative("offset", offset) ** 2 + sums)
    return (diameter**2 / (2 * eta) + eta) * root


def ftrl_proximal_bound(
    sums_of_squares: ArrayLike,
    distances: ArrayLike,
    *,
    learning_rate: ArrayLike = 0.05,
    beta: ArrayLike = 1.0,
    l1: ArrayLike = 0.0,
    l2: ArrayLike = 0.0,
    comparator: ArrayLike = 0.0,
) -> np.ndarray:
    """Returns the bound on the static regret of `ftrl_proximal` that starts from 0.

    It is sum_i R_i^2 (beta + sqrt(n_i)) / (2 alpha) + alpha sqrt(n_i) + l1 |u_i| + l2 u_i^2 / 2.

    Args:
      sums_of_squares: n, f[..., d], the sums of the squared partial derivatives.
      distances: R, f[..., d], the largest distances of the parameters from the comparator, the
        initial 0 included.
      learning_rate: alpha of the learner.
      beta: of the learner.
      l1: of the learner.
      l2: of the learner.
      comparator: u, f[d]; it matters with penalties only.

    Example:
      >>> import jaxdescent as jd
      >>> bound = jd.streaming.regret.ftrl_proximal_bound
      >>> float(bound([4.0, 0.0], [1.0, 0.0], learning_rate=0.5))
      4.0
    """
    alpha = validation.positive("learning_rate", learning_rate)
    root = np.sqrt(_non_negative("sums_of_squares", sums_of_squares))
    lengths = _non_negative("distances", distances)
    u = validation.finite_array("comparator", comparator)
    penalty = _non_negative("l1", l1) * np.abs(u) + _non_negative("l2", l2) * u**2 / 2
    terms = lengths**2 * (validation.positive("beta", beta) + root) / (2 * alpha) + alpha * root
    return np.sum(terms + penalty, axis=-1)


def coin_betting_bound(
    num_rounds: ArrayLike,
    distances: ArrayLike,
    *,
    gradient_bound: ArrayLike = 1.0,
    initial_wealth: ArrayLike = 1.0,
) -> np.ndarray:
    """Returns the bound on the static regret of `coin_betting`.

    Args:
      num_rounds: T, numbers of at least 1.
      distances: f[d], the distances of the comparator from the initial parameters.
      gradient_bound: L, the largest absolute value of a partial derivative.
      initial_wealth: epsilon.

    Example:
      >>> import jaxdescent as jd
      >>> float(jd.streaming.regret.coin_betting_bound(100, [0.0]))
      1.0
    """
    rounds, u = _rounds(num_rounds)[..., None], validation.finite_array("distances", distances)
    wealth = validation.positive("initial_wealth", initial_wealth)
    logarithm = np.log1p(24 * (rounds * u / wealth) ** 2)
    terms = np.abs(u) * np.sqrt(rounds * logarithm) + wealth
    return validation.positive("gradient_bound", gradient_bound) * np.sum(terms, axis=-1)


def ader_bound(
    num_rounds: int,
    diameter: ArrayLike,
    gradient_bound: ArrayLike,
    path_length: ArrayLike,
    *,
    horizon: int | None = None,
    surrogate: bool = True,
    meta_rate: Literal["adaptive", "constant"] = "adaptive",
) -> float:
    """Returns the bound on the dynamic regret of `ader` with these arguments.

    For a known horizon H, with k = floor(log2(1 + 4 P_T / (7 D)) / 2) + 1, it is

        3/4 G sqrt(2 H (7 D^2 + 4 D P_T)) + c D G sqrt(H) (1 + 2 log(k + 1))

    where c is 1 / sqrt(2) for Ader++ and 1 / sqrt(8) for Ader at the constant rate, and
    sqrt(5) / 2 at the adaptive rate. For an unknown horizon it is the sum over the epochs.

    Args:
      num_rounds: T, an integer of at least 1, and at most the horizon.
      diameter: D.
      gradient_bound: G.
      path_length: P_T of the comparators.
      horizon: the number of rounds that the learner was given.
      surrogate: True for Ader++.
      meta_rate: "adaptive" or "constant"; the decreasing rate has no proof.

    Example:
      >>> import jaxdescent as jd
      >>> round(jd.streaming.regret.ader_bound(4000, 2.0, 2.0, 0.0, horizon=4000), 1)
      1384.9
    """
    highest = 2**EPOCHS - 1 if horizon is None else horizon
    rounds = validation.integer_in("num_rounds", num_rounds, 1, highest)
    diameter = float(validation.positive_number("diameter", diameter))
    bound = float(validation.positive_number("gradient_bound", gradient_bound))
    path = float(_non_negative("path_length", path_length))
    if meta_rate not in ("adaptive", "constant"):
        raise ValueError(f"meta_rate must be 'adaptive' or 'constant', got {meta_rate!r}")
    factor = np.sqrt(5) / 2 if meta_rate == "adaptive" else np.sqrt(1 / 2 if surrogate else 1 / 8)
    expert = np.floor(0.5 * np.log2(1 + 4 * path / (7 * diameter))) + 1
    experts = 0.75 * bound * np.sqrt(2 * (7 * diameter**2 + 4 * diameter * path))
    mixing = factor * diameter * bound * (1 + 2 * np.log(expert + 1))
    horizons = [horizon] if horizon is not None else [2**m for m in range(rounds.bit_length())]
    return float((experts + mixing) * np.sum(np.sqrt(horizons)))


def _rounds(num_rounds: ArrayLike) -> np.ndarray:
    rounds = validation.finite_array("num_rounds", num_rounds)
    if np.any(rounds < 1):
        raise ValueError(f"num_rounds must be at least 1, got {validation.shown(num_rounds)}")
    return rounds


def _non_negative(name: str, value: Any) -> np.ndarray:
    array = validation.finite_array(name, value)
    if np.any(array < 0):
        raise ValueError(f"{name} must be at least 0, got {validation.shown(value)}")
    return array
