"""Success rates with intervals."""

import numpy as np


def percent(successes: int, runs: int) -> str:
    """Formats a success rate in percent with its 95% interval."""
    low, high = wilson(successes, runs)
    return f"{100 * successes / runs:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def wilson(successes: int, runs: int) -> tuple[float, float]:
    """Computes the 95% score interval of a proportion (E. Wilson 1927)."""
    z = 1.959964
    center = (successes + z * z / 2) / (runs + z * z)
    rate = successes / runs
    half_width = z / (runs + z * z) * np.sqrt(runs * rate * (1 - rate) + z * z / 4)
    return max(float(center - half_width), 0.0), min(float(center + half_width), 1.0)
