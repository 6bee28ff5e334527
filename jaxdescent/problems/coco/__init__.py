"""The BBOB functions of COCO, a platform that compares black-box optimizers."""

from jaxdescent.problems.coco.problem import bbob

__all__ = ["bbob"]
