"""The tables, notes and verdict of the medical study."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import nnx

from experiments import runner
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
from experiments.studies.medical.settings import BATCH_SIZES, Settings
from experiments.studies.medical.training import Trained
from experiments.studies.medical.weighting import class_weights

DISCLAIMER = (
    "It is not a medical device: nothing here was validated on patients, and no number should "
    "inform a decision about one."
)


class Network(NamedTuple):
    """A trained network and its assessment."""

    trained: Trained
    assessment: Assessment


def make_results(
    settings: Settings, diagnosis: Diagnosis, networks: Mapping[str, Network]
) -> runner.Results:
    """Returns the tables and the notes; the first network is the one of the verdict."""
    columns = ("network", "AUC", "accuracy at probability 1/2", "steps")
    rows = [_row(name, network) for name, network in networks.items()]
    rows += [_published_row(each) for each in diagnosis.published]
    assessments = {name: each.assessment for name, each in networks.items()}
    values = {
        name: {
            **each.assessment.values(),
            "step": each.trained.step,
            "validation_loss": each.trained.loss,
        }
        for name, each in networks.items()
    }
    return runner.Results(
        f"Diagnosis: {diagnosis.title}",
        columns,
        rows,
        [*_notes(settings, diagnosis), *_notes_on_calibration(assessments)],
        values,
        _verdict(diagnosis, next(iter(networks.values())).assessment),
        [_points(assessments), _calibrations(assessments)],
    )


def _row(name: str, network: Network) -> Sequence[str]:
    found = network.assessment
    accuracy = found.points[HALF].test.accuracy
    return name, str(found.auc), str(accuracy), f"{int(network.trained.step):,}"


def _published_row(each: Published) -> Sequence[str]:
    auc = "-" if each.auc is None else f"{each.auc:.3f}"
    return f"published: {each.method}", auc, f"{each.accuracy:.3f}", "-"


def _points(assessments: Mapping[str, Assessment]) -> Table:
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
            name,
            chosen,
            f"{point.probability:.3g}",
            f"{point.validation.sensitivity.value:.3f}",
            *map(str, (point.test.sensitivity, point.test.specificity, point.test.accuracy)),
        )
        for name, found in assessments.items()
        for chosen, point in found.points.items()
    ]
    return Table(columns, rows, "Operating points on the test part")


def _calibrations(assessments: Mapping[str, Assessment]) -> Table:
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
            name,
            kind,
            f"{each.recalibration.slope:.3g}",
            f"{each.recalibration.intercept:.3g}",
            f"{each.log_loss:.4f}",
            f"{each.brier:.4f}",
            f"{each.error.value:.4f}",
            f"{each.error.if_calibrated:.4f}",
            f"{each.at_half.accuracy.value:.3f}",
        )
        for name, found in assessments.items()
        for kind, each in found.calibrations.items()
    ]
    return Table(columns, rows, "Calibration on the test part")


def _verdict(diagnosis: Diagnosis, found: Assessment) -> str:
    accuracy, point = found.points[HALF].test.accuracy, found.points[SENSITIVE].test
    sentences = [
        f"{diagnosis.disease.capitalize()}: AUC {found.auc}, accuracy {accuracy} on the test part."
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
    return [
        DISCLAIMER,
        f"{task.name}: {task.source}",
        f"{diagnosis.disease.capitalize()} are {', '.join(shares)} examples. Recalibration on the "
        "validation part cannot correct a share that differs on the test part.",
        f"The model is {settings.model_name} with {parameters(diagnosis):,} parameters, trained by "
        f"jd.self_tuning(optax.adamw) on batches of {BATCH_SIZES[settings.data_name]} for "
        f"{settings.length.steps:,} steps. The network with the lowest validation loss is taken.",
        f"The balanced loss weights {first} by {weights[0]:.3g} and {second} by {weights[1]:.3g}, "
        "the inverse frequencies of the classes in the training part. The log loss of the table is "
        "not weighted.",
        "Thresholds, temperature and Platt scaling are fitted on the validation part, which also "
        "selects the network. Scaling uses Platt's targets. Test examples are used for no choice.",
        "Intervals are 95% intervals: DeLong's on the scale of log-odds for the AUC, Wilson's for "
        "rates. They are for other test examples of the same kind, not for other trainings.",
        f"The calibration error (expected calibration error, {BINS} bins of equal width) is biased "
        "upward. The next column has its expectation if the labels were drawn with the "
        "probabilities.",
        *source,
    ]


def _notes_on_calibration(assessments: Mapping[str, Assessment]) -> list[str]:
    """Returns a note for each network whose probabilities a recalibration made worse."""
    notes = []
    for name, found in assessments.items():
        scores = {kind: each.brier for kind, each in found.calibrations.items()}
        worse = [kind for kind in (TEMPERATURE, PLATT) if scores[kind] > scores[RAW]]
        if worse:
            notes.append(
                f"{name.capitalize()}: the Brier score on the test part rose by recalibration with "
                f"{' and with '.join(worse)}."
            )
    return notes
