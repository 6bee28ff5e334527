"""Diagnosis of a disease: AUC, thresholds, sensitivity and calibration, beside published results.

Networks learn to recognize pneumonia on chest X-rays of 28 x 28 pixels (PneumoniaMNIST, from
--data-dir), or malignant breast masses in the table that is bundled with scikit-learn. They are not
a medical device. They are trained by every method of `experiments.methods`, with the cost of its
tuning.

Three of four X-rays show pneumonia, and a third of the masses are malignant. The study trains with
class weights against this imbalance; the methods that train once also train without. For each
network it chooses two thresholds on the validation part, by Youden's J and for a sensitivity of
95%, and recalibrates the probabilities there. All results are of the test part, with intervals.
"""

from experiments import methods, runner
from experiments.studies.medical import diagnoses
from experiments.studies.medical.figures import draw_confusion, draw_reliability, draw_roc
from experiments.studies.medical.networks import assessed, shown
from experiments.studies.medical.recipes import recipes
from experiments.studies.medical.report import make_results
from experiments.studies.medical.settings import Settings

__all__ = ["Settings", "check", "run"]


def check(settings: Settings) -> None:
    """Raises DataError if the data is missing or invalid."""
    diagnoses.load(settings)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains by every method with both losses, assesses the networks and draws the figures."""
    diagnosis = diagnoses.load(settings)
    contests = methods.run_contests(settings, run, recipes(settings, diagnosis))
    networks, failures = assessed(diagnosis, contests)
    if networks:
        network, weighted = shown(networks), [each for each in networks if each.weighted]
        run.save_figure("4_roc", draw_roc(weighted, network))
        run.save_figure("5_reliability", draw_reliability(network.name, network.assessment))
        figure = draw_confusion(
            network.name, network.assessment, diagnosis.disease, diagnosis.healthy
        )
        run.save_figure("6_confusion", figure)
    return make_results(settings, diagnosis, contests, networks, failures)
