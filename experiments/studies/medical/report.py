"""The tables, notes and verdict of the medical study."""

from collections.abc import Sequence

import numpy as np
from flax import nnx

from experiments import methods, runner
from experiments.methods import METHODS
from experiments.models.counting import parameter_count
from experiments.runner.page import Table
from experiments.studies.medical.assessment import (
    HALF,
    PLATT,
    RAW,
    SENSITIVE,
    SENSITIVITY,
    TEMPERATURE,
    Assessment,
)
from experiments.studies.medical.calibration import BINS
from experiments.studies.medical.diagnoses import Diagnosis, Published
from experiments.studies.medical.networks import Network, shown
from experiments.studies.medical.recipes import ONCE
from experiments.studies.medical.settings import Settings
from experiments.studies.medical.weighting import class_weights

DISCLAIMER = (
    "It is not a medical device: nothing here was validated on patients, and no number should "
    "inform a decision about one."
)


def make_results(
    settings: Settings,
    diagnosis: Diagnosis,
    contests: Sequence[methods.Contest],
    networks: Sequence[Network],
    failures: Sequence[str],
) -> runner.Results:
    """Returns the tables of the methods and of the assessments, the notes and the verdict.

    Args:
      settings: of the study.
      diagnosis: the data.
      contests: the results of the methods.
      networks: assessed.
      failures: notes on networks that could not be assessed.
    """
    notes = [*_notes(settings, diagnosis), *failures, *_notes_on_calibration(networks)]
    found = methods.results(f"Diagnosis: {diagnosis.title}", contests, notes)
    values = {title: dict(by_method) for title, by_method in found.values.items()}
    for each in networks:
        values[each.recipe][each.method]["diagnosis"] = each.assessment.values()
    if not networks:
        return found._replace(verdict=f"{found.verdict} {DISCLAIMER}")
    tables = [_accuracies(networks, diagnosis), _points(networks), _calibrations(networks)]
    return found._replace(
        values=values,
        verdict=f"{found.verdict} {_verdict(diagnosis, shown(networks))}",
        tables=[*found.tables, *tables],
    )


def _accuracies(networks: Sequence[Network], diagnosis: Diagnosis) -> Table:
    columns = ("network", "AUC", "accuracy", "sensitivity", "specificity")
    rows = []
    for each in networks:
        counts = each.assessment.points[HALF].test
        rates = counts.accuracy, counts.sensitivity, counts.specificity
        rows.append((each.name, str(each.assessment.auc), *map(str, rates)))
    rows += [_published_row(each) for each in diagnosis.published]
    return Table(columns, rows, "Diagnosis on the test part, at a probability of 1/2")


def _published_row(each: Published) -> Sequence[str]:
    auc = "-" if each.auc is None else f"{each.auc:.3f}"
    return f"published: {each.method}", auc, f"{each.accuracy:.3f}", "-", "-"


def _points(networks: Sequence[Network]) -> Table:
    columns = (
        "network",
        "threshold by",
        "probability",
        "sensitivity on validation",
        "sensitivity",
        "specificity",
        "accuracy",
    )
    rows = [
        (
            each.name,
            chosen,
            f"{point.probability:.3g}",
            f"{point.validation.sensitivity.value:.3f}",
            *map(str, (point.test.sensitivity, point.test.specificity, point.test.accuracy)),
        )
        for each in networks
        for chosen, point in each.assessment.points.items()
        if chosen != HALF
    ]
    return Table(columns, rows, "Operating points on the test part")


def _calibrations(networks: Sequence[Network]) -> Table:
    columns = (
        "network",
        "probabilities",
        "slope",
        "intercept",
        "log loss",
        "Brier score",
        "calibration error",
        "if calibrated",
        "accuracy at 1/2",
    )
    rows = [
        (
            network.name,
            kind,
            f"{each.recalibration.slope:.3g}",
            f"{each.recalibration.intercept:.3g}",
            f"{each.log_loss:.4f}",
            f"{each.brier:.4f}",
            f"{each.error.value:.4f}",
            f"{each.error.if_calibrated:.4f}",
            f"{each.at_half.accuracy.value:.3f}",
        )
        for network in networks
        for kind, each in network.assessment.calibrations.items()
    ]
    return Table(columns, rows, "Calibration on the test part")


