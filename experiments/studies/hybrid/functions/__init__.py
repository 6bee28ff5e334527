"""Classic functions outside of `jd.problems`, in two suites that were named beforehand.

DEVELOPMENT  thirty functions on which methods may be developed
REPORT       twenty functions of other families, on which nothing may be developed

Formulas are public facts; the code is ours.
"""

from experiments.studies.hybrid.functions import (
    development_planar,
    development_spatial,
    report_planar,
    report_spatial,
)
from experiments.studies.hybrid.functions.known import Known

__all__ = ["DEVELOPMENT", "REPORT", "Known"]

DEVELOPMENT: dict[str, Known] = development_planar.PLANAR | development_spatial.SPATIAL
REPORT: dict[str, Known] = report_planar.PLANAR | report_spatial.SPATIAL
