"""The results of all methods on a task."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.methods.outcome import Trained
from experiments.methods.recipe import Recipe
from experiments.methods.registry import GRIDS


class Contest(NamedTuple):
    """A recipe with the results of its methods.

    Attributes:
      recipe: the recipe.
      trained: by name: keys of `registry.METHODS`, and the recipe's published optimizers.
    """

    recipe: Recipe
    trained: Mapping[str, Trained]

    @property
    def grids(self) -> list[Trained]:
        """The grids of learning rates."""
        return [self.trained[name] for name in GRIDS if name in self.trained]

    @property
    def grid(self) -> Trained | None:
        """The grid with the least test loss, the strictest reference; `None` without grids."""
        return min(self.grids, key=lambda grid: grid.loss, default=None)

    def ratio(self, name: str) -> float:
        """Returns the test loss of a method relative to the best grid's; NaN without a grid."""
        return self.trained[name].loss / self.grid.loss if self.grid else float("nan")


def loss_ratios(contests: Sequence[Contest]) -> dict[str, np.ndarray]:
    """Returns test losses relative to the least one of the methods that trained every task.

    Returns:
      f64[tasks and seeds] by method, inf where it diverged. Tasks that are trained by some methods
      only are left out, unless all are.
    """
    most = max(len(contest.trained) for contest in contests)
    contests = [contest for contest in contests if len(contest.trained) == most]
    names = [name for name in contests[0].trained if all(name in c.trained for c in contests)]
    parts = []
    for contest in contests:
        losses = np.array([contest.trained[name].selected.losses for name in names])
        parts.append(losses / losses.min(axis=0))
    return dict(zip(names, np.concatenate(parts, axis=1), strict=True))
