"""Settings of the clipping study."""

import dataclasses

from experiments import runner

DIMENSIONS = 4
LOG2_STEPS = {"smoke": (4, 7), "small": (8, 14), "full": (8, 18)}  # range of log2 of the steps T
SEEDS = {"smoke": 50, "small": 1_000, "full": 4_000}
COSH_STARTS = {
    "smoke": (2.0, 4.0),
    "small": (2.0, 5.0, 8.0, 11.0),
    "full": (2.0, 5.0, 8.0, 11.0, 14.0),
}
THRESHOLD = 3.0  # per coordinate; norms are clipped at 3 sqrt(DIMENSIONS)
TARGET_SLOPE = 1e-3  # of cosh


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the clipping study."""
