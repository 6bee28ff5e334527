"""Settings of the study of `jd.hybrid`, and the suites, which are named here beforehand."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, get_args

import jaxdescent as jd
from experiments import runner
from experiments.studies.hybrid.ablation import VARIANTS
from experiments.studies.hybrid.functions import DEVELOPMENT, REPORT, Known

SOLVED = 1e-4
"""A run succeeds if its best value is less than this above the minimum."""

BBOB_SOLVED = 1e-8
"""The same for BBOB functions."""

FIRST_INSTANCES = {"bbob_development": 16, "bbob_report": 1}
"""Numbers of the first BBOB instances of a suite."""

HARD = tuple(jd.problems.CLASSIC_SUITE)[:8]
SUITES = {
    "hard": "The hard eight, shifted and rotated",
    "development": "Classic functions for development",
    "report": "Classic functions that are only reported",
    "bbob_development": "BBOB, instances for development",
    "bbob_report": "BBOB, instances that are only reported",
}
Suite = Literal["hard", "development", "report", "bbob_development", "bbob_report"]
MethodName = Literal[
    "hybrid",
    "adam",
    "halving",
    "de_adam",
    "lbfgs",
    "basin_hopping",
    "dual_annealing",
    "differential_evolution",
    "bipop_cma",
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
BBOB_METHODS: tuple[MethodName, ...] = ("hybrid", "lbfgs", "bipop_cma")


class Group(NamedTuple):
    """Functions with one budget.

    Attributes:
      suite: the suite that they belong to.
      title: heading in tables.
      functions: their names.
      dimension: of functions that have any; None for the others.
      budget: the number of evaluations of a run, each of a value or of a value and its gradient.
      runs: the number of runs per function.
      baseline_runs: the number of runs of the other methods, of which most take much longer; 0
        leaves them out.
      precision: a run succeeds if its best value is less than this above the minimum.
      methods: the methods that may run, beside variants of `jd.hybrid`.
    """

    suite: Suite
    title: str
    functions: tuple[str, ...]
    dimension: int | None
    budget: int
    runs: int
    baseline_runs: int
    precision: float = SOLVED
    methods: tuple[str, ...] = METHODS

    def runs_of(self, method: str) -> int:
        """Returns the number of runs of a method per function."""
        if method in ("hybrid", *VARIANTS):
            return self.runs
        return self.baseline_runs if method in self.methods else 0


def bbob_group(suite: Suite, dimension: int, numbers: Sequence[int], instances: int) -> Group:
    """Returns functions of BBOB with COCO's usual budget of 10,000 evaluations per coordinate."""
    names = tuple(f"f{number}" for number in numbers)
    return Group(
        suite=suite,
        title=f"{dimension}-D",
        functions=names,
        dimension=dimension,
        budget=10_000 * dimension,
        runs=instances,
        baseline_runs=instances,
        precision=BBOB_SOLVED,
        methods=BBOB_METHODS,
    )


def _groups(
    runs: int, baseline_runs: int, large_runs: int, large_baselines: int, instances: int
) -> list[Group]:
    groups = [
        Group("hard", "2-D", HARD, 2, 20_000, runs, runs),
        Group("hard", "20-D", HARD, 20, 200_000, runs, baseline_runs),
        Group("hard", "100-D", HARD, 100, 1_000_000, large_runs, large_baselines),
    ]
    suites: dict[Suite, dict[str, Known]] = {"development": DEVELOPMENT, "report": REPORT}
    for suite, functions in suites.items():
        planar = tuple(name for name, each in functions.items() if each.dimension == 2)
        spatial = tuple(name for name in functions if name not in planar)
        largest = max(each.dimension for each in functions.values())
        groups.append(Group(suite, "2-D", planar, None, 20_000, runs, runs))
        title = f"{min(functions[name].dimension for name in spatial)} to {largest}-D"
        groups.append(Group(suite, title, spatial, None, 50_000, runs, runs))
    bbob: tuple[Suite, ...] = "bbob_development", "bbob_report"
    for suite in bbob:
        groups += [bbob_group(suite, dimension, range(1, 25), instances) for dimension in (5, 20)]
    return groups


GROUPS = {
    "smoke": [
        Group("hard", "2-D", ("ackley",), 2, 600, 2, 2),
        Group("development", "2-D", ("branin",), None, 400, 2, 2),
        Group("report", "2-D", ("parsopoulos",), None, 400, 2, 2),
        bbob_group("bbob_development", 2, (1,), 2)._replace(budget=400),
    ],
    "small": _groups(20, 3, 3, 0, instances=5),
    "full": _groups(100, 20, 10, 3, instances=15),
}
DEFAULT_METHODS = {
    "smoke": ("hybrid", "lbfgs"),
    "small": METHODS,
    "full": METHODS,
}
CHOSEN_VARIANTS = {
    "smoke": ("without_first_descent", "without_restarts"),
    "small": VARIANTS,
    "full": VARIANTS,
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of `jd.hybrid`."""

    may_change: ClassVar[tuple[str, ...]] = (
        *runner.Settings.may_change,
        "suites",
        "methods",
        "dimensions",
    )
    least: ClassVar = {**runner.Settings.least, "seeds": 0}
    suites: tuple[Suite, ...] = ()
    """Suites of functions; by default hard and development. Methods may be developed on these."""
    methods: tuple[MethodName, ...] = ()
    """Methods; by default all, at scale smoke two, and with --ablation only hybrid."""
    ablation: bool = False
    """Also run variants of jd.hybrid that each lack one of its parts, at scale smoke two."""
    dimensions: tuple[Literal[2, 5, 20, 100], ...] = ()
    """Dimensions of the hard suite and of BBOB; by default all."""
    seeds: int = 0
    """Number of runs per function, of instances for BBOB; 0 stands for the number of the scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.groups:
            raise ValueError(
                "--dimensions, --suites and --methods must leave something to run at scale "
                f"{self.scale}, got none; leave one of them out, or give --seeds"
            )

    @property
    def chosen_methods(self) -> tuple[str, ...]:
        """The methods to run, in the order of the tables."""
        default = ("hybrid",) if self.ablation else DEFAULT_METHODS[self.scale]
        chosen = tuple(name for name in METHODS if name in (self.methods or default))
        return (*chosen, *self.chosen_variants)

    @property
    def chosen_variants(self) -> tuple[str, ...]:
        """The variants of `jd.hybrid` to run."""
        return CHOSEN_VARIANTS[self.scale] if self.ablation else ()

    @property
    def groups(self) -> list[Group]:
        """The groups of the chosen suites, with the numbers of runs."""
        suites = self.suites or ("hard", "development")
        groups = [group for group in GROUPS[self.scale] if group.suite in suites]
        if self.dimensions:
            groups = [group for group in groups if group.dimension in (None, *self.dimensions)]
        if self.seeds:
            groups = [group._replace(runs=self.seeds, baseline_runs=self.seeds) for group in groups]
        return [group for group in groups if any(map(group.runs_of, self.chosen_methods))]
