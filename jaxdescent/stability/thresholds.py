"""Thresholds: the sharpness that an optimizer can bear.

On a quadratic with eigenvalue s, learning rate eta and momentum b, a step multiplies by less
than 1 while s is below

    gradient descent    2 / eta
    Polyak              (2 + 2 b) / eta
    Nesterov            (2 + 2 b) / (eta (1 + 2 b))
    RMSProp             2 / eta                              of P^-1 H
    Adam                (2 + 2 b1) / (eta (1 - b1))          of P^-1 H
    SAM                 |g| / (2 rho) (sqrt(1 + 8 rho / (eta |g|)) - 1)

P is what the method divides by: sqrt(nu + eps) or sqrt(nu) + eps of RMSProp, and
(1 - b1^t) (sqrt(nu_hat) + eps) of Adam, as optax has them. What SAM bears depends on the norm of
the gradient g, taken before its ascent of length rho.

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

from jaxdescent import validation
from jaxdescent.stability import inputs


class FromState(NamedTuple):
    """A learning rate that is read from the optimizer's state.

    Attributes:
      read: from the state, as the update returns it, to the rate that this update used.
    """

    read: Callable[[Any], ArrayLike]


LearningRate = ArrayLike | optax.Schedule | FromState | None


class Threshold(NamedTuple):
    """What an optimizer can bear, as pure functions; another optimizer's needs no more.

    States are those that an update returns: P belongs to the step that was taken.

    Attributes:
      learning_rate: from (state, count) to the rate that the last update used; count is the
        number of updates before it.
      preconditioner: from a state to P, a positive pytree like the parameters; None if
        there is none.
      bound: from (learning rate, gradients) to the greatest stable sharpness, of P^-1 H if there
        is a P.
      rate: its inverse, from (sharpness, gradients) to the learning rate.
    """

    learning_rate: Callable[[Any, jax.Array], jax.Array]
    preconditioner: Callable[[Any], Any] | None
    bound: Callable[[ArrayLike, Any], jax.Array]
    rate: Callable[[ArrayLike, Any], jax.Array]


def gd(learning_rate: LearningRate = None) -> Threshold:
    """Gradient descent's, 2 / learning_rate: `optax.sgd(learning_rate)`.

    Args:
      learning_rate: as the optimizer has it: a number or array, or an optax schedule. None: it
        is read from the state of `optax.inject_hyperparams`. `FromState(read)`: it is read by
        a function of your own.

    Raises:
      ValueError: the learning rate is a number that is not positive.

    Example:
      >>> import jaxdescent as jd
      >>> threshold = jd.thresholds.gd(0.1)
      >>> float(threshold.bound(0.1, None)), round(float(threshold.rate(20.0, None)), 6)
      (20.0, 0.1)
      >>> of_tower = lambda state: jd.get_hyperparams(state)[0]["learning_rate"]
      >>> threshold = jd.thresholds.gd(jd.thresholds.FromState(of_tower))
    """
    return _over_learning_rate(2.0, learning_rate)


def polyak(learning_rate: LearningRate = None, momentum: ArrayLike = 0.9) -> Threshold:
    """Heavy-ball momentum's: `optax.sgd(learning_rate, momentum)`.

    Args:
      learning_rate: as for `gd`.
      momentum: b, in [0, 1).

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> round(float(polyak(0.1, 0.9).bound(0.1, None)), 4)
      38.0
    """
    return _over_learning_rate(_momentum("momentum", momentum, nesterov=False), learning_rate)


def nesterov(learning_rate: LearningRate = None, momentum: ArrayLike = 0.9) -> Threshold:
    """Nesterov momentum's: `optax.sgd(learning_rate, momentum, nesterov=True)`.

    Args:
      learning_rate: as for `gd`.
      momentum: b, in [0, 1).

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> round(float(nesterov(0.1, 0.9).bound(0.1, None)), 4)
      13.5714
    """
    return _over_learning_rate(_momentum("momentum", momentum, nesterov=True), learning_rate)


def rmsprop(
    learning_rate: LearningRate = None,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    *,
    eps_in_sqrt: bool = True,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
) -> Threshold:
    """RMSProp's: `optax.rmsprop` with these arguments, not centered, or `optax.scale_by_rms`.

    Whether the second moment is corrected for its bias is seen in the state.

    Args:
      learning_rate: as for `gd`.
      decay: in [0, 1).
      eps: in (0, inf): P must be positive where there was no gradient yet.
      eps_in_sqrt: whether P is sqrt(nu + eps) rather than sqrt(nu) + eps.
      momentum: in [0, 1), or none.
      nesterov: whether the momentum is Nesterov's.

    Raises:
      ValueError: an argument is out of its range; later, if there is no such state.
    """
    _check("decay", decay, 0.0, 1.0)
    _check_open("eps", eps)
    factor = 2.0 if momentum is None else _momentum("momentum", momentum, nesterov=nesterov)

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
    """Adam's: `optax.adam` with these arguments, or whatever holds one `optax.scale_by_adam`.

    Not for `optax.nadam`, `radam`, `yogi`, `adamax`, `contrib.adopt` and their variants: their
    state is Adam's by type, so that they cannot be told from it, and what is found would be
    wrong without a word. Those with a state of their own, such as `amsgrad`, are refused.

    Args:
      learning_rate: as for `gd`.
      b1: in [0, 1).
      b2: in [0, 1).
      eps: in (0, inf): P must be positive where there was no gradient yet.
      eps_root: in [0, inf).

    Raises:
      ValueError: an argument is out of its range; later, if there is no such state.

    Example:
      >>> round(float(adam(1e-4).bound(1e-4, None)))
      380000
    """
    _check("b1", b1, 0.0, 1.0)
    _check("b2", b2, 0.0, 1.0)
    _check_open("eps", eps)
    _check("eps_root", eps_root, 0.0, np.inf)

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
    """Sharpness-aware minimization's: descent along the gradient at x + rho g / |g|.

    In optax, `contrib.sam(sgd(learning_rate), chain(contrib.normalize(), sgd(rho)))` in its
    opaque mode: the gradients that `update` is given must be those at x.

    Args:
      learning_rate: as for `gd`.
      rho: length of the ascent, in [0, inf).

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(sam(0.1, 0.05).bound(0.1, jnp.array([0.6, 0.8]))), 4)
      12.3607
    """
    _check("rho", rho, 0.0, np.inf)

    def bound(learning_rate: ArrayLike, grads: Any) -> jax.Array:
        # In this form nothing cancels where rho is small.
        root = jnp.sqrt(1 + 8 * rho / (learning_rate * _norm(grads)))
        return jnp.asarray(4 / learning_rate) / (1 + root)

    def rate(sharpness: ArrayLike, grads: Any) -> jax.Array:
        return 2 / (jnp.asarray(sharpness) * (1 + rho * sharpness / _norm(grads)))

    return gd(learning_rate)._replace(bound=bound, rate=rate)


def _over_learning_rate(factor: ArrayLike, learning_rate: LearningRate) -> Threshold:
    """The threshold factor / learning rate."""
    if not (
        learning_rate is None or isinstance(learning_rate, FromState) or callable(learning_rate)
    ):
        _check_open("learning_rate", learning_rate)

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

    over = lambda number, _: jnp.asarray(factor / number)
    return Threshold(read, None, bound=over, rate=over)


def _momentum(name: str, momentum: ArrayLike, *, nesterov: bool) -> ArrayLike:
    _check(name, momentum, 0.0, 1.0)
    polyak = 2 + 2 * momentum
    return polyak / (1 + 2 * momentum) if nesterov else polyak


def _injected(state: Any) -> ArrayLike:
    """The learning rate in the only state of `optax.inject_hyperparams` that has one."""
    has_rate = lambda node: "learning_rate" in getattr(node, "hyperparams", {})
    found = _all(state, has_rate)
    if len(found) != 1:
        raise ValueError(
            "a threshold without learning_rate reads it from the one state of "
            f"optax.inject_hyperparams that holds it, got {len(found)} of them; give the "
            "threshold the learning_rate that the optimizer has"
        )
    return found[0].hyperparams["learning_rate"]


def _is_adam(node: Any) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


def _is_rms(node: Any) -> bool:
    # Optax does not export the state with a count, of the correction for bias.
    fields = getattr(node, "_fields", ())
    return isinstance(node, optax.ScaleByRmsState) or fields == ("count", "nu")


def _only(state: Any, is_it: Callable[[Any], bool], name: str) -> Any:
    found = _all(state, is_it)
    if len(found) != 1:
        raise ValueError(f"the optimizer's state must hold one of {name}, got {len(found)}")
    return found[0]


def _all(state: Any, is_it: Callable[[Any], bool]) -> list[Any]:
    return [node for node in jax.tree.leaves(state, is_leaf=is_it) if is_it(node)]


def _debias(decay: ArrayLike, count: jax.Array, dtype: Any) -> jax.Array:
    # Before the first step there is no moment to correct.
    return 1 - jnp.asarray(decay, dtype) ** jnp.maximum(count, 1).astype(dtype)


def _wide(x: jax.Array) -> jax.Array:
    """At least float32: P of 16 bits would lose its eps, and a threshold overflow."""
    return x.astype(inputs.wide(x.dtype))


def _norm(grads: Any) -> jax.Array:
    if not jax.tree.leaves(grads):
        raise ValueError("what SAM can bear depends on the gradients; give them, too")
    return optax.tree.norm(jax.tree.map(_wide, grads))


def _check(name: str, value: Any, low: float, high: float) -> None:
    """Raises unless a number that can be seen is in [low, high)."""
    if isinstance(value, jax.core.Tracer):
        return
    array = validation.finite_array(name, value)
    if not np.all((array >= low) & (array < high)):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {value!r}")


def _check_open(name: str, value: Any) -> None:
    if not isinstance(value, jax.core.Tracer):
        validation.open_interval(name, value, 0.0, np.inf)
