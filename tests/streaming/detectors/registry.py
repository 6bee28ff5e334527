"""The registry of detectors. A new detector joins all laws by one row."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxdescent.streaming import Detector, adwin, ddm, kswin, page_hinkley


class Row(NamedTuple):
    """A detector, and what is known about it.

    Attributes:
      make: Called as `make()`; returns the detector.
      forgets: True if after an alarm it equals a new detector; KSWIN draws on.
    """

    make: Callable[[], Detector]
    forgets: bool = True


DETECTORS = {
    "adwin": Row(lambda: adwin(max_width=2048)),
    "adwin, clock 12": Row(lambda: adwin(clock=12, max_buckets=3, max_width=1024)),
    "page_hinkley": Row(lambda: page_hinkley(threshold=8.0)),
    "ddm": Row(lambda: ddm(min_spread=0.01)),
    "kswin": Row(lambda: kswin(window_size=40, sample_size=15), forgets=False),
}


def errors(seed: int, number: int = 384) -> np.ndarray:
    """Returns zeros and ones, f32[number], whose rate rises in the middle."""
    random = np.random.default_rng(seed)
    rates = np.repeat(random.uniform([0.05, 0.7], [0.2, 0.95]), -(-number // 2))[:number]
    return (random.random(number) < rates).astype(np.float32)
