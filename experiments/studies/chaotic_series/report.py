"""The table, the verdict and the notes of the study."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments import runner
from experiments.studies.chaotic_series.measures import (
    JUMP,
    MEMORY,
    best_fixed,
    instabilities,
    median_loss,
)
from experiments.studies.chaotic_series.methods import HYPER_RATE, METHODS, STARTS, TRACE
from experiments.studies.chaotic_series.settings import SIZES, Settings
from experiments.studies.chaotic_series.streams import BAND, POINTS, STREAMS, WINDOW
from experiments.studies.chaotic_series.training import Course, Key

LIMIT = 1.2
"""Largest ratio to the best fixed learning rate that the study calls close."""
COLUMNS = (
    "stream",
    "method",
    "start",
    "loss, second half",
    "ratio",
    "loss, all steps",
    "ratio",
    "events",
    "final rate",
)


class Row(NamedTuple):
    """Numbers of a training, at the parameters or at their average.

    Attributes:
      key: the training.
      at_average: True at the average.
      half, all_steps: median losses of the second half and of all steps.
      half_ratio, all_ratio: the same over the least ones of the fixed learning rates.
      events: number of instability events of all networks.
      rate: geometric mean of the learning rates of the last step.
    """

    key: Key
    at_average: bool
    half: float
    half_ratio: float
    all_steps: float
    all_ratio: float
    events: int
    rate: float


def make_results(settings: Settings, courses: Mapping[Key, Course]) -> runner.Results:
    """Returns the table, the verdict and the notes."""
    rows = rows_of(courses)
    grids = {
        stream: {
            f"{key.start:g}": [median_loss(course.losses, part) for part in ("half", "all")]
            for key, course in courses.items()
            if key.stream == stream and key.method == "sgd"
        }
        for stream in settings.stream_names
    }
    values = {
        "grid": grids,
        "rows": [{**row._asdict(), "key": list(row.key)} for row in rows],
    }
    return runner.Results(
        "Chaotic series",
        COLUMNS,
        [_cells(row) for row in rows],
        _notes(settings, courses),
        values,
        _verdict(rows),
    )


def rows_of(courses: Mapping[Key, Course]) -> list[Row]:
    """Returns the rows by stream; of the grid, the best rates and those that others start at."""
    rows = []
    for stream in dict.fromkeys(key.stream for key in courses):
        best = {part: best_fixed(courses, stream, part) for part in ("half", "all")}
        shown = [best[part].key.start for part in best]
        for key, course in courses.items():
            if key.stream != stream or (key.method == "sgd" and key.start not in (*STARTS, *shown)):
                continue
            for at_average in (False, True) if METHODS[key.method].is_averaged else (False,):
                losses = course.at_average if at_average else course.losses
                half, all_steps = (median_loss(losses, part) for part in ("half", "all"))
                rows.append(
                    Row(
                        key,
                        at_average,
                        half,
                        half / best["half"].loss,
                        all_steps,
                        all_steps / best["all"].loss,
                        instabilities(losses),
                        float(np.exp(np.mean(np.log(course.rates[-1].astype(np.float64))))),
                    )
                )
    return rows


def _cells(row: Row) -> tuple[str, ...]:
    method = METHODS[row.key.method].title + (", at the average" if row.at_average else "")
    return (
        STREAMS[row.key.stream].title,
        method,
        "-" if row.key.start is None else f"{row.key.start:g}",
        f"{row.half:.2e}",
        f"{row.half_ratio:.2f}",
        f"{row.all_steps:.2e}",
        f"{row.all_ratio:.2f}",
        str(row.events),
        f"{row.rate:.1e}",
    )


def _verdict(rows: list[Row]) -> str:
    """Counts the methods whose ratio is close to 1 from every start and on every stream."""
    sentences = []
    learned = [row for row in rows if METHODS[row.key.method].learns]
    for name in dict.fromkeys((row.key.method, row.at_average) for row in learned):
        of_method = [row for row in learned if (row.key.method, row.at_average) == name]
        title = METHODS[name[0]].title + (" at its average" if name[1] else "")
        held, held_all = (
            sum(getattr(row, field) <= LIMIT for row in of_method)
            for field in ("half_ratio", "all_ratio")
        )
        sentences.append(
            f"{title}: {held} of {len(of_method)} in the second half, {held_all} over all steps"
        )
    if not sentences:
        return "No method that learns its learning rate was run."
    return (
        f"Rows within {LIMIT} times the best fixed learning rate of SGD, over streams and starts: "
        f"{'; '.join(sentences)}."
    )


def _notes(settings: Settings, courses: Mapping[Key, Course]) -> list[str]:
    rates = SIZES[settings.scale].rates
    full = SIZES["full"]
    same = all(
        getattr(settings, name) == getattr(full, name)
        for name in ("steps", "seeds", "width", "batch_size")
    )
    size = "the published protocol"
    if not same:
        size = (
            f"the published protocol has {full.seeds} networks, {full.steps:,} steps, batches of "
            f"{full.batch_size} and {full.width} units"
        )
    ends = [
        f"{STREAMS[stream].title} ({best.key.start:g})"
        for stream in dict.fromkeys(key.stream for key in courses)
        if (best := best_fixed(courses, stream)).key.start in (rates[0], rates[-1])
    ]
    notes = [
        f"{settings.seeds} networks per row, {settings.steps:,} steps with batches of "
        f"{settings.batch_size} windows of {WINDOW} points, a GRU of {settings.width} units; "
        f"{size}. Series have {POINTS:,} points; drifting ones draw from {BAND} windows that move "
        "from the start to the end.",
        "Losses are half the mean squared error of a batch before training on it, the median over "
        "the networks. 'ratio' is to the least loss of SGD with the fixed learning rates "
        f"{', '.join(f'{rate:g}' for rate in rates)}, chosen by the same losses, separately for "
        "each of the two columns. Of the grid, the table shows the best rates and the starts.",
        f"Towers learn the logarithm of the learning rate by Adam with {HYPER_RATE:g}; 'per "
        f"tensor' learns a learning rate per parameter array, 'trace' has an eligibility trace of "
        f"{TRACE:g}. These are defaults of the guides, as are all settings of self-tuning: nothing "
        "was chosen on these series. Self-tuning without a start finds it by its range test, whose "
        "losses count; with a start it is left out. Forecasts 'at the average' are made "
        "at the average of the parameters.",
        f"events: steps, over all networks, with a loss above {JUMP:g} times the median of the "
        f"{MEMORY} losses before it, or not finite.",
        "With rho = 22, the Lorenz system settles at a fixed point: the last part of its drifting "
        "series is nearly constant.",
    ]
    if ends:
        notes.append(f"The best fixed learning rate is at an end of the grid: {', '.join(ends)}.")
    return notes
