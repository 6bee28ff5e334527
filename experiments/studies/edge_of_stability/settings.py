"""Settings of the study: optimizers with their thresholds, cases and scales."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import optax

import jaxdescent as jd
from experiments import runner


class OptimizerWithThreshold(NamedTuple):
    """An optimizer and its stability threshold; both read the learning rate from the state.

    Attributes:
      factory: takes `learning_rate`.
      threshold: the stability threshold.
      takes_grad_fn: True if `update` takes `grad_fn`.
    """

    factory: Callable[..., optax.GradientTransformation]
    threshold: jd.thresholds.Threshold
    takes_grad_fn: bool = False


RHO = 0.05


def _sam(learning_rate: Any) -> optax.GradientTransformation:
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
    return optax.contrib.sam(optax.sgd(learning_rate), ascent, opaque_mode=True)


_momentum = partial(optax.sgd, momentum=0.9)
_rmsprop = partial(optax.rmsprop, decay=0.99, eps_in_sqrt=False)

OPTIMIZERS = {
    "GD": OptimizerWithThreshold(optax.sgd, jd.thresholds.sgd()),
    "Polyak": OptimizerWithThreshold(_momentum, jd.thresholds.sgd(momentum=0.9)),
    "Nesterov": OptimizerWithThreshold(
        partial(_momentum, nesterov=True), jd.thresholds.sgd(momentum=0.9, nesterov=True)
    ),
    "RMSProp": OptimizerWithThreshold(
        _rmsprop, jd.thresholds.rmsprop(decay=0.99, eps_in_sqrt=False)
    ),
    "Adam": OptimizerWithThreshold(optax.adam, jd.thresholds.adam()),
    "SAM": OptimizerWithThreshold(_sam, jd.thresholds.sam(rho=RHO), takes_grad_fn=True),
}

Role = Literal["edge", "far below", "too large", "scaled"]


class Case(NamedTuple):
    """An optimizer at a learning rate.

    Attributes:
      optimizer: one of `OPTIMIZERS`.
      role: what is expected of the sharpness: at the edge of stability; far below it; a learning
        rate so large that some seeds may diverge; or scaled by `jd.scale_by_sharpness`.
      learning_rate: the learning rate; `None` if it is scaled.
      fraction: of the threshold at which the sharpness is kept, if it is scaled.
    """

    optimizer: str
    role: Role
    learning_rate: float | None = None
    fraction: float | None = None

    @property
    def name(self) -> str:
        """The name in logs, tables and figures."""
        if self.fraction is not None:
            return f"{self.optimizer}, scaled to {self.fraction:g}"
        return f"{self.optimizer}, rate {self.learning_rate:g}"


# Momentum's first instability moves the sharpness far below the threshold. A run of 1,500 steps
# would end before the sharpness has risen again.
STEPS = {"smoke": 60, "small": 4_000, "full": 10_000}
IMAGES = {"smoke": 32, "small": 512, "full": 1_078}
# Learning rates that reach the edge early; two for GD and for Polyak.
DIGITS = (
    Case("GD", "edge", 0.1),
    Case("GD", "edge", 0.2),
    Case("Polyak", "edge", 0.1),
    Case("Polyak", "edge", 0.05),
    Case("Nesterov", "edge", 0.04),
    Case("RMSProp", "edge", 1e-4),
    Case("Adam", "edge", 3e-4),
    Case("SAM", "edge", 0.1),
    Case("GD", "far below", 0.01),
    Case("Adam", "far below", 1e-5),
    Case("Polyak", "too large", 0.2),
    Case("Nesterov", "too large", 0.08),
    Case("GD", "scaled", fraction=0.9),
    Case("GD", "scaled", fraction=1.0),
)
SMOKE = (
    Case("GD", "edge", 0.2),
    Case("GD", "far below", 0.01),
    Case("GD", "scaled", fraction=0.9),
)
CIFAR_STEPS = {"smoke": 20, "small": 3_500, "full": 20_000}
CIFAR_IMAGES = {"smoke": 16, "small": 1_000, "full": 5_000}
CIFAR_SEEDS = {"smoke": 1, "small": 1, "full": 5}
CIFAR = (Case("GD", "edge", 0.01), Case("GD", "edge", 0.05))
# Sharpness over threshold of the quadratics.
RATIOS = {"smoke": (), "small": (0.5, 0.99, 1.01, 1.1, 3.0), "full": (0.5, 0.99, 1.01, 1.1, 3.0)}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the edge of stability study."""

    may_change: ClassVar = (*runner.Settings.may_change, "tasks", "seeds", "data_dir")
    tasks: tuple[Literal["digits", "cifar10"], ...] = ("digits", "cifar10")
    """Data sets. CIFAR-10 is skipped if it is not found, and the report says so."""
    seeds: int = 5
    """Number of networks for each case; on CIFAR-10 only one, except at scale full."""
    data_dir: Path | None = None
    """Folder of CIFAR-10; by default the environment variable JAXDESCENT_DATA."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks:
            raise ValueError("--tasks must name at least one")
        object.__setattr__(self, "tasks", tuple(dict.fromkeys(self.tasks)))
