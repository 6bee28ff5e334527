"""Stability thresholds: the largest sharpness at which an optimizer is stable.

On a quadratic of curvature s, with learning rate eta and momentum b, the optimizer converges while
s is below

    gradient descent    2 / eta
    heavy-ball momentum (2 + 2 b) / eta
    Nesterov momentum   (2 + 2 b) / (eta (1 + 2 b))
    RMSProp             2 / eta                              for P^-1 H
    Adam                (2 + 2 b1) / (eta (1 - b1))          for P^-1 H
    SAM                 |g| / (2 rho) (sqrt(1 + 8 rho / (eta |g|)) - 1)

P is the divisor of the update: sqrt(nu + eps) or sqrt(nu) + eps for RMSProp, and
(1 - b1^t) (sqrt(nu_hat) + eps) for Adam, as in optax. The threshold of SAM depends on the norm of
the gradient g before its ascent of length rho.

Sources: J. Cohen et al. 2021, arXiv:2103.00065 (momentum) and 2022, arXiv:2207.14484 (adaptive
methods); P. Long and P. Bartlett 2023, arXiv:2309.12488 (SAM).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxdescent import numerics, validation


class FromState(NamedTuple):
    """A learning rate that is read from the optimizer's state.

    Attributes:
      read: called as `read(state)` with the state that an update returns; returns the learning
        rate that this update used.
    """

    read: Callable[[Any], ArrayLike]


LearningRate = ArrayLike | optax.Schedule | FromState | None


class Threshold(NamedTuple):
    """The stability threshold of an optimizer, as pure functions; you can make your own.

    Pass the state that an update returns, because P belongs to the step just taken.

    Attributes:
      learning_rate: called as `learning_rate(state, count)`; returns the learning rate of the
        last update, where `count` is the number of updates before it.
      preconditioner: called as `preconditioner(state)`; returns P, a positive pytree like the
        parameters. None if the optimizer has no preconditioner.
      max_sharpness: called as `max_sharpness(learning_rate, grads)`; returns the largest stable
        sharpness, of P^-1 H if there is a P.
      max_learning_rate: its inverse, called as `max_learning_rate(sharpness, grads)`.
    """

    learning_rate: Callable[[Any, jax.Array], jax.Array]
    preconditioner: Callable[[Any], Any] | None
    max_sharpness: Callable[[ArrayLike, Any], jax.Array]
    max_learning_rate: Callable[[ArrayLike, Any], jax.Array]


def sgd(
    learning_rate: LearningRate = None,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
) -> Threshold:
    """Threshold of `optax.sgd(learning_rate, momentum, nesterov)`.

    Args:
      learning_rate: the optimizer's learning rate: a number, an array or an optax schedule. With
        None it is read from the state of `optax.inject_hyperparams`; with `FromState(read)`, by a
        function of your own.
      momentum: b, in [0, 1), or None.
      nesterov: True for Nesterov momentum. Without momentum it has no effect, as in optax.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> import jaxdescent as jd
      >>> threshold = jd.thresholds.sgd(0.1)
      >>> float(threshold.max_sharpness(0.1, None))
      20.0
      >>> round(float(threshold.max_learning_rate(20.0, None)), 6)
      0.1
      >>> momentum = jd.thresholds.sgd(0.1, 0.9), jd.thresholds.sgd(0.1, 0.9, nesterov=True)
      >>> [round(float(threshold.max_sharpness(0.1, None)), 4) for threshold in momentum]
      [38.0, 13.5714]
      >>> def read(state):  # the learning rate of a tower
      ...     return jd.get_hyperparams(state)[0]["learning_rate"]
      >>> threshold = jd.thresholds.sgd(jd.thresholds.FromState(read))
    """
    return _over_learning_rate(_momentum_factor(momentum, nesterov), learning_rate)


def rmsprop(
    learning_rate: LearningRate = None,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    *,
    eps_in_sqrt: bool = True,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
) -> Threshold:
    """Threshold of `optax.rmsprop` with these arguments, not centered, or `optax.scale_by_rms`.

    Whether the second moment is corrected for its bias is found in the state.

    Args:
      learning_rate: as for `sgd`.
      decay: in [0, 1).
      eps: in (0, inf): P must be positive where the gradient was always 0.
      eps_in_sqrt: True if P is sqrt(nu + eps) rather than sqrt(nu) + eps.
      momentum: in [0, 1), or None.
      nesterov: True for Nesterov momentum.

    Raises:
      ValueError: an argument is out of its range; at update, if the state has no such moment.
    """
    validation.half_open_interval("decay", decay, 0.0, 1.0)
    validation.positive("eps", eps)
    factor = _momentum_factor(momentum, nesterov)

    def preconditioner(state: Any) -> Any:
        rms = _only(state, _is_rms, "optax.scale_by_rms")

        def divisor(nu: jax.Array) -> jax.Array:
            nu = _wide(nu)
            if "count" in rms._fields:
                nu = nu / _debias(decay, rms.count, nu.dtype)
            return jnp.sqrt(nu + eps) if eps_in_sqrt else jnp.sqrt(nu) + eps

        return jax.tree.map(divisor, rms.nu)

    return _over_learning_rate(factor, learning_rate)._replace(preconditioner=preconditioner)


def adam(
    learning_rate: LearningRate = None,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
) -> Threshold:
    """Threshold of `optax.adam` with these arguments, or a chain with one `optax.scale_by_adam`.

    Do not use it for `optax.nadam`, `radam`, `yogi`, `adamax`, `contrib.adopt` and their variants:
    their states have the type of Adam's, so the result would be wrong without an error.
    Optimizers with a state of their own, such as `amsgrad`, raise.

    Args:
      learning_rate: as for `sgd`.
      b1: in [0, 1).
      b2: in [0, 1).
      eps: in (0, inf): P must be positive where the gradient was always 0.
      eps_root: in [0, inf).

    Raises:
      ValueError: an argument is out of its range; at update, if the state has no such moments.

    Example:
      >>> round(float(adam(1e-4).max_sharpness(1e-4, None)))
      380000
    """
    validation.half_open_interval("b1", b1, 0.0, 1.0)
    validation.half_open_interval("b2", b2, 0.0, 1.0)
    validation.positive("eps", eps)
    validation.half_open_interval("eps_root", eps_root, 0.0, np.inf)

    def preconditioner(state: Any) -> Any:
        adam = _only(state, _is_adam, "optax.scale_by_adam")

        def divisor(nu: jax.Array) -> jax.Array:
            nu = _wide(nu)
            first, second = (_debias(b, adam.count, nu.dtype) for b in (b1, b2))
            return first * (jnp.sqrt(nu / second + eps_root) + eps)

        return jax.tree.map(divisor, adam.nu)

    factor = (2 + 2 * b1) / (1 - b1)
    return _over_learning_rate(factor, learning_rate)._replace(preconditioner=preconditioner)


def sam(learning_rate: LearningRate = None, rho: ArrayLike = 0.05) -> Threshold:
    """Threshold of sharpness-aware minimization: descent along the gradient at x + rho g / |g|.

    In optax, `contrib.sam(sgd(learning_rate), chain(contrib.normalize(), sgd(rho)))` in its
    opaque mode: the gradients passed to `update` must be those at x.

    Args:
      learning_rate: as for `sgd`.
      rho: length of the ascent, in [0, inf).

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(sam(0.1, 0.05).max_sharpness(0.1, jnp.array([0.6, 0.8]))), 4)
      12.3607
    """
    validation.half_open_interval("rho", rho, 0.0, np.inf)

    def max_sharpness(learning_rate: ArrayLike, grads: Any) -> jax.Array:
        # In this form nothing cancels where rho is small.
        root = jnp.sqrt(1 + 8 * rho / (learning_rate * _norm(grads)))
        return jnp.asarray(4 / learning_rate) / (1 + root)

    def max_learning_rate(sharpness: ArrayLike, grads: Any) -> jax.Array:
        return 2 / (jnp.asarray(sharpness) * (1 + rho * sharpness / _norm(grads)))

    return sgd(learning_rate)._replace(
        max_sharpness=max_sharpness, max_learning_rate=max_learning_rate
    )


def _over_learning_rate(factor: ArrayLike, learning_rate: LearningRate) -> Threshold:
    """Returns the threshold factor / learning rate."""
    if not (
        learning_rate is None or isinstance(learning_rate, FromState) or callable(learning_rate)
    ):
        validation.positive("learning_rate", learning_rate)

    def read(state: Any, count: jax.Array) -> jax.Array:
        rate: Any = learning_rate
        if learning_rate is None:
            rate = _injected(state)
        elif isinstance(learning_rate, FromState):
            rate = learning_rate.read(state)
        elif callable(learning_rate):
            rate = learning_rate(count)
        rate = jnp.asarray(rate)
        if not jnp.issubdtype(rate.dtype, jnp.floating):
            rate = rate.astype(jnp.result_type(float))
        return _wide(rate)

    def divide(number: ArrayLike, _: Any) -> jax.Array:
        return jnp.asarray(factor / number)

    return Threshold(read, None, max_sharpness=divide, max_learning_rate=divide)


def _momentum_factor(momentum: ArrayLike | None, nesterov: bool) -> ArrayLike:
    """Returns the threshold times the learning rate."""
    nesterov = validation.boolean("nesterov", nesterov)
    if momentum is None:
        return 2.0
    validation.half_open_interval("momentum", momentum, 0.0, 1.0)
    heavy_ball = 2 + 2 * momentum
    return heavy_ball / (1 + 2 * momentum) if nesterov else heavy_ball


def _injected(state: Any) -> ArrayLike:
    """Returns the learning rate in the only `optax.inject_hyperparams` state that has one."""
    found = _find(state, lambda node: "learning_rate" in getattr(node, "hyperparams", {}))
    if len(found) != 1:
        raise ValueError(
            "a threshold without learning_rate reads it from the state of "
            f"optax.inject_hyperparams, which must occur once, got {len(found)} of them; pass the "
            "optimizer's learning_rate to the threshold"
        )
    return found[0].hyperparams["learning_rate"]


def _is_adam(node: Any) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


def _is_rms(node: Any) -> bool:
    # Optax does not export the state of the bias-corrected form, which has a count.
    fields = getattr(node, "_fields", ())
    return isinstance(node, optax.ScaleByRmsState) or fields == ("count", "nu")


def _only(state: Any, predicate: Callable[[Any], bool], name: str) -> Any:
    found = _find(state, predicate)
    if len(found) != 1:
        raise ValueError(f"the optimizer's state must hold one state of {name}, got {len(found)}")
    return found[0]


def _find(state: Any, predicate: Callable[[Any], bool]) -> list[Any]:
    return [node for node in jax.tree.leaves(state, is_leaf=predicate) if predicate(node)]


def _debias(decay: ArrayLike, count: jax.Array, dtype: Any) -> jax.Array:
    # Before the first step there is no moment to correct.
    return 1 - jnp.asarray(decay, dtype) ** jnp.maximum(count, 1).astype(dtype)


def _wide(x: jax.Array) -> jax.Array:
    """Casts to at least float32: in 16 bits P would lose its eps and a threshold overflow."""
    return x.astype(numerics.at_least_float32(x.dtype))


def _norm(grads: Any) -> jax.Array:
    if not jax.tree.leaves(grads):
        raise ValueError("grads must be given: the threshold of SAM depends on their norm")
    return numerics.tree_norm(grads)
