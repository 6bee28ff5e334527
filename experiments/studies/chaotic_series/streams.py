"""The streams of the study, a registry: windows of a chaotic series. A new one joins by one row."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np

from experiments.data import chaotic

StreamName = Literal["mackey_glass", "mackey_glass_drifting", "lorenz", "lorenz_drifting"]
POINTS, WINDOW, BAND = 25_000, 20, 500
"""Points of a series, points that a forecast is made from, and windows of the moving band."""


class Stream(NamedTuple):
    """A stream of the registry.

    Attributes:
      title: name in tables.
      generate: Called as `generate(n)`; returns the series, f64[n].
      drifts: True if windows are drawn from the moving band.
    """

    title: str
    generate: Callable[[int], np.ndarray]
    drifts: bool


STREAMS: dict[StreamName, Stream] = dict(
    zip(
        get_args(StreamName),
        (
            Stream("Mackey-Glass", chaotic.mackey_glass, False),
            Stream(
                "Mackey-Glass, drifting",
                lambda n: chaotic.mackey_glass(n, delays=(17, 25, 12)),
                True,
            ),
            Stream("Lorenz", chaotic.lorenz, False),
            Stream("Lorenz, drifting", lambda n: chaotic.lorenz(n, rhos=(28.0, 40.0, 22.0)), True),
        ),
        strict=True,
    )
)


class Windows(NamedTuple):
    """A series, and the windows that a batch is drawn from at each step.

    Attributes:
      series: f32[POINTS], standardized.
      first: i32[steps], start of the first window to draw.
      count: i32[], number of windows to draw from.
    """

    series: np.ndarray
    first: np.ndarray
    count: np.ndarray


def windows_of(name: StreamName, steps: int) -> Windows:
    """Generates a stream. The band of a drifting one moves from the first window to the last."""
    stream = STREAMS[name]
    series = chaotic.standardized(stream.generate(POINTS))
    windows = POINTS - WINDOW
    count = BAND if stream.drifts else windows
    first = np.arange(steps) * (windows - count) // max(1, steps - 1)
    return Windows(series, first.astype(np.int32), np.asarray(count, np.int32))
