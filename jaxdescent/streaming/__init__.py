"""Online learning on a stream that changes, one value or example at a time.

    detector = jd.streaming.adwin()
    state, detection = detector.update(state, error)       # detection.drift, detection.warning

Drift detectors tell when the values of a stream change:

    adwin                  the means of two parts of an adaptive window differ
    page_hinkley           sums of deviations from the mean
    ddm                    the error rate rises above its lowest
    kswin                  the distribution in a window changes
    Detector, Detection    the protocol, and the outcome of an update
    AdwinState, PageHinkleyState, DDMState, KSWINState
                           their states, with estimates such as the mean

Reactions change an optimizer after an alarm, given as `update(..., drift=detection.drift)`:

    react_to_drift         an optimizer with reactions
    reset_statistics       initialize the optimizer again
    raise_learning_rate    larger updates for a while
    restart_average        begin the average of the parameters again
    forget                 move the parameters back to the first ones
    Reaction, ReactionState
                           the protocol, and the state of such an optimizer
"""

from jaxdescent.streaming.detectors.adwin import AdwinState, adwin
from jaxdescent.streaming.detectors.ddm import DDMState, ddm
from jaxdescent.streaming.detectors.detector import Detection, Detector
from jaxdescent.streaming.detectors.kswin import KSWINState, kswin
from jaxdescent.streaming.detectors.page_hinkley import PageHinkleyState, page_hinkley
from jaxdescent.streaming.reactions import (
    Reaction,
    ReactionState,
    forget,
    raise_learning_rate,
    react_to_drift,
    reset_statistics,
    restart_average,
)

__all__ = [
    "AdwinState",
    "DDMState",
    "Detection",
    "Detector",
    "KSWINState",
    "PageHinkleyState",
    "Reaction",
    "ReactionState",
    "adwin",
    "ddm",
    "forget",
    "kswin",
    "page_hinkley",
    "raise_learning_rate",
    "react_to_drift",
    "reset_statistics",
    "restart_average",
]


def __dir__() -> list[str]:
    return __all__
