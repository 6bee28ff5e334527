"""The table, the verdict and the notes of the study."""

from collections.abc import Mapping

import numpy as np

from experiments import runner
from experiments.studies.plasticity.methods import L2_STRENGTH, LEARNING_RATE, METHODS, MethodName
from experiments.studies.plasticity.settings import Change, Settings
from experiments.studies.plasticity.tasks import Images
from experiments.studies.plasticity.training import Course

COLUMNS = (
    "change",
    "method",
    "online accuracy %",
    "first tasks",
    "last tasks",
    "silent units %",
    "effective rank",
    "units replaced",
)


def make_results(
    settings: Settings, images: Images, courses: Mapping[tuple[Change, MethodName], Course]
) -> runner.Results:
    """Returns the table, the verdict and the notes."""
    ends = max(1, settings.num_tasks // 25)
    rows = []
    for (change, method), course in courses.items():
        rows.append(_row(change, METHODS[method].title, course.accuracy, course, ends))
        if method.startswith("self_tuning"):
            title = f"{METHODS[method].title}, at its average"
            rows.append(_row(change, title, course.at_average, course, ends))
    values = {
        f"{method}, {change}": {
            "accuracy": course.accuracy.mean(1).tolist(),
            "at_average": course.at_average.mean(1).tolist(),
        }
        for (change, method), course in courses.items()
    }
    steps = settings.images // settings.batch_size
    notes = [
        f"{settings.num_tasks} tasks of {settings.images:,} images: {steps} steps of "
        f"{settings.batch_size} images each, {settings.num_seeds} networks per method; ± is their "
        f"standard deviation. First and last tasks: the first and the last {ends}.",
        f"Adam's learning rate is {LEARNING_RATE:g} in all methods but UPGD and self-tuning; the "
        f"strength of L2 Init is {L2_STRENGTH:g}, chosen among 1e-3, 3e-3 and 1e-2 on the first 60 "
        "tasks of MNIST. The other settings are the papers', not tuned on these tasks. Only "
        "'shrink and perturb at new tasks' is told when a task begins.",
        "Online accuracy: of each batch before it trains the network. Silent units: hidden units "
        "that are 0 on all of 256 images after a task; effective rank: of the last hidden "
        "layer there; both at the last task.",
        images.source,
    ]
    title = f"Plasticity on permuted {settings.data}"
    return runner.Results(title, COLUMNS, rows, notes, values, _verdict(courses, ends))


def _row(
    change: str, title: str, accuracy: np.ndarray, course: Course, ends: int
) -> tuple[str, ...]:
    mean = 100 * accuracy.mean(0)
    return (
        change,
        title,
        f"{mean.mean():.2f} ± {mean.std():.2f}",
        f"{100 * accuracy[:ends].mean():.2f}",
        f"{100 * accuracy[-ends:].mean():.2f}",
        f"{100 * course.dormant[-1].mean():.1f}",
        f"{course.rank[-1].mean():.1f}",
        f"{course.replaced.mean():.0f}" if course.replaced.any() else "-",
    )


def _verdict(courses: Mapping[tuple[Change, MethodName], Course], ends: int) -> str:
    """Returns the method with the highest accuracy, beside Adam, for each variant."""
    sentences = []
    for change in dict.fromkeys(change for change, _ in courses):
        found = {
            method: 100 * course.at_average.mean()
            for (variant, method), course in courses.items()
            if variant == change
        }
        best = max(found, key=lambda method: found[method])
        sentence = (
            f"With {change} changes {METHODS[best].title} has the highest online accuracy, "
            f"{found[best]:.2f}%"
        )
        if "adam" in found:
            adam = 100 * courses[change, "adam"].accuracy
            sentence += (
                f"; Adam alone has {found['adam']:.2f}% and goes from {adam[:ends].mean():.2f}% in "
                f"the first tasks to {adam[-ends:].mean():.2f}% in the last"
            )
        sentences.append(sentence + ".")
    return " ".join(sentences)
