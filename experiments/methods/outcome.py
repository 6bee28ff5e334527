"""Outcomes of trainings: losses over the steps, and what they cost."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Outcome(NamedTuple):
    """A training of one or several networks with the same optimizer.

    Attributes:
      steps: i64[evaluations], gradient steps of a network.
      flops: f64[evaluations], FLOPs of the training up to then, for one of the seeds.
      validation: f64[evaluations, seeds], validation losses; NaN if not finite.
      test: f64[evaluations, seeds], test losses at the same parameters.
      joules: f64[3], the lowest, the estimated and the highest energy for one of the seeds, with
        evaluations and without compilation.
      scores: f64[seeds] by name, on the test part at the best evaluation.
      kept: what the recipe keeps of the networks at the best evaluation.
    """

    steps: np.ndarray
    flops: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    joules: np.ndarray
    scores: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]

    @property
    def best(self) -> int:
        """The evaluation with the least mean validation loss."""
        return int(np.argmin(self.means))

    @property
    def means(self) -> np.ndarray:
        """f64[evaluations], mean validation losses; inf if one is not finite."""
        return np.nan_to_num(self.validation.mean(1), nan=np.inf)

    @property
    def losses(self) -> np.ndarray:
        """f64[seeds], test losses at the best evaluation; inf if not finite."""
        return np.nan_to_num(self.test[self.best], nan=np.inf)


class Trained(NamedTuple):
    """All trainings of a method.

    Attributes:
      title: of the method.
      outcomes: the trainings by their learning rates; `{"": outcome}` for a method that is trained
        once.
    """

    title: str
    outcomes: Mapping[str, Outcome]

    @property
    def choice(self) -> str:
        """The key of the training with the least validation loss."""
        return min(self.outcomes, key=lambda key: self.outcomes[key].means.min())

    @property
    def selected(self) -> Outcome:
        """The training with the least validation loss."""
        return self.outcomes[self.choice]

    @property
    def loss(self) -> float:
        """The mean test loss of the selected training; inf if it diverged."""
        return float(self.selected.losses.mean())

    @property
    def flops(self) -> float:
        """FLOPs of all trainings, for one seed."""
        return float(sum(outcome.flops[-1] for outcome in self.outcomes.values()))

    @property
    def joules(self) -> np.ndarray:
        """f64[3], the lowest, the estimated and the highest energy of all trainings."""
        return np.sum([outcome.joules for outcome in self.outcomes.values()], axis=0)

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the FLOPs of all trainings and the test loss of the best one up to then.

        Trainings advance side by side. At each evaluation the network with the least validation
        loss up to then is taken.

        Returns:
          f64[evaluations] and f64[evaluations].
        """
        outcomes = list(self.outcomes.values())
        validation = np.array([outcome.means for outcome in outcomes])  # [trainings, evaluations]
        test = np.array([np.nan_to_num(o.test.mean(1), nan=np.inf) for o in outcomes])
        flops = np.sum([outcome.flops for outcome in outcomes], axis=0)
        found: list[Any] = []
        for end in range(1, validation.shape[1] + 1):
            best = np.unravel_index(np.argmin(validation[:, :end]), (len(outcomes), end))
            found.append(test[best])
        return flops, np.array(found)
