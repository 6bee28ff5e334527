"""AdaGrad-norm: one step size for all parameters, from the sum of the squared gradient norms.

    w_{t+1} = P(w_t - eta g_t / sqrt(b0^2 + S_t)),    S_t = |g_1|^2 + ... + |g_t|^2

On a convex set of diameter D, with eta = D / sqrt(2) and b0 = 0, the regret is at most
sqrt(2) D sqrt(S_T): no bound on the gradients has to be known. Without a set, any eta and b0 > 0
are allowed, and while |w_t - u| <= R the regret against u is at most
(R^2 / (2 eta) + eta) sqrt(b0^2 + S_T).

Sources: M. Streeter, B. McMahan 2010, arXiv:1002.4862 (on a set); R. Ward, X. Wu, L. Bottou 2018,
arXiv:1806.01811 (without one).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.streaming.learners import containment
from jaxdescent.streaming.learners.gradient_descent import Projection, check_projection, descend


class AdagradNormState(NamedTuple):
    """State of `adagrad_norm`.

    Attributes:
      norm: f[], sqrt(S_t), the norm of all gradients until now.
      skipped: i32[], number of rounds that were not finite.
    """

    norm: jax.Array
    skipped: jax.Array


def adagrad_norm(
    learning_rate: ArrayLike | None = None,
    *,
    diameter: ArrayLike | None = None,
    offset: ArrayLike = 0.0,
    projection: Projection | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent whose step size falls with the norm of all gradients so far.

    Args:
      learning_rate: eta, a number in (0, inf). Give this or `diameter`.
      diameter: D, the largest distance between two points of the set, a number in (0, inf):
        eta is D / sqrt(2).
      offset: b0, a number in [0, inf), in units of the gradient. With 0 the first step has the
        length eta.
      projection: Called as `projection(params)`; returns the nearest point of a convex set. By
        default, all parameters are allowed.

    Returns:
      A transformation. `update(grads, state, params)` takes the gradient of the loss at `params`.

    Raises:
      TypeError: an argument is not a number, or `projection` is not a function.
      ValueError: an argument is out of its range, or both or neither of `learning_rate` and
        `diameter` are given.

    Example:
      >>> import jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.streaming.adagrad_norm(learning_rate=1.0)
      >>> w = jnp.zeros(2)
      >>> updates, state = tx.update(jnp.array([3.0, 4.0]), tx.init(w), w)
      >>> [round(float(x), 4) for x in updates]
      [-0.6, -0.8]
    """
    if (learning_rate is None) == (diameter is None):
        raise ValueError(
            "adagrad_norm needs exactly one of learning_rate and diameter, got learning_rate="
            f"{learning_rate} and diameter={diameter}"
        )
    if diameter is not None:
        eta = validation.positive_number("diameter", diameter) / np.sqrt(2)
    else:
        eta = validation.positive_number("learning_rate", learning_rate)
    validation.check_non_negative("offset", offset)
    check_projection(projection)

    def init(params: Any) -> AdagradNormState:
        return AdagradNormState(
            jnp.zeros((), numerics.widest_float(params)), containment.no_rounds()
        )

    def step(grads: Any, state: Any, params: Any, **extra: Any) -> tuple[Any, Any]:
        del extra
        norm = jnp.hypot(state.norm, numerics.tree_norm(grads).astype(state.norm.dtype))
        divisor = jnp.hypot(norm, containment.number(offset, norm))
        step_size = containment.number(eta, norm) / jnp.where(divisor > 0, divisor, 1)
        return descend(params, grads, step_size, projection), state._replace(norm=norm)

    return containment.gradient_learner(init, step)
