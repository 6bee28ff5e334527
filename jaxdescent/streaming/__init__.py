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
"""

from jaxdescent.streaming.detectors.adwin import AdwinState, adwin
from jaxdescent.streaming.detectors.ddm import DDMState, ddm
from jaxdescent.streaming.detectors.detector import Detection, Detector
from jaxdescent.streaming.detectors.kswin import KSWINState, kswin
from jaxdescent.streaming.detectors.page_hinkley import PageHinkleyState, page_hinkley

__all__ = [
    "AdwinState",
    "DDMState",
    "Detection",
    "Detector",
    "KSWINState",
    "PageHinkleyState",
    "adwin",
    "ddm",
    "kswin",
    "page_hinkley",
]


def __dir__() -> list[str]:
    return __all__
