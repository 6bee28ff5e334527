"""Streams with changes, drawn as for the comparison with river."""

import random

import numpy as np


def drawn(seed: int, number: int = 2048) -> np.ndarray:
    """Returns a stream of float32 numbers: Bernoulli, normal or shifted exponential in turn."""
    rng = np.random.default_rng(seed)
    changes = np.sort(rng.integers(0, number, rng.integers(1, 5)))
    part = np.searchsorted(changes, np.arange(number))
    if seed % 3 == 0:
        values = rng.random(number) < rng.uniform(0, 1, 5)[part]
    elif seed % 3 == 1:
        values = rng.normal(rng.normal(0, 2, 5)[part], rng.uniform(0.5, 2, 5)[part])
    else:
        values = rng.uniform(0, 20, 5)[part] + rng.exponential(1, number)
    return values.astype(np.float32)


def documented() -> np.ndarray:
    """Returns the stream in the documentation of river's detectors."""
    rng = random.Random(12345)  # noqa: S311  river's stream
    return np.array(rng.choices([0, 1], k=1000) + rng.choices(range(4, 8), k=1000), np.float32)


def river_alarms(detector, values):
    """Returns the indices of the drifts and of the warnings of one of river's detectors."""
    drifts, warnings = [], []
    for i, value in enumerate(values):
        detector.update(float(value))
        if detector.drift_detected:
            drifts.append(i)
        if getattr(detector, "warning_detected", False):
            warnings.append(i)
    return drifts, warnings


def alarms(found):
    """Returns the indices of our drifts and warnings."""
    return np.flatnonzero(found.drift).tolist(), np.flatnonzero(found.warning).tolist()
