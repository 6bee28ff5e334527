"""Stability thresholds: the largest sharpness at which an optimizer is stable.

sgd, rmsprop, adam, sam    thresholds for the optimizers of these names, with their arguments
Threshold                  the protocol, for other optimizers
FromState                  a learning rate that is read from the optimizer's state

tx = jd.monitor_stability(optax.adam(1e-3), loss_fn, jd.thresholds.adam(1e-3))
"""

from jaxdescent.stability.sharpness.optimizer_thresholds import (
    FromState,
    LearningRate,
    Threshold,
    adam,
    rmsprop,
    sam,
    sgd,
)

__all__ = ["FromState", "LearningRate", "Threshold", "adam", "rmsprop", "sam", "sgd"]


def __dir__() -> list[str]:
    return __all__
