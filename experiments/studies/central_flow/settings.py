"""Settings of the central flow study: optimizers and scales."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import optax

import jaxdescent as jd
from experiments import runner

LOSS_TOLERANCE, VARIANCE_TOLERANCE = 0.05, 0.15  # relative errors of accurate predictions
WINDOW = 200  # steps per window, for the range of the variance ratio
SUBSTEPS = 4  # of the central flow per optimizer step


class Case(NamedTuple):
    """An optimizer with its flow.

    Attributes:
      title: the name in tables and figures.
      flow_optimizer: the optimizer in the form that flows take.
      tx: the same optimizer of optax.
      steps: optimizer steps at scale small.
      k: number of eigenvalues to track; if possible, at least one more than reach the edge.
    """

    title: str
    flow_optimizer: jd.flows.FlowOptimizer
    tx: optax.GradientTransformation
    steps: int
    k: int


Name = Literal["gd", "polyak", "rmsprop", "adam"]

CASES: dict[Name, Case] = {
    "gd": Case("GD, rate .15", jd.flows.sgd(0.15), optax.sgd(0.15), 1500, 6),
    "polyak": Case("Polyak .5, rate .15", jd.flows.sgd(0.15, 0.5), optax.sgd(0.15, 0.5), 1500, 4),
    "rmsprop": Case(
        "RMSProp .99, rate 3e-4", jd.flows.rmsprop(3e-4, 0.99), optax.rmsprop(3e-4, 0.99), 1200, 5
    ),
    "adam": Case("Adam, rate 1e-3", jd.flows.adam(1e-3), optax.adam(1e-3), 2400, 3),
}


class Scale(NamedTuple):
    """The size of the study.

    Attributes:
      images: training examples.
      width: of the hidden layers.
      factor: number of steps, relative to scale small.
      probes: times at which the optimizer's eigenvalues are measured.
    """

    images: int
    width: int
    factor: float
    probes: int

    def steps_of(self, case: Case) -> int:
        """Returns the number of optimizer steps, a multiple of the number of probes."""
        return round(case.steps * self.factor / self.probes) * self.probes


SCALES = {
    "smoke": Scale(40, 6, 0.02, 6),
    "small": Scale(300, 32, 1.0, 60),
    "full": Scale(1078, 200, 2.0, 60),
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the central flow study."""

    may_change: ClassVar = (*runner.Settings.may_change, "optimizers")
    optimizers: tuple[Name, ...] = tuple(CASES)
    """The optimizers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.optimizers or len({*self.optimizers}) < len(self.optimizers):
            raise ValueError(
                f"--optimizers must be different ones of {', '.join(CASES)}, got {self.optimizers}"
            )
