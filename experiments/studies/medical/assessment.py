"""Everything that is measured of a network, from its probabilities on the two held-out parts.

Thresholds and recalibrations are fitted on the validation part and measured on the test part.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.studies.medical.calibration import (
    CalibrationError,
    brier_score,
    calibration_error,
    log_loss,
)
from experiments.studies.medical.decisions import (
    Confusion,
    confusion,
    sensitive_threshold,
    youden_threshold,
)
from experiments.studies.medical.recalibration import (
    UNCHANGED,
    Recalibration,
    platt_scaling,
    positive_log_odds,
    sigmoid,
    temperature_scaling,
)
from experiments.studies.medical.roc import Auc, auc

SENSITIVITY = 0.95
HALF, YOUDEN = "probability 1/2", "Youden's J"
SENSITIVE = f"sensitivity {SENSITIVITY:.0%}"
RAW, TEMPERATURE, PLATT = "as trained", "temperature scaling", "Platt scaling"


class OperatingPoint(NamedTuple):
    """Decisions at a threshold.

    Attributes:
      log_odds: the threshold of the network's log-odds.
      validation, test: the counts on each part.
    """

    log_odds: float
    validation: Confusion
    test: Confusion

    @property
    def probability(self) -> float:
        """The threshold of the network's probability."""
        return float(sigmoid(np.array(self.log_odds)))


class Calibration(NamedTuple):
    """Probabilities on the test part.

    Attributes:
      recalibration: the map of the log-odds, fitted on the validation part.
      brier: the Brier score.
      log_loss: the cross entropy in nats, without weights.
      error: the expected calibration error and its bias.
      at_half: the counts if the probability 1/2 is the threshold.
    """

    recalibration: Recalibration
    brier: float
    log_loss: float
    error: CalibrationError
    at_half: Confusion


class Assessment(NamedTuple):
    """A network on the test part.

    Attributes:
      labels: bool[n], True for the disease.
      log_odds: f64[n] of the disease.
      auc: the area under the ROC curve.
      points: the operating points `HALF`, `YOUDEN` and `SENSITIVE`.
      calibrations: probabilities as they are, `RAW`, and recalibrated, `TEMPERATURE` and `PLATT`.
    """

    labels: np.ndarray
    log_odds: np.ndarray
    auc: Auc
    points: Mapping[str, OperatingPoint]
    calibrations: Mapping[str, Calibration]

    def values(self) -> dict[str, Any]:
        """Returns the numbers by name."""
        points = {
            name: {
                "probability": point.probability,
                "validation": point.validation._asdict(),
                "test": point.test._asdict(),
                "test_intervals": {
                    rate: [*getattr(point.test, rate).interval()]
                    for rate in ("accuracy", "sensitivity", "specificity")
                },
            }
            for name, point in self.points.items()
        }
        calibrations = {
            name: {
                **each.recalibration._asdict(),
                "brier": each.brier,
                "log_loss": each.log_loss,
                "expected_calibration_error": each.error.value,
                "if_calibrated": each.error.if_calibrated,
                "accuracy": each.at_half.accuracy.value,
            }
            for name, each in self.calibrations.items()
        }
        return {"auc": self.auc._asdict(), "points": points, "calibrations": calibrations}


def assess(
    labels: tuple[np.ndarray, np.ndarray],
    probabilities: tuple[np.ndarray, np.ndarray],
    positive: int,
) -> Assessment:
    """Returns the assessment of a network.

    Args:
      labels: bool[n] of the validation and of the test part, True for the disease.
      probabilities: f32[n, 2] of the classes, on the validation and on the test part.
      positive: the number of the disease's class, 0 or 1.

    Raises:
      ValueError: a part lacks a class, or the probabilities are not finite or all equal.

    Example:
      >>> p = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.1, 0.9]])
      >>> labels = np.array([0, 0, 1, 1])
      >>> found = assess((labels, labels), (p, p), positive=1)
      >>> found.auc.value, found.points[HALF].test.accuracy.value
      (0.75, 0.5)
    """
    held_out, test = (positive_log_odds(each, positive) for each in probabilities)
    thresholds = {
        HALF: 0.0,
        YOUDEN: youden_threshold(labels[0], held_out),
        SENSITIVE: sensitive_threshold(labels[0], held_out, SENSITIVITY),
    }
    points = {
        name: OperatingPoint(
            each, confusion(labels[0], held_out, each), confusion(labels[1], test, each)
        )
        for name, each in thresholds.items()
    }
    fits = {
        RAW: UNCHANGED,
        TEMPERATURE: temperature_scaling(labels[0], held_out),
        PLATT: platt_scaling(labels[0], held_out),
    }
    calibrations = {name: _calibration(labels[1], test, fit) for name, fit in fits.items()}
    return Assessment(labels[1], test, auc(labels[1], test), points, calibrations)


def _calibration(labels: np.ndarray, log_odds: np.ndarray, fit: Recalibration) -> Calibration:
    mapped = fit.log_odds(log_odds)
    p = sigmoid(mapped)
    return Calibration(
        fit,
        brier_score(labels, p),
        log_loss(labels, mapped),
        calibration_error(labels, p),
        confusion(labels, mapped, 0.0),
    )
