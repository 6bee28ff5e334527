"""Settings of the study of shallow networks."""

import dataclasses
from typing import NamedTuple

import jaxdescent as jd
from experiments import runner
from experiments.studies.shallow_nets.tasks import TASK_NAMES

AGENTS = 64
TASKS = {"smoke": ("iris", "diabetes"), "small": TASK_NAMES, "full": TASK_NAMES}
SEEDS = {"smoke": 1, "small": 4, "full": 10}
NUM_RUNGS = {"smoke": 8, "small": 40, "full": 40}
STEPS_PER_RUNG = {"smoke": 8, "small": 50, "full": 50}
BATCH_SIZE = 32
LOG10_RATES = (-4.0, -1.0)  # range of learning rates that differ between agents
AVERAGE_DECAY = 0.95  # of the running average of the parameters

# No agent is pruned for an eighth of 40 rungs. Then comes the slowest successive halving, to a
# hundredth of the agents, whose compute over 40 rungs is less than a quarter.
UNPRUNED_RUNGS, ETA = 5, 1.37
RULE = jd.pruning.delay(UNPRUNED_RUNGS, jd.pruning.successive_halving(ETA))
TARGET_REGRET, ALLOWED_COMPUTE = 0.01, 0.25


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of shallow networks."""


class Regime(NamedTuple):
    """Training regime.

    Attributes:
      title: the name in tables and figures.
      learning_rate: the learning rate of all agents; None if it differs between agents.
      decays: True if the learning rate decays to 0 and networks are evaluated at the running
        average of their parameters.
    """

    title: str
    learning_rate: float | None
    decays: bool = True


REGIMES = {
    "starts": Regime("starts differ", 3e-2),
    "rates": Regime("starts and rates differ", None),
    "constant": Regime("starts differ, constant rate", 1e-2, decays=False),
}


def num_steps(scale: str) -> int:
    """Returns the number of training steps."""
    return NUM_RUNGS[scale] * STEPS_PER_RUNG[scale]
