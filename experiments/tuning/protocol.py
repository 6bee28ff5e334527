"""The protocol of workloads: a task, a number of steps, and a loss that ranks optimizers.

There are two kinds: `supervised.Supervised`, a data set with a Flax model, and
`generated.Generated`, a few pure functions. Trials and studies use the names of this file only.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import numpy as np
import optax

from experiments import runner
from experiments.data.batches import Batches

if TYPE_CHECKING:
    from experiments.tuning.workloads import Settings

CHUNKS = 10  # per trial; the training loss of the last chunk is reported
SMOKE_STEPS = 10
FULL_FACTOR = 5  # steps at scale full, relative to scale small

Evaluated = Callable[[Any, Any], tuple[Any, Any]]
"""Called as `evaluated(opt_state, params)` for one network; returns the two parameters to evaluate:
those after the last step, and their average."""


class Training(NamedTuple):
    """Functions that train the networks of a workload with one optimizer.

    Attributes:
      start: Called as `start()`; returns the initial carry, which has the fields `params` and
        `opt_state`, with a leading axis of networks.
      program: Called as `program()`; returns the compiled chunk, a tenth of a trial, whose metrics
        are the training losses `f32[steps, networks]`.
      batches: the training batches that chunks are fed, or `None`.
      losses: Called as `losses(carry)` after the last chunk; returns the losses that count, at the
        last parameters and at their average, `f32[networks]` each.
    """

    start: Callable[[], Any]
    program: Callable[[], runner.Program]
    batches: Batches | None
    losses: Callable[[Any], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload(abc.ABC):
    """A task and how it is trained.

    Attributes:
      title: the name in tables and figures.
      steps: of a trial at scale small, a multiple of `CHUNKS`.
      development: True if constants of `jd.self_tuning` may be chosen on this task. The others are
        only reported.
      networks: the least number of networks at scales small and full, where few would hide that
        some fail; more if the studies' setting `seeds` is greater.
      solved_below: a network with a smaller loss counts as trained; `None` to report no count.
      nonstationary: True if what is learned changes during training. The loss that counts is then
        a mean over the second half of the steps, rather than the loss at the end.
      deterministic: True if every step has the same loss function.
    """

    nonstationary: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    title: str
    steps: int
    development: bool = False
    networks: int = 1
    solved_below: float | None = None

    @property
    def group(self) -> str:
        """The group of tasks that it is reported with."""
        return "development" if self.development else "report-only"

    @property
    def kind(self) -> str:
        """The kind of task, "stationary" or "nonstationary"."""
        return "nonstationary" if self.nonstationary else "stationary"

    @abc.abstractmethod
    def prepare(self, settings: "Settings") -> "PreparedWorkload":
        """Returns the workload with its data loaded.

        Raises:
          DataError: the data is missing or has unexpected content.
        """


class PreparedWorkload(abc.ABC):
    """A workload with its data loaded.

    Attributes:
      workload, settings: the arguments.
      steps: optimizer steps of a trial.
      keys: random keys of the networks.
    """

    def __init__(self, workload: Workload, settings: "Settings"):
        self.workload, self.settings = workload, settings
        smoke = settings.scale == "smoke"
        factor = FULL_FACTOR if settings.scale == "full" else 1
        self.steps = SMOKE_STEPS if smoke else factor * workload.steps
        networks = settings.seeds if smoke else max(settings.seeds, workload.networks)
        self.keys = jax.random.split(jax.random.key(settings.seed), networks)

    @property
    @abc.abstractmethod
    def params(self) -> Any:
        """The parameters of one network, as `jax.ShapeDtypeStruct`s."""

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the data, or `None` if the task has no data of its own."""
        return None

    @abc.abstractmethod
    def training(
        self,
        tx: optax.GradientTransformation,
        evaluated: Evaluated,
        *,
        needs_value_fn: bool = False,
    ) -> Training:
        """Returns the functions that train with an optimizer.

        Args:
          tx: the optimizer; its update receives the loss as `value=`.
          evaluated: returns the parameters to evaluate.
          needs_value_fn: True if the update also needs the gradient as `grad=` and the loss
            function of the step as `value_fn=`, for a line search. Only deterministic tasks can.
        """
