"""Settings of the study of separable logistic regression."""

import dataclasses

from experiments import runner

STEPS = {"smoke": 400, "small": 16_000, "full": 64_000}
DATA_SETS = {"smoke": 3, "small": 20, "full": 20}
CLASSICAL_STEP = 8.0  # 2 over the largest curvature, for examples of norm at most 1
TARGET_GAIN = 6.0  # orders of magnitude below the loss with the classical step
TWO_POINTS_MARGIN = 0.1


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of separable logistic regression."""
