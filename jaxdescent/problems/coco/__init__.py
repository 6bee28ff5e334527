"""The functions of COCO, the platform to compare optimizers: BBOB."""

from jaxdescent.problems.coco.suite import bbob as bbob
