"""The methods of the study, a registry. A new one joins by one row.

Settings are the papers', and the learning rate of Adam is 1e-3 for all. Only the strength of L2
Init was chosen, among 1e-3, 3e-3 and 1e-2 on the first 60 tasks of MNIST.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import optax

import jaxdescent as jd

MethodName = Literal[
    "adam",
    "l2_init",
    "self_tuning",
    "self_tuning_l2_init",
    "weight_decay",
    "shrink_and_perturb",
    "continual_shrink_and_perturb",
    "continual_backprop",
    "redo",
    "upgd",
]
LEARNING_RATE, L2_STRENGTH = 1e-3, 3e-3
DRAW = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Initial weights between ±1 / sqrt(inputs), as in the paper's setting (PyTorch's default)."""

LAYERS = tuple(
    jd.streaming.HiddenLayer(f"{i}/kernel", f"{i + 1}/kernel", f"{i}/bias", f"{i + 1}/bias")
    for i in range(2)
)

NewTask = Callable[[jax.Array, Any, Any], tuple[Any, Any]]


class Method(NamedTuple):
    """A method of the registry.

    Attributes:
      title: name in tables.
      make: called with a random key; returns the transformation.
      new_task: called with a random key, the parameters and the optimizer's state at each new
        task; returns both. None for methods that are not told when a task begins.
      takes_activations: True if updates take the activations of the hidden layers.
    """

    title: str
    make: Callable[[jax.Array], optax.GradientTransformation]
    new_task: NewTask | None = None
    takes_activations: bool = False


def _adam() -> optax.GradientTransformation:
    return optax.adam(LEARNING_RATE)


def _l2_init(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    return optax.chain(jd.streaming.l2_init(L2_STRENGTH), tx)


def _shrink(key: jax.Array, params: Any, state: Any) -> tuple[Any, Any]:
    """Shrinks to 0.4 and adds noise of 0.01, the values of Ash and Adams 2020."""
    del state
    params = jd.streaming.shrink_and_perturb(key, params, shrink=0.4, noise=0.01)
    return params, _adam().init(params)


def _continual_backprop(key: jax.Array) -> optax.GradientTransformationExtraArgs:
    adam = jd.streaming.elementwise_adam(LEARNING_RATE)
    return jd.streaming.continual_backprop(
        adam, LAYERS, key, replacement_rate=1e-4, initializer=DRAW
    )


METHODS: dict[MethodName, Method] = dict(
    zip(
        get_args(MethodName),
        (
            Method("Adam", lambda _: _adam()),
            Method("L2 Init", lambda _: _l2_init(_adam())),
            Method("self-tuning Adam", lambda _: jd.self_tuning(optax.adam)),
            Method(
                "self-tuning Adam, L2 Init",
                lambda _: jd.self_tuning(lambda learning_rate: _l2_init(optax.adam(learning_rate))),
            ),
            Method("weight decay", lambda _: optax.chain(optax.add_decayed_weights(1e-4), _adam())),
            Method("shrink and perturb at new tasks", lambda _: _adam(), _shrink),
            Method(
                "shrink and perturb in every step",
                lambda key: jd.streaming.continual_shrink_and_perturb(
                    _adam(), key, decay=1e-4, noise=1e-4
                ),
            ),
            Method("continual backpropagation", _continual_backprop, takes_activations=True),
            Method(
                "ReDo",
                lambda key: jd.streaming.redo(
                    _adam(), LAYERS, key, threshold=0.01, initializer=DRAW
                ),
                takes_activations=True,
            ),
            Method("UPGD", lambda key: jd.streaming.upgd(1e-2, key)),
        ),
        strict=True,
    )
)
