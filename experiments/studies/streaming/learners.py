"""The learners and the drift detectors of the study, registries. A new one joins by one row.

Fixed learning rates, diameters and bounds of gradients are the same on all streams: nothing is
tuned on a stream. The regret bounds of the learners that take a diameter and a bound do not hold
here, since neither is known.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxdescent as jd


class Learner(NamedTuple):
    """A learner of the registry.

    Attributes:
      make: Called as `make()`; returns the transformation.
      learning_rate: Called as `learning_rate(opt_state)`; returns the learning rate in use, f[];
        None for learners without a single one.
      evaluate_at: as in `online_loop`; None for the parameters that train.
      gradient_of: the gradient that the transformation takes, as in `online_loop`.
      models: the models that it can train.
    """

    make: Callable[[], optax.GradientTransformation]
    learning_rate: Callable[[Any], jax.Array] | None = None
    gradient_of: Literal["loss", "prediction"] = "loss"
    evaluate_at: Callable[[Any, Any], Any] | None = None
    models: Sequence[Literal["linear", "mlp"]] = ("linear", "mlp")


def _fixed(rate: float) -> Callable[[Any], jax.Array]:
    return lambda _: jnp.float32(rate)


def _learned(opt_state: Any) -> jax.Array:
    return jd.get_hyperparams(opt_state)[0]["learning_rate"]


def _reset_after_drift(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    return jd.streaming.react_to_drift(tx, jd.streaming.reset_statistics())


SGD_RATE, ADAM_RATE = 0.01, 1e-3
DIAMETER, GRADIENT_BOUND = 10.0, 10.0

LEARNERS: dict[str, Learner] = {
    "sgd": Learner(lambda: optax.sgd(SGD_RATE), _fixed(SGD_RATE)),
    "adam": Learner(lambda: optax.adam(ADAM_RATE), _fixed(ADAM_RATE)),
    "adam_reset": Learner(lambda: _reset_after_drift(optax.adam(ADAM_RATE)), _fixed(ADAM_RATE)),
    "self_tuning": Learner(lambda: jd.self_tuning(optax.adam), _learned),
    "self_tuning_sgd": Learner(lambda: jd.self_tuning(optax.sgd), _learned),
    "self_tuning_average": Learner(
        lambda: jd.self_tuning(optax.adam), _learned, evaluate_at=jd.averaged_params
    ),
    "self_tuning_sgd_average": Learner(
        lambda: jd.self_tuning(optax.sgd), _learned, evaluate_at=jd.averaged_params
    ),
    "ftrl_proximal": Learner(jd.streaming.ftrl_proximal),
    "coin_betting": Learner(jd.streaming.coin_betting),
    "online_gradient_descent": Learner(
        lambda: jd.streaming.online_gradient_descent(DIAMETER, GRADIENT_BOUND)
    ),
    "adagrad_norm": Learner(lambda: jd.streaming.adagrad_norm(diameter=DIAMETER)),
    "ader": Learner(lambda: jd.streaming.ader(DIAMETER, GRADIENT_BOUND)),
    "intentional": Learner(jd.streaming.intentional, gradient_of="prediction"),
    "obgd": Learner(jd.streaming.obgd, gradient_of="prediction"),
    "swift_td": Learner(jd.streaming.swift_td, gradient_of="prediction", models=("linear",)),
}

DETECTORS: dict[str, Callable[[], jd.streaming.Detector]] = {
    "adwin": jd.streaming.adwin,
    "ddm": jd.streaming.ddm,
    "kswin": jd.streaming.kswin,
    "page_hinkley": jd.streaming.page_hinkley,
}
"""Detectors of drift in the errors, 0 or 1. Without one there are no alarms."""
