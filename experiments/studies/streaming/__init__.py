"""Online learning on streams: each example is a test first, then trains, in one pass.

Learners from a registry train linear and small nonlinear models on Elec2 (from --data-dir) and on
the streams that river bundles and generates, with standardized features and one update per example.
Accuracies are prequential: every prediction is made before the label is used. Labels that have
arrived can be features, the same number for every row, as --label-lag says. The last class and the
most frequent class are rows of every task. Figures show accuracy, learning rates and alarms of a
drift detector over time.
"""

from functools import partial

from experiments import runner
from experiments.studies.streaming.evaluation import Course, baselines, evaluate
from experiments.studies.streaming.figure import draw
from experiments.studies.streaming.learners import LEARNERS
from experiments.studies.streaming.report import Row, make_results
from experiments.studies.streaming.settings import Settings
from experiments.studies.streaming.tasks import TASKS, load

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises an error of one line if the data of a task or a package is missing."""
    for name in settings.task_names:
        load(settings, name)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Runs every learner through every stream."""
    streams = {name: load(settings, name) for name in settings.task_names}
    combinations = [
        (name, model, learner, seed)
        for name in streams
        for model in settings.models
        for learner in settings.learner_names
        if model in LEARNERS[learner].models
        for seed in settings.seeds_of(model)
    ]
    total = sum(len(streams[name].labels) for name, *_ in combinations)
    courses: dict[tuple[str, str, str], list[Course]] = {}
    with runner.Progress(total=total) as progress:
        for name, model, learner, seed in combinations:
            stream = streams[name]
            course = run.series(
                f"{name}, {model}, {learner}, seed {seed}",
                Course,
                partial(evaluate, stream, model, learner, settings.detector, seed),
                progress=progress,
                steps=len(stream.labels),
                loss=lambda course: course.loss,
            )
            courses.setdefault((name, model, learner), []).append(course)
    rows = [Row(*key, found) for key, found in courses.items()]
    for name, stream in streams.items():
        run.save_figure(name, draw(TASKS[name], stream, [row for row in rows if row.task == name]))
    return make_results(
        settings, streams, rows, {name: baselines(stream) for name, stream in streams.items()}
    )