def _verdict(diagnosis: Diagnosis, network: Network) -> str:
    found = network.assessment
    accuracy, point = found.points[HALF].test.accuracy, found.points[SENSITIVE].test
    sentences = [
        f"{diagnosis.disease.capitalize()} by {network.name}: AUC {found.auc}, accuracy {accuracy} "
        "on the test part."
    ]
    if diagnosis.published:
        sentences.append(_comparison(diagnosis, found, parameters(diagnosis)))
    sentences.append(
        f"At the threshold with a sensitivity of {SENSITIVITY:.0%} on the validation part, the "
        f"sensitivity is {point.sensitivity} and the specificity {point.specificity}."
    )
    return " ".join([*sentences, DISCLAIMER])


def _comparison(diagnosis: Diagnosis, found: Assessment, count: int) -> str:
    """Returns both differences to the first published result; behind it, also the sizes."""
    best = diagnosis.published[0]
    accuracy = found.points[HALF].test.accuracy.value
    differences = [f"the accuracy {accuracy - best.accuracy:+.3f}"]
    behind = accuracy < best.accuracy
    if best.auc is not None:
        differences.insert(0, f"the AUC {found.auc.value - best.auc:+.3f}")
        behind |= found.auc.value < best.auc
    sizes = f"; the network has {count:,} parameters, {best.method} about 11 million"
    shown = " and ".join(differences)
    return f"Relative to the published {best.method}: {shown}{sizes if behind else ''}."


def parameters(diagnosis: Diagnosis) -> int:
    """Returns the number of parameters of the model."""
    return parameter_count(nnx.eval_shape(lambda: diagnosis.task.build(nnx.Rngs(0))))


def _notes(settings: Settings, diagnosis: Diagnosis) -> list[str]:
    task, (first, second) = diagnosis.task, diagnosis.classes
    weights = class_weights(task.train.arrays.targets, 2)
    shares = [
        f"{np.mean(diagnosis.labels(part)):.1%} of {part.examples:,} {name}"
        for name, part in (
            ("training", task.train),
            ("validation", task.validation),
            ("test", task.test),
        )
    ]
    source = (
        ["Published results: J. Yang et al., MedMNIST v2, Scientific Data 10, 2023."]
        if diagnosis.published
        else []
    )
    once = [METHODS[name].title for name in settings.methods if name in ONCE]
    unweighted = [f"Trained without these weights, too: {', '.join(once)}."] if once else []
    return [
        DISCLAIMER,
        f"{task.name}: {task.source}",
        f"{diagnosis.disease.capitalize()} are {', '.join(shares)} examples. Recalibration on the "
        "validation part cannot correct a share that differs on the test part.",
        f"The model is {settings.model_name} with {parameters(diagnosis):,} parameters.",
        f"The loss weights {first} by {weights[0]:.3g} and {second} by {weights[1]:.3g}, the "
        "inverse frequencies of the classes in the training part; so does the test loss of the "
        "first table. The log loss of the table of calibration is not weighted.",
        *unweighted,
        "Diagnoses are of the first network of each method, at its best learning rate and "
        "evaluation. Thresholds, temperature and Platt scaling are fitted on the validation part, "
        "which also selects these. Scaling uses Platt's targets. Test examples are used for no "
        "choice. Of the methods, the verdict and the figures show self-tuning Adam if it is "
        "trained, otherwise the first.",
        "Intervals of the diagnosis are 95% intervals: DeLong's on the scale of log-odds for the "
        "AUC, Wilson's for rates. They are for other test examples of the same kind, not for other "
        "trainings.",
        f"The calibration error (expected calibration error, {BINS} bins of equal width) is biased "
        "upward. The next column has its expectation if the labels were drawn with the "
        "probabilities.",
        *source,
    ]


def _notes_on_calibration(networks: Sequence[Network]) -> list[str]:
    """Returns a note for each recalibration, with the networks that it made worse."""
    notes = []
    for kind in (TEMPERATURE, PLATT):
        worse = []
        for network in networks:
            found = network.assessment.calibrations
            if found[kind].brier > found[RAW].brier:
                worse.append(network.name)
        if worse:
            notes.append(
                f"{kind} raised the Brier score on the test part for {len(worse)} of "
                f"{len(networks)} networks: {'; '.join(worse)}."
            )
    return notes
