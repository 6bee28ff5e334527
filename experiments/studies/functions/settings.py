"""Settings of the study of test functions."""

import dataclasses
from typing import ClassVar, NamedTuple

import jaxdescent as jd
from experiments import runner

SOLVED = 1e-4
"""A run succeeds if its best value is less than this above the minimum."""

FIRST_SEED = 0
"""The first seed of the reported runs, before `--seed` is added."""

TUNING_SEED, NUM_TUNING_SEEDS = 1000, 40
"""The seeds on which settings were chosen: the first, and their number."""

ALL_FUNCTIONS = tuple(jd.problems.CLASSIC_SUITE)
HARD_FUNCTIONS = ALL_FUNCTIONS[:8]
MULTIMODAL = ("rastrigin", "rotated_rastrigin", "schwefel")  # many minima without a common trend

ADAM_RATES, GD_RATES = (1e-3, 1e-2, 1e-1), (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of test functions."""

    may_change: ClassVar = (*runner.Settings.may_change, "mesh")
    mesh: str | None = None
    """Devices to divide the agents of MAGD among, such as agents=8. By default one device has all.
    A run can be resumed on another mesh."""

    def __post_init__(self) -> None:
        super().__post_init__()
        devices, agents = self.axes.get("agents", 1), SETUPS[self.scale].agents
        if agents % devices:
            raise ValueError(f"--mesh must divide the {agents} agents, got agents={devices}")

    @property
    def axes(self) -> dict[str, int]:
        """Sizes of the axes of the mesh by name; empty without one."""
        return {} if self.mesh is None else runner.parse_mesh(self.mesh, ("agents",))


class Setup(NamedTuple):
    """Amount of work at a scale.

    Attributes:
      functions: the functions in two dimensions.
      runs: the number of reported runs per function in two dimensions.
      tuning_runs: the number of additional runs on which the baselines' settings are chosen.
      budget: the number of gradients of a run in two dimensions.
      budget_factors: other budgets for the hard functions, relative to `budget`.
      agents: the number of agents of multi-agent gradient descent (MAGD).
      unpruned_agents: the numbers of agents in the comparison without pruning.
      high_dimension, high_runs, high_budget: the same for the hard functions in many dimensions;
        they are left out if `high_runs` is 0.
      risk_runs: the number of runs per function that measure the risk of pruning the best agent.
    """

    functions: tuple[str, ...]
    runs: int
    tuning_runs: int
    budget: int
    budget_factors: tuple[float, ...]
    agents: int
    unpruned_agents: tuple[int, ...]
    high_dimension: int
    high_runs: int
    high_budget: int
    risk_runs: int

    @property
    def hard_functions(self) -> tuple[str, ...]:
        """The hard functions among `functions`."""
        return tuple(name for name in HARD_FUNCTIONS if name in self.functions)


SETUPS = {
    "smoke": Setup(
        functions=ALL_FUNCTIONS[1:2],
        runs=2,
        tuning_runs=1,
        budget=640,
        budget_factors=(),
        agents=32,
        unpruned_agents=(16,),
        high_dimension=0,
        high_runs=0,
        high_budget=0,
        risk_runs=2,
    ),
    "small": Setup(
        functions=ALL_FUNCTIONS,
        runs=40,
        tuning_runs=20,
        budget=20_000,
        budget_factors=(0.25, 0.5, 4.0),
        agents=768,
        unpruned_agents=(16, 64, 256),
        high_dimension=20,
        high_runs=10,
        high_budget=200_000,
        risk_runs=40,
    ),
    "full": Setup(
        functions=ALL_FUNCTIONS,
        runs=200,
        tuning_runs=40,
        budget=20_000,
        budget_factors=(0.125, 0.25, 0.5, 4.0, 16.0),
        agents=768,
        unpruned_agents=(16, 64, 256),
        high_dimension=20,
        high_runs=40,
        high_budget=200_000,
        risk_runs=200,
    ),
}


def check(settings: Settings) -> None:
    """Raises ValueError if the reported runs would include seeds on which settings were chosen.

    It is also raised if the mesh does not have as many devices as there are.
    """
    check_devices(settings)
    low = TUNING_SEED - FIRST_SEED - SETUPS[settings.scale].runs
    high = TUNING_SEED - FIRST_SEED + NUM_TUNING_SEEDS
    if low < settings.seed < high:
        raise ValueError(
            f"--seed must be in [0, {low}] or [{high}, 4294967296), got {settings.seed}: the "
            "study's settings were chosen on the seeds between"
        )


def check_devices(settings: Settings) -> None:
    """Raises ValueError if the mesh does not have as many devices as there are."""
    if settings.axes:
        runner.make_mesh(settings.axes)
