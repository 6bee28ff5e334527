"""Evaluations of a problem by methods outside of JAX: counted, compiled and in float64."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd

GRADIENT_COST = 3
"""Cost of a value with its gradient in the second way of counting; a value alone costs 1."""


class Search(NamedTuple):
    """Result of a method in one run.

    Attributes:
      point: f[n], the best point.
      evaluations: the number of evaluations, each of a value or of a value and its gradient.
      cost: the same, with a gradient counted as `GRADIENT_COST` evaluations.
      to_target: the number of evaluations up to the first value below the target; 0 if there was
        none.
      cost_to_target: the same, with a gradient counted as `GRADIENT_COST` evaluations.
    """

    point: np.ndarray
    evaluations: int
    cost: int
    to_target: int
    cost_to_target: int

    @classmethod
    def with_gradients(cls, point: Any, evaluations: Any, to_target: Any) -> "Search":
        """Returns the result of a method all of whose evaluations have a gradient."""
        counts = int(evaluations), int(to_target)
        costs = tuple(GRADIENT_COST * count for count in counts)
        return cls(np.asarray(point), counts[0], costs[0], counts[1], costs[1])

    @classmethod
    def of_hybrid(cls, result: jd.HybridResult, target: float) -> "Search":
        """Returns the result of `jd.hybrid`, which counts its gradients."""
        extra = GRADIENT_COST - 1
        to_target = int(result.evaluations_to_best), int(result.gradients_to_best)
        if result.value >= target:
            to_target = 0, 0
        return cls(
            point=np.asarray(result.params),
            evaluations=int(result.evaluations),
            cost=int(result.evaluations) + extra * int(result.gradients),
            to_target=to_target[0],
            cost_to_target=to_target[0] + extra * to_target[1],
        )


class Finished(Exception):  # noqa: N818
    """A search has reached its target, or has spent its budget."""


class Objective:
    """A function for SciPy that counts its evaluations and ends a search.

    Each method raises `Finished` after a value below the target, and before an evaluation beyond
    the budget. Points outside the box are moved to its border.

    Args:
      problem: the problem.
      budget: the largest number of evaluations.
      target: a search ends below this value.

    Attributes:
      lower, upper: f64[n], the box.
      evaluations: the number of evaluations so far.
      cost: the same, with a gradient counted as `GRADIENT_COST` evaluations.
      best_value, best_point: the best value so far, and where it is.
    """

    def __init__(self, problem: jd.Problem, budget: int, target: float):
        self.lower, self.upper = np.asarray(problem.lower), np.asarray(problem.upper)
        self.budget, self.target = budget, target
        self.evaluations = self.cost = 0
        self.best_value, self.best_point = np.inf, (self.lower + self.upper) / 2
        self._to_target = (0, 0)
        self._one, self._many = _programs(problem.value_fn)
        self._data = problem.data
        self._last_point, self._last_grad = self.best_point, self.best_point
        self._has_last = False

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """The box, as SciPy takes it."""
        return [*zip(self.lower.tolist(), self.upper.tolist(), strict=True)]

    def value_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the value and the gradient at x, f[n]; this is one evaluation."""
        return self._evaluate(x, GRADIENT_COST)

    def value(self, x: np.ndarray) -> float:
        """Returns the value at x, f[n]."""
        value, grad = self._evaluate(x, 1)
        self._last_point, self._last_grad, self._has_last = np.array(x), grad, True
        return value

    def grad(self, x: np.ndarray) -> np.ndarray:
        """Returns the gradient at x, f[n].

        It belongs to the same evaluation as the value, if that was the last one and is at x.
        """
        if self._has_last and np.array_equal(x, self._last_point):
            self._has_last = False
            self.cost += GRADIENT_COST - 1
            return self._last_grad
        return self._evaluate(x, GRADIENT_COST)[1]

    def values(self, xs: np.ndarray) -> np.ndarray:
        """Returns the values at xs, f[points, n], counted one after another."""
        left = self.budget - self.evaluations
        if left <= 0:
            raise Finished
        xs = np.clip(xs, self.lower, self.upper)
        # A power of two, so that few sizes are compiled.
        padded = np.resize(xs, (1 << (len(xs) - 1).bit_length(), xs.shape[1]))
        values = np.asarray(self._many(padded, self._data))[: min(len(xs), left)]
        below = np.flatnonzero(values < self.target)
        end = int(below[0]) + 1 if below.size else len(values)
        self.evaluations += end
        self.cost += end
        finite = np.where(np.isfinite(values[:end]), values[:end], np.inf)
        best = int(np.argmin(finite))
        self._record(xs[best], finite[best])
        if len(values) < len(xs):
            raise Finished
        return values

    def finish(self) -> Search:
        """Returns the result of the search."""
        return Search(self.best_point, self.evaluations, self.cost, *self._to_target)

    def _evaluate(self, x: np.ndarray, cost: int) -> tuple[float, np.ndarray]:
        if self.evaluations >= self.budget:
            raise Finished
        x = np.minimum(np.maximum(x, self.lower), self.upper)
        row = np.asarray(self._one(x, self._data))
        value, grad = float(row[-1]), row[:-1].copy()
        self.evaluations += 1
        self.cost += cost
        self._record(x, value)
        return value, grad

    def _record(self, x: np.ndarray, value: float) -> None:
        if value < self.best_value:
            self.best_value, self.best_point = float(value), np.array(x)
        if self.best_value < self.target:
            self._to_target = (self.evaluations, self.cost)
            raise Finished


@functools.cache
def _programs(value_fn: Any) -> tuple[Any, Any]:
    """Returns programs of a point and of many points; the first appends the value to the gradient.

    They take the problem's data, so that all runs of a function share them.
    """

    @jax.jit
    def one(x: jax.Array, data: Any) -> jax.Array:
        value, grad = jax.value_and_grad(value_fn)(x, *data)
        return jnp.append(grad, value)

    @jax.jit
    def many(xs: jax.Array, data: Any) -> jax.Array:
        return jax.vmap(lambda x: value_fn(x, *data))(xs)

    return one, many
