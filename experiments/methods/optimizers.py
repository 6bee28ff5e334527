"""Optimizers by name, for `train --optimizer` and others. A line of `OPTIMIZERS` adds one.

Sources: K. Jordan et al. 2024 (Muon; here with the scale of J. Liu et al. 2025, arXiv:2502.16982,
so that learning rates and weight decays of AdamW suit it); K. Mishchenko, A. Defazio 2023,
arXiv:2306.06101 (Prodigy); A. Defazio et al. 2024, arXiv:2405.15682 (schedule-free AdamW).
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import optax
from optax import contrib

MUON_RMS = 0.2
"""Root mean square of Muon's updates of a matrix, relative to the learning rate; about Adam's."""


class Optimizer(NamedTuple):
    """An optimizer that `--optimizer` names.

    Attributes:
      title: its name in reports.
      make: called with the keyword `learning_rate`, and `weight_decay` and `b2` if it takes them.
      learning_rate: the default of `--learning-rate`.
      averages: `None` if the model is evaluated at its parameters; else called as
        `averages(opt_state, params)` with the state of one network; returns the parameters to
        evaluate.
      learns_rate: True if it finds its learning rate itself, up to the factor `learning_rate`.
    """

    title: str
    make: Callable[..., optax.GradientTransformation]
    learning_rate: float = 1e-3
    averages: Callable[[Any, Any], Any] | None = None
    learns_rate: bool = False

    def takes(self, keyword: str) -> bool:
        """Returns True if the optimizer has a keyword."""
        return keyword in inspect.signature(self.make).parameters

    @property
    def remedy(self) -> str:
        """The reason why nothing else may change the learning rate; "" if it may."""
        if self.learns_rate:
            return "which finds its learning rate itself"
        return "which averages its parameters instead" if self.averages else ""


def warmup_cosine(peak: Any, steps: int) -> optax.Schedule:
    """Returns a schedule that warms up in a twentieth of the steps and ends at a tenth of its peak.

    Args:
      peak: the highest learning rate, a number or an array.
      steps: the number of steps.
    """
    warmup = max(1, steps // 20)
    # A schedule of optax branches on its peak, which agents have as an array.
    share = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(steps, warmup + 1), 0.1)
    return lambda count: peak * share(count)


def schedule_free_average(opt_state: Any, params: Any) -> Any:
    """Returns the average at which a schedule-free optimizer is evaluated.

    Args:
      opt_state: has a `ScheduleFreeState`, as itself or in a chain.
      params: the parameters of the last gradient.
    """

    def is_state(node: Any) -> bool:
        return isinstance(node, contrib.ScheduleFreeState)

    states = filter(is_state, jax.tree.leaves(opt_state, is_leaf=is_state))
    return contrib.schedule_free_eval_params(next(states), params)


OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Optimizer("Adam", optax.adam),
    "adamw": Optimizer("AdamW", optax.adamw),
    "sgd": Optimizer("SGD", optax.sgd),
    "momentum": Optimizer("SGD with momentum", partial(optax.sgd, momentum=0.9)),
    "nesterov": Optimizer(
        "SGD with Nesterov momentum", partial(optax.sgd, momentum=0.9, nesterov=True)
    ),
    "rmsprop": Optimizer("RMSProp", optax.rmsprop),
    "lion": Optimizer("Lion", optax.lion),
    "muon": Optimizer("Muon", partial(contrib.muon, consistent_rms=MUON_RMS)),
    "prodigy": Optimizer("Prodigy", contrib.prodigy, learning_rate=1.0, learns_rate=True),
    "schedule_free": Optimizer(
        "Schedule-Free AdamW",
        contrib.schedule_free_adamw,
        learning_rate=2.5e-3,
        averages=schedule_free_average,
    ),
}

if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[*OPTIMIZERS]
