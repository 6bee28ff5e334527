"""The registry of workloads: each entry of `WORKLOADS` is a task of the studies of tuning.

A task is added by one entry, here. The studies share these tasks, three optimizers whose learning
rate has to be found, and a grid of learning rates for each optimizer.

Which tasks are for development is decided here, before any result: constants of `jd.self_tuning`
may be chosen on the tasks with `development=True`, and on no other. The remaining tasks are only
reported.
"""

import dataclasses
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import optax

from experiments import runner
from experiments.data import DataError
from experiments.tasks import ModelConfig
from experiments.tuning import adaptations
from experiments.tuning.generated import Deterministic, Generated, Nonstationary
from experiments.tuning.problems import control, equations, fine_tuning, logistic, memory, streams
from experiments.tuning.protocol import CHUNKS, PreparedWorkload, Workload
from experiments.tuning.supervised import WINDOWS, Supervised

__all__ = [
    "CHUNKS",
    "FACTORIES",
    "GRIDS",
    "WINDOWS",
    "WORKLOADS",
    "PreparedWorkload",
    "Settings",
    "Workload",
    "in_turn",
    "prepare_workloads",
]

_MLP = ModelConfig("mlp", width=64)
WORKLOADS: dict[str, Workload] = {
    # For development.
    "digits": Supervised(
        title="digits MLP",
        data="digits",
        model=_MLP,
        batch_size=16,
        steps=600,
        development=True,
    ),
    "mnist": Supervised(
        title="MNIST MLP",
        data="mnist",
        model=_MLP,
        batch_size=64,
        steps=1_500,
        development=True,
    ),
    "autoencoder": Supervised(
        title="MNIST autoencoder",
        data="mnist",
        model=_MLP,
        adapt=adaptations.autoencoding,
        batch_size=64,
        steps=500,
        development=True,
    ),
    "elec2": Supervised(
        title="Elec2 MLP, batch 1",
        data="elec2",
        model=ModelConfig("mlp", width=32, depth=2),
        adapt=adaptations.shuffled,
        batch_size=1,
        steps=6_000,
        networks=16,
        solved_below=0.6,
        development=True,
    ),
    "adding": Generated(
        title="adding GRU",
        problem=memory.adding,
        steps=1_500,
        solved_below=0.02,
        development=True,
    ),
    "low_rank": Generated(
        title="low-rank regression",
        problem=fine_tuning.low_rank_regression,
        steps=1_000,
        development=True,
    ),
    "poisson": Deterministic(
        title="Poisson PINN",
        problem=equations.poisson,
        steps=2_000,
        development=True,
    ),
    "drift": Nonstationary(
        title="drifting regression",
        problem=streams.drifting_regression,
        steps=3_000,
        development=True,
    ),
    "jumps": Nonstationary(
        title="jumping regression",
        problem=streams.jumping_regression,
        steps=3_000,
        development=True,
    ),
    "relabeled": Nonstationary(
        title="relabeled clusters MLP",
        problem=streams.relabeled_clusters,
        score_every=10,
        steps=3_000,
        development=True,
    ),
    "cart_pole": Nonstationary(
        title="cart-pole A2C",
        problem=control.cart_pole,
        score_every=20,
        steps=600,
        networks=8,
        solved_below=0.3,
        development=True,
    ),
    # Only reported.
    "diabetes": Supervised(
        title="diabetes MLP", data="diabetes", model=_MLP, batch_size=16, steps=300
    ),
    "pneumonia": Supervised(
        title="PneumoniaMNIST CNN",
        data="pneumoniamnist",
        model=ModelConfig("cnn"),
        batch_size=32,
        steps=300,
    ),
    "shakespeare": Supervised(
        title="tinyshakespeare transformer",
        data="tinyshakespeare",
        model=ModelConfig("transformer", size="0.1M"),
        batch_size=16,
        steps=800,
        context=32,
    ),
    "mnist_256": Supervised(
        title="MNIST deep MLP, batch 256",
        data="mnist",
        model=ModelConfig("mlp", width=64, depth=3),
        batch_size=256,
        steps=600,
    ),
    "mnist_1": Supervised(
        title="MNIST MLP, batch 1",
        data="mnist",
        model=ModelConfig("mlp", width=32),
        batch_size=1,
        steps=2_000,
        networks=12,
        solved_below=1.0,
    ),
    "friedman_1": Supervised(
        title="Friedman MLP, batch 1",
        data="friedman1",
        model=ModelConfig("mlp", width=32),
        batch_size=1,
        steps=3_000,
        networks=16,
        solved_below=0.6,
    ),
    "recall": Generated(title="recall LSTM", problem=memory.recall, steps=1_000),
    "rotated": Generated(
        title="low-rank rotated digits", problem=fine_tuning.rotated_digits, steps=600
    ),
    "new_digits": Generated(
        title="fine-tuning to new digits", problem=fine_tuning.new_digits, steps=400
    ),
    "logistic": Deterministic(
        title="breast cancer logistic", problem=logistic.breast_cancer, steps=500
    ),
    "burgers": Deterministic(title="Burgers PINN", problem=equations.burgers, steps=1_500),
    "permuted": Nonstationary(
        title="permuted digits MLP", problem=streams.permuted_digits, score_every=10, steps=3_000
    ),
    "rotating": Nonstationary(
        title="rotating classes MLP", problem=streams.rotating_classes, score_every=10, steps=3_000
    ),
    "point_mass": Nonstationary(
        title="point mass REINFORCE", problem=control.point_mass, score_every=10, steps=500
    ),
}
if TYPE_CHECKING:
    WorkloadName = str
