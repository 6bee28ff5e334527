"""Settings of the study of long step sizes."""

import dataclasses

from experiments import runner

TARGET_GAP = 1e-6  # f(x) - f*, relative to its value at the start
TARGET_RATIO = 5.0  # gradients of 1/L steps over gradients of guarded silver steps
GRADIENT_BUDGET = {"smoke": 3_000, "small": 3_000_000, "full": 30_000_000}
LONGEST_HORIZON = {"smoke": 4, "small": 31, "full": 47}
SMOKE_PROBLEMS = ("Huber, diabetes",)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of long step sizes."""

    margin: float = 1.1
    """Factor by which a measured smoothness is enlarged: underestimates cost more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.margin <= 10:
            raise ValueError(f"--margin must be in [1, 10], got {self.margin}")
