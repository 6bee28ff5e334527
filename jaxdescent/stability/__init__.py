"""Sharpness, the edge of stability, and step sizes beyond the classical ones.

    sharpness     eigenvalues of a loss's Hessian; optimizers that record or use them
    thresholds    the largest sharpness at which an optimizer is stable
    step_sizes    schedules and transformations with long steps
    flows         differential equations for the path of an optimizer

`jaxdescent.stability.sharpness` is a package; `jd.sharpness` is the function `sharpness` in it.
"""

from jaxdescent.stability import flows, sharpness, step_sizes, thresholds

__all__ = ["flows", "sharpness", "step_sizes", "thresholds"]
