"""Settings of the study of quantum Hamiltonian descent."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple, get_args

from experiments import runner

FunctionName = Literal[
    "ackley",
    "ackley_2",
    "alpine_1",
    "alpine_2",
    "bohachevsky_2",
    "camel_3",
    "csendes",
    "spring",
    "drop_wave",
    "easom",
    "griewank",
    "holder_table",
    "hosaki",
    "levy",
    "levy_13",
    "michalewicz",
    "rastrigin",
    "rosenbrock",
    "shubert",
    "styblinski_tang",
    "sum_squares",
    "xin_she_yang_3",
]
ALL: tuple[FunctionName, ...] = get_args(FunctionName)
SIX: tuple[FunctionName, ...] = (
    "levy",
    "rastrigin",
    "drop_wave",
    "styblinski_tang",
    "griewank",
    "rosenbrock",
)
GRADIENT = ("michalewicz", "cube_wave", "rastrigin")


class Size(NamedTuple):
    """Size of the study.

    Attributes:
      functions: their names.
      gradient_functions: names of those with the gradient term.
      points: N, grid points on each side.
      time_step: length of a step.
      gradient_points, gradient_time_step: the same with the gradient term.
      runs: runs of each classical method.
    """

    functions: tuple[FunctionName, ...]
    gradient_functions: tuple[str, ...]
    points: int
    time_step: float
    gradient_points: int
    gradient_time_step: float
    runs: int


SIZES = {
    "smoke": Size(("griewank",), ("cube_wave",), 32, 2e-2, 16, 2e-2, 2),
    "small": Size(SIX, GRADIENT, 128, 1e-3, 128, 1e-3, 20),
    "full": Size(ALL, GRADIENT, 256, 1e-3, 128, 1e-3, 20),
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of quantum Hamiltonian descent."""

    may_change: ClassVar = (*runner.Settings.may_change, "functions")
    functions: tuple[FunctionName, ...] = ()
    """Functions; by default six, at scale full all 22."""

    end_time: ClassVar = 10.0
    radius: ClassVar = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.functions:
            object.__setattr__(self, "functions", self.size.functions)

    @property
    def size(self) -> Size:
        """The size at the scale."""
        return SIZES[self.scale]

    @property
    def gradient_functions(self) -> tuple[str, ...]:
        """Names of the functions with the gradient term."""
        return self.size.gradient_functions
