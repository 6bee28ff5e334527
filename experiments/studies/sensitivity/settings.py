"""Settings of the sensitivity study, and the ratios that it claims."""

import dataclasses

from experiments.tuning import workloads

DECADES = tuple(10.0**e for e in range(-8, 3))
STARTS = {"smoke": (1e-8, 1e-3, 1e2), "small": (1e-8, 1e-5, 1e-3, 1e-1, 1e2), "full": DECADES}
PUBLISHED_STARTS = {"smoke": STARTS["smoke"], "small": DECADES, "full": DECADES}
HEIGHTS = {"smoke": (2,), "small": tuple(range(6)), "full": tuple(range(6))}
# Largest acceptable ratios to the best fixed learning rate, by the kind of task: of the worst
# initial learning rate, and of the best fixed one as the initial one.
ROBUST = {"stationary": 1.2, "nonstationary": 1.3}
HARMLESS = {"stationary": 1.05, "nonstationary": 1.3}
MEAN = 0.98  # largest acceptable geometric mean of the ratios on stationary tasks


@dataclasses.dataclass(frozen=True)
class Settings(workloads.Settings):
    """Settings of the sensitivity study."""
