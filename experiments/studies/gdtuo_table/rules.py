"""The update rules of the published package, as factories of optax transformations.

The package is gradient-descent-the-ultimate-optimizer 1.0 (K. Chandra et al., MIT license). Its
hyperparameters are stored as raw values x:

    beta, gamma = (tanh x + 1) / 2      learning rate of RMSProp = x^2      otherwise x

The rules differ from optax's: the second moment of Adam is initialized with eps, the sum of
AdaGrad with 0.1, and RMSProp has its eps inside the root. `tests/towers/test_parity.py` compares
towers of these rules with numbers that the package printed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd


def beta_from_raw(x: Any) -> Any:
    """Returns the beta of a raw value."""
    return (jnp.tanh(x) + 1) / 2


def raw_from_beta(beta: Any) -> Any:
    """Returns the raw value of a beta."""
    return np.arctanh(2 * beta - 1)


def _zeros_like(params: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, params)


def _transformation(init: Any, step: Any) -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params  # unused
        return step(updates, state)

    return optax.GradientTransformation(init, update)


def sgd(alpha: Any, mu: Any = None) -> optax.GradientTransformation:
    """Returns gradient descent, with heavy-ball momentum if `mu` is given."""
    if mu is None:
        return optax.stateless(lambda updates, _: jax.tree.map(lambda g: -alpha * g, updates))

    def update(updates: Any, state: Any) -> tuple[Any, Any]:
        buf = jax.tree.map(lambda b, g: mu * b + g, state, updates)
        return jax.tree.map(lambda b: -alpha * b, buf), buf

    return _transformation(_zeros_like, update)


def adagrad(alpha: Any) -> optax.GradientTransformation:
    """Returns AdaGrad with an initial sum of squares of 0.1."""

    def update(updates: Any, state: Any) -> tuple[Any, Any]:
        total = jax.tree.map(lambda s, g: s + g**2, state, updates)
        return jax.tree.map(lambda g, s: -alpha * g / jnp.sqrt(s + 1e-10), updates, total), total

    def init(params: Any) -> Any:
        return jax.tree.map(lambda p: jnp.full_like(p, 0.1), params)

    return _transformation(init, update)


def rmsprop(alpha: Any, gamma: Any) -> optax.GradientTransformation:
    """Returns RMSProp with learning rate `alpha` squared."""
    decay = beta_from_raw(gamma)

    def step(g: jax.Array, s: jax.Array) -> jax.Array:
        return -(alpha**2) * g / jnp.sqrt(s + 1e-8)

    def update(updates: Any, state: Any) -> tuple[Any, Any]:
        square = jax.tree.map(lambda s, g: decay * s + (1 - decay) * g**2, state, updates)
        return jax.tree.map(step, updates, square), square

    return _transformation(_zeros_like, update)


def adam(alpha: Any, beta1: Any, beta2: Any, v_start: Any = 1e-8) -> optax.GradientTransformation:
    """Returns Adam with a second moment that is initialized with eps rather than 0."""
    b1, b2, eps = beta_from_raw(beta1), beta_from_raw(beta2), 1e-8

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


class UpdateRule(NamedTuple):
    """An optimizer class of the package.

    Attributes:
      factory: takes raw values.
      starts: the package's defaults of the hyperparameters, not raw.
    """

    factory: Callable[..., optax.GradientTransformation]
    starts: Mapping[str, float]


_BETAS = {"beta1": 0.9, "beta2": 0.999}
RULES = {
    "SGD": UpdateRule(sgd, {"alpha": 0.01}),
    "AdaGrad": UpdateRule(adagrad, {"alpha": 0.01}),
    "RMSProp": UpdateRule(rmsprop, {"alpha": 0.01, "gamma": 0.99}),
    "RMSPropAlpha": UpdateRule(partial(rmsprop, gamma=raw_from_beta(0.99)), {"alpha": 0.01}),
    "Adam": UpdateRule(adam, {"alpha": 0.001, **_BETAS}),
    "AdamBaydin": UpdateRule(
        partial(adam, **{name: raw_from_beta(beta) for name, beta in _BETAS.items()}),
        {"alpha": 0.001},
    ),
}


def to_raw_values(rule: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns hyperparameters as raw values."""

    def convert(name: str, value: Any) -> Any:
        if name in ("beta1", "beta2", "gamma"):
            return raw_from_beta(value)
        return np.sqrt(value) if _is_squared(rule, name) else value

    return {name: convert(name, value) for name, value in values.items()}


def from_raw_values(rule: str, raw_values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns raw values as hyperparameters.

    Example:
      >>> stored = to_raw_values("RMSProp", {"alpha": 0.25, "gamma": 0.5})
      >>> {name: float(value) for name, value in from_raw_values("RMSProp", stored).items()}
      {'alpha': 0.25, 'gamma': 0.5}
    """

    def convert(name: str, value: Any) -> Any:
        if name in ("beta1", "beta2", "gamma"):
            return beta_from_raw(value)
        return value**2 if _is_squared(rule, name) else value

    return {name: convert(name, value) for name, value in raw_values.items()}


def _is_squared(rule: str, name: str) -> bool:
    return rule.startswith("RMSProp") and name == "alpha"


class Level(NamedTuple):
    """An update rule with initial hyperparameters; by default they are the package's."""

    rule: str
    values: Mapping[str, float] = {}

    def starts(self) -> dict[str, Any]:
        """Returns all initial hyperparameters as raw values."""
        return to_raw_values(self.rule, {**RULES[self.rule].starts, **self.values})


def tower(
    levels: Sequence[Level],
    *,
    hypergradient: Callable[..., optax.GradientTransformation] = jd.hypergradient,
    factories: Mapping[str, Callable[..., optax.GradientTransformation]] | None = None,
) -> optax.GradientTransformation:
    """Returns the package's tower: every level but the top one learns all its hyperparameters.

    Hyperparameters are unconstrained.

    Args:
      levels: from the bottom up.
      hypergradient: joins two levels.
      factories: replace the factories of rules, by name.

    Example:
      >>> print(jd.describe(tower([Level("SGD"), Level("SGD"), Level("SGD", {"alpha": 1e-4})])))
      1: sgd, alpha=0.01 (unconstrained); one_step; fused;
         carries grads
      2: sgd, alpha=0.01 (unconstrained); one_step; fused;
         carries grads
      3: an optimizer with fixed hyperparameters, which trains level 2
    """
    defaults = {name: rule.factory for name, rule in RULES.items()}
    given = {**defaults, **(factories or {})}
    *tuned, top = levels
    tx = given[top.rule](**top.starts())
    for level in reversed(tuned):
        tune = {name: jd.unconstrained(start) for name, start in level.starts().items()}
        tx = hypergradient(given[level.rule], tx, tune=tune)
    return tx
