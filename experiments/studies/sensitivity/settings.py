"""Settings of the sensitivity study."""

import dataclasses

from experiments.tuning import workloads

STARTS = {"smoke": (1e-8, 1e-3, 1e2), "small": tuple(10.0**e for e in range(-8, 3))}
STARTS["full"] = STARTS["small"]
HEIGHTS = {"smoke": (2,), "small": tuple(range(6)), "full": tuple(range(6))}
ROBUST, HARMLESS = 1.2, 1.05  # largest acceptable ratios to the best fixed learning rate


@dataclasses.dataclass(frozen=True)
class Settings(workloads.Settings):
    """Settings of the sensitivity study."""
