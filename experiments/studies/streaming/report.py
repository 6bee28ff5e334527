"""The table, the verdict and the notes of the study of streams."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments import runner
from experiments.studies.streaming.evaluation import LAST_CLASS, Course
from experiments.studies.streaming.learners import DIAMETER, GRADIENT_BOUND
from experiments.studies.streaming.settings import Settings
from experiments.studies.streaming.tasks import TASKS, Stream

COLUMNS = (
    "stream",
    "model",
    "learner",
    "accuracy",
    "F1",
    "mean loss",
    "alarms",
    "rejected",
    "not finite",
)


class Row(NamedTuple):
    """A learner's courses through a stream, one for each seed."""

    task: str
    model: str
    learner: str
    courses: Sequence[Course]

    @property
    def median(self) -> Course:
        """The course with the median accuracy; of an even number, the lower one."""
        ordered = sorted(self.courses, key=lambda course: course.accuracy)
        return ordered[(len(ordered) - 1) // 2]


def make_results(
    settings: Settings,
    streams: Mapping[str, Stream],
    rows: Sequence[Row],
    baselines: Mapping[str, Mapping[str, float]],
) -> runner.Results:
    """Returns the table, the verdict and the notes.

    Args:
      settings: the settings.
      streams: the streams by name.
      rows: the learners' courses.
      baselines: accuracies without a learner, by stream and name.
    """
    cells = []
    for name in streams:
        cells += [
            (name, "", each, f"{accuracy:.4f}", "", "", "", "", "")
            for each, accuracy in baselines[name].items()
        ]
        cells += [_cells(row) for row in rows if row.task == name]
        if len(streams[name].labels) > (settings.most_examples or 0):
            cells += [
                (name, "", f"{each} (published)", f"{accuracy:.4f}", "", "", "", "", "")
                for each, accuracy in TASKS[name].published.items()
            ]
    values = {
        name: {
            **baselines[name],
            **{
                f"{row.model}, {row.learner}": [course.accuracy for course in row.courses]
                for row in rows
                if row.task == name
            },
        }
        for name in streams
    }
    return runner.Results(
        "Streams",
        COLUMNS,
        cells,
        _notes(settings),
        {"label_lag": settings.label_lag, "accuracy": values},
        _verdict(streams, rows, baselines),
    )


def _cells(row: Row) -> tuple[str, ...]:
    median, all_accuracies = row.median, [course.accuracy for course in row.courses]
    accuracy = f"{median.accuracy:.4f}"
    if len(all_accuracies) > 1:
        accuracy += f" ({min(all_accuracies):.4f} to {max(all_accuracies):.4f})"
    return (
        row.task,
        row.model,
        row.learner,
        accuracy,
        "" if np.isnan(median.f1) else f"{median.f1:.4f}",
        f"{median.loss:.4f}",
        str(len(median.alarms)),
        str(sum(course.rejected for course in row.courses)),
        str(sum(course.nonfinite for course in row.courses)),
    )


def _verdict(
    streams: Mapping[str, Stream],
    rows: Sequence[Row],
    baselines: Mapping[str, Mapping[str, float]],
) -> str:
    """Returns the best learner of each stream, beside the last class."""
    sentences = []
    for name in streams:
        best = max((row for row in rows if row.task == name), key=lambda row: row.median.accuracy)
        reached, last = best.median.accuracy, baselines[name][LAST_CLASS]
        comparison = "more" if reached > last else "not more"
        sentences.append(
            f"On {name} {best.learner} with the model {best.model} has the highest accuracy, "
            f"{100 * reached:.2f}%, {comparison} than the last class with {100 * last:.2f}%."
        )
    return " ".join(sentences)


def _notes(settings: Settings) -> list[str]:
    lag = settings.label_lag
    if lag == 0:
        features = "No label is a feature in any row"
    elif lag == 1:
        features = "The label of the previous example is a feature in every row with a model"
    else:
        features = (
            f"The labels of the previous {lag} examples are features in every row with a model"
        )
    published = " Published accuracies are without it." if lag == 1 else ""
    if lag > 1:
        published = " Published accuracies are without them."
    return [
        f"{features}. Each label is known before the next example.{published}",
        "One pass: each prediction is made before the model, the scaler and the detector use the "
        "example. Accuracies of several seeds are the median, with the range.",
        "Learning rates of sgd and adam are the same on all streams; nothing was chosen by the "
        "results on a stream.",
        "online_gradient_descent, adagrad_norm and ader have a diameter of "
        f"{DIAMETER:g}, and the first and the last a bound of {GRADIENT_BOUND:g} on gradients. "
        "swift_td is for linear models.",
        "rejected: updates that were not finite, and not made. not finite: losses, which are left "
        "out of the mean loss.",
    ]
