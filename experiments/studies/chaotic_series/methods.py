"""The methods of the study, a registry. A new one joins by one row.

Towers and self-tuning have the settings that the guides recommend, in particular Adam with a
learning rate of 0.05 for the logarithm of the learning rate. None was chosen by these series.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

import jaxdescent as jd

MethodName = Literal[
    "sgd",
    "tower",
    "tower_per_tensor",
    "tower_trace",
    "self_tuning",
    "adam",
    "self_tuning_adam",
]
STARTS = (0.003, 0.03)
"""Initial learning rates of methods that learn it."""
HYPER_RATE, TRACE, ADAM_RATE = 0.05, 0.9, 1e-3


class Method(NamedTuple):
    """A method of the registry.

    Attributes:
      title: name in tables.
      make: Called as `make()`; returns the transformation.
      starts: initial learning rates, or the fixed ones. None is the method's own start. Empty for
        the grid of the scale.
      learns: True if the learning rate is learned: the rows that the verdict is about.
      is_averaged: True if the state holds an average of the parameters.
    """

    title: str
    make: Callable[[], optax.GradientTransformation]
    starts: Sequence[float | None] = STARTS
    learns: bool = True
    is_averaged: bool = False


def _tower(
    space: Callable[[jd.Positive], Any] = lambda positive: positive,
    signal: Any = None,
) -> Callable[[], optax.GradientTransformation]:
    return lambda: jd.hypergradient(
        optax.sgd,
        optax.adam(HYPER_RATE),
        tune={"learning_rate": space(jd.positive(STARTS[0]))},
        signal=signal or jd.one_step(),
    )


METHODS: dict[MethodName, Method] = dict(
    zip(
        get_args(MethodName),
        (
            Method("SGD", lambda: optax.inject_hyperparams(optax.sgd)(1.0), (), learns=False),
            Method("tower", _tower()),
            Method("tower per tensor", _tower(jd.per_leaf)),
            Method("tower, trace", _tower(signal=jd.eligibility_trace(TRACE))),
            Method(
                "self-tuning SGD",
                lambda: jd.self_tuning(optax.sgd),
                (None, *STARTS),
                is_averaged=True,
            ),
            Method(
                "Adam",
                lambda: optax.inject_hyperparams(optax.adam)(ADAM_RATE),
                (ADAM_RATE,),
                learns=False,
            ),
            Method(
                "self-tuning Adam", lambda: jd.self_tuning(optax.adam), (None,), is_averaged=True
            ),
        ),
        strict=True,
    )
)


def with_rate(state: Any, rate: float) -> Any:
    """Returns the state of a method with another learning rate, also of several networks.

    The range test of self-tuning ends then.
    """
    if hasattr(state, "inner_state") and hasattr(state, "hyperparams_states"):
        full = jnp.full_like(state.hyperparams["learning_rate"], rate)
        return state._replace(hyperparams={**state.hyperparams, "learning_rate": full})
    return jd.set_hyperparams(state, {"learning_rate": rate})


def rate_of(state: Any) -> jax.Array:
    """Returns the learning rate in use, f[]; of several, the geometric mean."""
    if hasattr(state, "hyperparams_states"):
        return state.hyperparams["learning_rate"]
    rates = jax.tree.leaves(jd.get_hyperparams(state)[0]["learning_rate"])
    return jnp.exp(jnp.mean(jnp.log(jnp.stack(rates))))
