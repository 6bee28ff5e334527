"""Diagnosis of a disease: AUC, thresholds, sensitivity and calibration, beside published results.

A network learns to recognize pneumonia on chest X-rays of 28 x 28 pixels (PneumoniaMNIST, from
--data-dir), or malignant breast masses in the table that is bundled with scikit-learn. It is not a
medical device.

Three of four X-rays show pneumonia, and a third of the masses are malignant. The study trains with
class weights against this imbalance, and without. It chooses two thresholds on the validation
part, by Youden's J and for a sensitivity of 95%, and recalibrates the probabilities there. All
results are of the test part, with intervals.
"""

from functools import partial

from experiments import runner
from experiments.studies.medical import diagnoses
from experiments.studies.medical.assessment import assess
from experiments.studies.medical.figures import draw_confusion, draw_reliability, draw_roc
from experiments.studies.medical.report import Network, make_results
from experiments.studies.medical.settings import Settings
from experiments.studies.medical.training import Trained, train
from experiments.studies.medical.weighting import balanced

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises DataError if the data is missing or invalid."""
    diagnoses.load(settings)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains with both losses, assesses the networks and draws the figures."""
    diagnosis = diagnoses.load(settings)
    run.pin("data", diagnosis.task.digest())
    tasks = {
        "self-tuning, balanced loss": balanced(diagnosis.task),
        "self-tuning, unweighted loss": diagnosis.task,
    }
    steps = settings.length.steps
    with runner.Progress(total=len(tasks) * steps) as progress:
        trained = {
            name: run.series(
                name,
                Trained,
                partial(train, settings, run, task, name, progress),
                progress=progress,
                steps=steps,
            )
            for name, task in tasks.items()
        }
    held_out = diagnosis.task.validation, diagnosis.task.test
    labels = diagnosis.labels(held_out[0]), diagnosis.labels(held_out[1])
    networks = {
        name: Network(
            each, assess(labels, (each.validation, each.test), positive=diagnosis.positive)
        )
        for name, each in trained.items()
    }
    assessments = {name: each.assessment for name, each in networks.items()}
    name, first = next(iter(assessments.items()))
    healthy = diagnosis.classes[1 - diagnosis.positive]
    run.save_figure("roc", draw_roc(assessments))
    run.save_figure("reliability", draw_reliability(name, first))
    run.save_figure("confusion", draw_confusion(name, first, diagnosis.disease, healthy))
    return make_results(settings, diagnosis, networks)