else:
    WorkloadName = Literal[tuple(WORKLOADS)]


def _momentum(learning_rate: Any) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=0.9)


def _adam(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adam(learning_rate)


def _adamw(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=1e-2)


FACTORIES = {"sgd": _momentum, "adam": _adam, "adamw": _adamw}
OptimizerName = Literal["sgd", "adam", "adamw"]
# Two learning rates per decade. The reports say where the best one is at an end of its grid.
_ADAM_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
GRIDS = {
    "sgd": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
    "adam": _ADAM_GRID,
    "adamw": _ADAM_GRID,
}
SMOKE = ("digits", "drift")  # tasks at scale smoke
SMOKE_GRID = (1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a study that runs trials of optimizers on workloads."""

    may_change: ClassVar = (*runner.Settings.may_change, "tasks", "optimizers", "data_dir")
    tasks: tuple[WorkloadName, ...] | None = None
    """Tasks; by default all, at scale smoke two. A task whose data is missing is skipped, and the
    report says so."""
    optimizers: tuple[OptimizerName, ...] = ("sgd", "adam", "adamw")
    """Optimizers to tune. sgd has momentum 0.9; adamw has weight decay 0.01."""
    data_dir: Path | None = None
    """Folder of the data files; by default the environment variable JAXDESCENT_DATA."""
    seeds: int = 3
    """Networks trained in parallel, each with its own initialization and data order. Some tasks
    have more at scales small and full."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"--seeds must be in [1, inf), got {self.seeds}")
        if self.tasks is None:
            everything = tuple(WORKLOADS)
            object.__setattr__(self, "tasks", SMOKE if self.scale == "smoke" else everything)
        for name in ("tasks", "optimizers"):
            value = tuple(getattr(self, name))  # a list when a run is resumed
            if not value:
                raise ValueError(f"--{name} must name at least one")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))

    def grid(self, optimizer: str) -> tuple[float, ...]:
        """Returns the fixed learning rates to try."""
        return SMOKE_GRID if self.scale == "smoke" else GRIDS[optimizer]


def prepare_workloads(
    settings: Settings, run: runner.Run
) -> tuple[list[PreparedWorkload], list[str]]:
    """Returns the workloads whose data is found, and a sentence for each that is skipped."""
    prepared: list[PreparedWorkload] = []
    skipped: list[str] = []
    for name in settings.tasks or ():
        try:
            workload = WORKLOADS[name].prepare(settings)
        except DataError as error:
            skipped.append(f"{WORKLOADS[name].title} is skipped: {error}")
            continue
        if workload.digest:
            run.pin(f"data of {name}", workload.digest)
        prepared.append(workload)
    return prepared, skipped


def in_turn(workloads: Sequence[PreparedWorkload]) -> Iterator[PreparedWorkload]:
    """Yields workloads, and discards the compiled programs of each before the next."""
    for workload in workloads:
        yield workload
        gc.collect()  # optimizers and their programs refer to each other
        jax.clear_caches()
