"""Settings of the catapult study."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments import runner

PREDICTED = {1.5: True, 2.2: True, 3.0: True, 3.8: True, 4.5: False}
"""Maps learning rate x initial sharpness to the prediction: True if training converges."""

WIDTH = {"smoke": 500, "small": 2_000, "full": 2_000}
SEEDS = {"smoke": 4, "small": 20, "full": 100}
STEPS = {"smoke": 500, "small": 10_000, "full": 20_000}  # after a catapult progress can be slow
WARMUP_TARGETS = (3.8, 8.0, 16.0)  # learning rates after the warmup, times the initial sharpness
WARMUP_STEPS = 100
CONVERGED = 1e-6  # relative to the initial loss


class ReluSetup(NamedTuple):
    """Setup of the ReLU networks, which have two hidden layers.

    Attributes:
      width: the width of both hidden layers.
      seeds: the number of seeds.
      steps: the number of training steps.
      multiples: the values of learning rate x initial sharpness.
    """

    width: int
    seeds: int
    steps: int
    multiples: Sequence[float]


RELU_SETUPS = {
    "smoke": ReluSetup(16, 2, 20, (2.0, 40.0)),
    "small": ReluSetup(200, 10, 500, range(2, 17)),
    "full": ReluSetup(1_000, 20, 2_000, tuple(np.arange(2.0, 16.5, 0.5))),
}
RELU_EXAMPLES, RELU_FEATURES = 32, 16
RELU_CONVERGED = 1e-2  # relative to the initial loss


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the catapult study."""
