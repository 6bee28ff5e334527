"""The protocol of estimators, which obtain the gradient of a function in another way.

    value, grads = estimator.value_and_grad(function)(params, key=key)

has the form of `jax.value_and_grad(function)(params)`, and one more argument: a random key. The
value is always the function's own value at `params`, and only the gradient is estimated. A loop can
therefore compare values, and track the best one, with any estimator.

What an estimator does is fixed when it is made. Numbers that may change during training, such as a
width sigma, can also be arguments of each call. They may then be arrays that a schedule computes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation


class Estimate(NamedTuple):
    """All that an estimator returns.

    Attributes:
      value: f[], the function's value at the parameters.
      grads: the estimated gradient, a tree like the parameters. NaN if no sample was usable.
      variance: an unbiased estimate of the variance of each entry of `grads`, a tree like the
        parameters. NaN if there are too few samples to estimate it. None if it is not known.
      nonfinite: i32[], number of samples in which a value or a gradient was not finite.
      aux: the second output of the function at the parameters with `has_aux`; otherwise None.
    """

    value: jax.Array
    grads: Any
    variance: Any
    nonfinite: jax.Array
    aux: Any = None


class Estimator(NamedTuple):
    """A way to obtain the gradient of a function, and what it costs.

    Attributes:
      estimate: Called as `estimate(function, params, *args, key=key)`; returns an `Estimate` of the
        gradient of `function(params, *args)` by `params`, which is not compiled by itself. Further
        keywords: `has_aux=True` if the function returns `(value, aux)`; `scale`, a tree like
        `params` with the unit of each coordinate, 1 by default; and those in `hyperparams`.
      evaluations: number of values of the function computed in one call, with or without a
        gradient.
      gradients: number of these values that are computed with a gradient.
      hyperparams: names of keywords of `estimate` that are numbers, and that agents may have as
        hyperparameters of their own.
      shots: number of measurements in one call, for functions whose values are means of
        measurements, such as the values of a quantum circuit; otherwise 0.

    Example:
      An estimator of your own, by forward differences along one random direction:

      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> def estimate(function, params, *args, key, step=1e-3, has_aux=False, scale=None):
      ...     direction = jax.random.normal(key, params.shape)
      ...     value = function(params, *args)
      ...     slope = (function(params + step * direction, *args) - value) / step
      ...     return jd.estimators.Estimate(value, slope * direction, None, jnp.int32(0))
      >>> forward = jd.estimators.Estimator(estimate, evaluations=2, hyperparams=("step",))
      >>> value, grads = forward.value_and_grad(jnp.sum)(jnp.ones(3), key=jax.random.key(0))
      >>> float(value), grads.shape
      (3.0, (3,))
    """

    estimate: Callable[..., Estimate]
    evaluations: int
    gradients: int = 0
    hyperparams: tuple[str, ...] = ()
    shots: int = 0

    def value_and_grad(
        self, function: Callable[..., Any], *, has_aux: bool = False
    ) -> Callable[..., Any]:
        """Returns a function that replaces `jax.value_and_grad(function, has_aux=has_aux)`.

        It is called with the parameters, further arguments of `function`, and the keywords of
        `estimate`, such as `key`.
        """
        if not callable(function):
            raise TypeError(f"function must be callable, got {validation.shown(function)}")

        def value_and_grad(params: Any, *args: Any, **keywords: Any) -> tuple[Any, Any]:
            found = self.estimate(function, params, *args, has_aux=has_aux, **keywords)
            value = (found.value, found.aux) if has_aux else found.value
            return value, found.grads

        return value_and_grad


def exact() -> Estimator:
    """Returns the estimator that differentiates the function; it needs no key.

    Use it to compare estimators with the gradient in the same program.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> value, grads = jd.estimators.exact().value_and_grad(jnp.sum)(jnp.ones(2))
      >>> float(value), grads.tolist()
      (2.0, [1.0, 1.0])
    """
    return EXACT


def _differentiate(
    function: Callable[..., Any],
    params: Any,
    *args: Any,
    key: Any = None,
    scale: Any = None,
    has_aux: bool = False,
) -> Estimate:
    del key, scale
    value, grads = jax.value_and_grad(function, has_aux=has_aux)(params, *args)
    value, aux = value if has_aux else (value, None)
    zeros = jax.tree.map(jnp.zeros_like, grads)
    return Estimate(value, grads, zeros, jnp.zeros((), jnp.int32), aux)


def value_only() -> Estimator:
    """Returns the estimator that computes the value alone; its gradient is 0.

    Use it with rules that move agents by their values, such as `jd.evolution.cma_es`, where the
    gradient would be computed for nothing or does not exist.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> value, grads = jd.estimators.value_only().value_and_grad(jnp.sum)(jnp.ones(2))
      >>> float(value), grads.tolist()
      (2.0, [0.0, 0.0])
    """
    return VALUE_ONLY


def _evaluate(
    function: Callable[..., Any],
    params: Any,
    *args: Any,
    key: Any = None,
    scale: Any = None,
    has_aux: bool = False,
) -> Estimate:
    del key, scale
    value = function(params, *args)
    value, aux = value if has_aux else (value, None)
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Estimate(value, zeros, zeros, jnp.zeros((), jnp.int32), aux)


EXACT = Estimator(_differentiate, evaluations=1, gradients=1)
VALUE_ONLY = Estimator(_evaluate, evaluations=1)


def check_estimator(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is an `Estimator`."""
    if isinstance(value, Estimator):
        return
    hint = ""
    if callable(value):
        hint = "; call it first, as in jd.estimators.smoothed(0.1), and do not give it the function"
    raise TypeError(
        f"{name} must be a jd.estimators.Estimator, got {validation.shown(value)}{hint}"
    )
