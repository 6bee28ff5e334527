"""The published package's rules as factories.

The rules are those of gradient-descent-the-ultimate-optimizer 1.0 (K. Chandra et al.,
MIT license), written as plain optax transformations in the package's own raw values x:

    beta, gamma = (tanh x + 1) / 2      the rate of RMSProp = x^2      else x itself

They differ from optax's: Adam's v starts at its eps, AdaGrad's sum at 0.1, and RMSProp
has its eps inside the root. `tests/towers/test_parity.py` holds towers of them to numbers
that the package printed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd


def from_raw(x: Any) -> Any:
    """The beta of a raw value."""
    return (jnp.tanh(x) + 1) / 2


def to_raw(beta: Any) -> Any:
    """The raw value of a beta."""
    return np.arctanh(2 * beta - 1)


def _zeros_like(params: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, params)


def _transformation(init: Any, step: Any) -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params  # no rule reads them
        return step(updates, state)

    return optax.GradientTransformation(init, update)


def sgd(alpha: Any, mu: Any = None) -> optax.GradientTransformation:
    """Descent, with heavy-ball momentum if `mu` is given."""
    if mu is None:
        return optax.stateless(lambda updates, _: jax.tree.map(lambda g: -alpha * g, updates))

    def update(updates: Any, state: Any) -> tuple[Any, Any]:
        buf = jax.tree.map(lambda b, g: mu * b + g, state, updates)
        return jax.tree.map(lambda b: -alpha * b, buf), buf

    return _transformation(_zeros_like, update)


def adagrad(alpha: Any) -> optax.GradientTransformation:
    """AdaGrad, whose sum of squares starts at 0.1."""

    def update(updates: Any, state: Any) -> tuple[Any, Any]:
        total = jax.tree.map(lambda s, g: s + g**2, state, updates)
        return jax.tree.map(lambda g, s: -alpha * g / jnp.sqrt(s + 1e-10), updates, total), total

    init = lambda params: jax.tree.map(lambda p: jnp.full_like(p, 0.1), params)
    return _transformation(init, update)


def rmsprop(alpha: Any, gamma: Any) -> optax.GradientTransformation:
    """RMSProp at a rate of alpha squared."""
    decay = from_raw(gamma)

    def update(updates: Any, state: Any) -> tuple[Any, Any]:
        square = jax.tree.map(lambda s, g: decay * s + (1 - decay) * g**2, state, updates)
        step = lambda g, s: -(alpha**2) * g / jnp.sqrt(s + 1e-8)
        return jax.tree.map(step, updates, square), square

    return _transformation(_zeros_like, update)


def adam(alpha: Any, beta1: Any, beta2: Any, v_start: Any = 1e-8) -> optax.GradientTransformation:
    """Adam, whose second moment starts at eps and not at 0."""
    b1, b2, eps = from_raw(beta1), from_raw(beta2), 1e-8

    def init(params: Any) -> Any:
        v = jax.tree.map(lambda p: jnp.full_like(p, v_start), params)
        return jnp.zeros((), jnp.int32), _zeros_like(params), v

    def update(updates: Any, state: Any) -> tuple[Any, Any]:
        t, m, v = state[0] + 1, state[1], state[2]
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, updates)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, updates)

        def step(m: jax.Array, v: jax.Array) -> jax.Array:
            m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
            return -alpha * m_hat / (jnp.sqrt(v_hat) + eps)

        return jax.tree.map(step, m, v), (t, m, v)

    return _transformation(init, update)


class Rule(NamedTuple):
    """A class of the package.

    Attributes:
      factory: takes raw values.
      starts: the package's defaults of what it learns, as they are meant and not raw.
    """

    factory: Callable[..., optax.GradientTransformation]
    starts: Mapping[str, float]


_BETAS = {"beta1": 0.9, "beta2": 0.999}
RULES = {
    "SGD": Rule(sgd, {"alpha": 0.01}),
    "AdaGrad": Rule(adagrad, {"alpha": 0.01}),
    "RMSProp": Rule(rmsprop, {"alpha": 0.01, "gamma": 0.99}),
    "RMSPropAlpha": Rule(partial(rmsprop, gamma=to_raw(0.99)), {"alpha": 0.01}),
    "Adam": Rule(adam, {"alpha": 0.001, **_BETAS}),
    "AdamBaydin": Rule(
        partial(adam, **{name: to_raw(beta) for name, beta in _BETAS.items()}), {"alpha": 0.001}
    ),
}


def raw(rule: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The rule's values in the form in which the package stores them."""

    def stored(name: str, value: Any) -> Any:
        if name in ("beta1", "beta2", "gamma"):
            return to_raw(value)
        return np.sqrt(value) if _rooted(rule, name) else value

    return {name: stored(name, value) for name, value in values.items()}


def natural(rule: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What stored values mean.

    Example:
      >>> stored = raw("RMSProp", {"alpha": 0.25, "gamma": 0.5})
      >>> {name: float(value) for name, value in natural("RMSProp", stored).items()}
      {'alpha': 0.25, 'gamma': 0.5}
    """

    def meant(name: str, value: Any) -> Any:
        if name in ("beta1", "beta2", "gamma"):
            return from_raw(value)
        return value**2 if _rooted(rule, name) else value

    return {name: meant(name, value) for name, value in stored.items()}


def _rooted(rule: str, name: str) -> bool:
    return rule.startswith("RMSProp") and name == "alpha"


class Level(NamedTuple):
    """A rule and where it starts; what `values` leaves out starts at the package's defaults."""

    rule: str
    values: Mapping[str, float] = {}

    def starts(self) -> dict[str, Any]:
        """All raw values."""
        return raw(self.rule, {**RULES[self.rule].starts, **self.values})


def tower(
    levels: Sequence[Level],
    *,
    hypergradient: Callable[..., optax.GradientTransformation] = jd.hypergradient,
    factories: Mapping[str, Callable[..., optax.GradientTransformation]] | None = None,
) -> optax.GradientTransformation:
    """The package's tower: all values of a level are learned, unconstrained, but the topmost's.

    Args:
      levels: from the bottom up.
      hypergradient: what joins two levels.
      factories: in place of a rule's own, by its name.

    Example:
      >>> print(jd.describe(tower([Level("SGD"), Level("SGD"), Level("SGD", {"alpha": 1e-4})])))
      1: sgd, alpha=0.01 (unconstrained); one_step; fused;
         carries grads
      2: sgd, alpha=0.01 (unconstrained); one_step; fused;
         carries grads
      3: a transformation that is not a tower
    """
    own = {name: rule.factory for name, rule in RULES.items()}
    given = {**own, **(factories or {})}
    *tuned, top = levels
    tx = given[top.rule](**top.starts())
    for level in reversed(tuned):
        tune = {name: jd.unconstrained(start) for name, start in level.starts().items()}
        tx = hypergradient(given[level.rule], tx, tune=tune)
    return tx
