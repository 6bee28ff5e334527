"""FTRL-proximal: per-coordinate step sizes, and weights that are exactly 0 under an l1 penalty.

    sigma = (sqrt(n + g^2) - sqrt(n)) / alpha    z <- z + g - sigma w    n <- n + g^2

    w = 0                                                           where |z| <= l1
    w = -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha + l2)         elsewhere

The parameters are a function of the state: w minimizes the linearized losses so far, plus
l1 |w| + l2 w^2 / 2, plus a quadratic around each earlier w. The initial z is such that the first w
are the initial parameters, at which the published algorithm, which starts from 0, has z = 0.

Source: H. B. McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013, algorithm
1. The regret bound in `jd.streaming.regret` follows H. B. McMahan 2014, arXiv:1403.3465, theorem 2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.streaming.learners import containment


class FtrlProximalState(NamedTuple):
    """State of `ftrl_proximal`.

    Attributes:
      z: a tree like the parameters, the linear terms.
      n: a tree like the parameters, sums of squared gradients.
      skipped: i32[], number of rounds that were not finite.
    """

    z: Any
    n: Any
    skipped: jax.Array


def ftrl_proximal(
    learning_rate: ArrayLike = 0.05,
    *,
    beta: ArrayLike = 1.0,
    l1: ArrayLike = 0.0,
    l2: ArrayLike = 0.0,
    river_compatible: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Follows the regularized leader, with a quadratic around each earlier point.

    Without penalties this is gradient descent with the step size alpha / (beta + sqrt(n)) of each
    coordinate. Biases are usually left out of the penalties: use `optax.partition`.

    Args:
      learning_rate: alpha, a number in (0, inf).
      beta: a number in (0, inf), in units of the gradient: the larger it is, the shorter the first
        steps.
      l1: the penalty that makes weights 0, a number in [0, inf), in units of the gradient.
      l2: the penalty that shrinks them, a number in [0, inf). It is paid once, not every round.
      river_compatible: True to repeat two deviations of `river.optim.FTRLProximal` (0.26): weights
        are one update old when they predict, and a weight with |z| <= l1 keeps its value. River's
        defaults are a learning rate of 0.05 and l2=1.

    Returns:
      A transformation. `update(grads, state, params)` takes the gradient of the loss at `params`,
      and returns the new parameters minus the old.

    Raises:
      TypeError: an argument is not a number.
      ValueError: an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.ftrl_proximal(0.5, l1=1.0)
      >>> w = jnp.zeros(2)
      >>> updates, state = tx.update(jnp.array([3.0, 0.5]), tx.init(w), w)
      >>> [float(x) for x in updates]  # -(3 - 1) / ((1 + 3) / 0.5) and 0
      [-0.25, 0.0]
    """
    alpha = validation.positive_number("learning_rate", learning_rate)
    beta = validation.positive_number("beta", beta)
    validation.check_non_negative("l1", l1)
    validation.check_non_negative("l2", l2)
    validation.boolean("river_compatible", river_compatible)

    def curvature(n: jax.Array) -> jax.Array:
        a, b, c = (containment.number(x, n) for x in (alpha, beta, l2))
        return (b + jnp.sqrt(n)) / a + c

    def weight(z: jax.Array, n: jax.Array) -> jax.Array:
        penalty = containment.number(l1, z)
        return jnp.where(jnp.abs(z) <= penalty, 0, -(z - jnp.sign(z) * penalty) / curvature(n))

    def init(params: Any) -> FtrlProximalState:
        n = containment.zeros_like(params)

        def inverse(w: Any, n: jax.Array) -> jax.Array:
            if river_compatible or isinstance(w, jax.ShapeDtypeStruct):
                return n
            w = jnp.asarray(w, n.dtype)
            return -w * curvature(n) - jnp.sign(w) * containment.number(l1, n)

        return FtrlProximalState(jax.tree.map(inverse, params, n), n, containment.no_rounds())

    def step(grads: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        del extra
        grads = containment.widened(grads)
        weights = jax.tree.map(lambda w, z: w.astype(z.dtype), params, state.z)
        used = weights
        if river_compatible:

            def refreshed(w: jax.Array, z: jax.Array, n: jax.Array) -> jax.Array:
                return jnp.where(jnp.abs(z) <= containment.number(l1, z), w, weight(z, n))

            used = jax.tree.map(refreshed, weights, state.z, state.n)

        def linear(z: jax.Array, n: jax.Array, g: jax.Array, w: jax.Array) -> jax.Array:
            # (sqrt(n + g^2) - sqrt(n)) without cancellation.
            root = jnp.sqrt(n + g**2) + jnp.sqrt(n)
            sigma = g**2 / (jnp.where(root > 0, root, 1) * containment.number(alpha, n))
            return z + g - sigma * w

        z = jax.tree.map(linear, state.z, state.n, grads, used)
        n = jax.tree.map(lambda n, g: n + g**2, state.n, grads)
        new = used if river_compatible else jax.tree.map(weight, z, n)
        return jax.tree.map(jnp.subtract, new, weights), state._replace(z=z, n=n)

    return containment.gradient_learner(init, step)
