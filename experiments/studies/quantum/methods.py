"""The methods of the study, a registry. A new one joins by one row.

A method returns the energies at its parameters, and the executions that it had spent before it
reached them. Executions that would only measure the energy for the table are not counted.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.quantum.pennylane_circuits import qn_spsa_points
from experiments.studies.quantum.problems import MoleculeName, Problem

MethodName = Literal[
    "rotosolve",
    "natural_gradient",
    "adam",
    "gradient_descent",
    "spsa",
    "spsa_calibrated",
    "qn_spsa",
    "pl_rotosolve",
    "pl_qng",
    "pl_adam",
    "pl_gradient_descent",
    "pl_spsa",
    "pl_qn_spsa",
]

Point = tuple[float, Any]
"""The executions until now, and the parameters, or the energy if the method knows it."""


class Course(NamedTuple):
    """Energies of a method.

    Attributes:
      executions: f[seeds, points], numbers of executions; the last one is repeated at the end.
      energies: f[seeds, points], energies after them.
      learning_rate: the best learning rate; NaN for a method without.
    """

    executions: np.ndarray
    energies: np.ndarray
    learning_rate: float


class Method(NamedTuple):
    """A method of the registry.

    Attributes:
      title: its name in the table.
      points: Called as `points(problem, learning_rate, steps, seed)`; yields points, of which the
        caller stops.
      has_rate: whether it has a learning rate.
      draws: whether it draws random numbers.
      molecules: the molecules for which it is fast enough.
    """

    title: str
    points: Callable[[Problem, float, int, int], Iterator[Point]]
    has_rate: bool = True
    draws: bool = False
    molecules: tuple[MoleculeName, ...] = ("h2", "lih")

    def minimize(self, problem: Problem, budget: Any) -> Course:
        """Minimizes the energy with each learning rate, and returns the best course."""
        rates = budget.learning_rates if self.has_rate else (float("nan"),)
        courses = []
        for rate in rates:
            seeds = range(budget.seeds if self.draws else 1)
            rows = [self._follow(problem, rate, budget.executions, seed) for seed in seeds]
            longest = max(map(len, rows))
            padded = [row + row[-1:] * (longest - len(row)) for row in rows]
            executions, energies = np.moveaxis(np.array(padded), 2, 0)
            courses.append(Course(executions, energies, rate))
        goal = problem.lowest + jd.quantum.CHEMICAL_ACCURACY

        def quality(course: Course) -> tuple[float, float]:
            return (float(np.median(spent(course, goal))), float(np.median(course.energies[:, -1])))

        return min(courses, key=quality)

    def _follow(
        self, problem: Problem, rate: float, budget: int, seed: int
    ) -> list[tuple[float, float]]:
        """Returns executions and energies until a tenth of chemical accuracy, or the budget."""
        found = []
        goal = problem.lowest + 0.1 * jd.quantum.CHEMICAL_ACCURACY
        for executions, params in self.points(problem, rate, budget, seed):
            if executions > budget:
                break
            energy = params if np.ndim(params) == 0 else problem.value(params)
            found.append((float(executions), float(energy)))
            if found[-1][1] <= goal:
                break
        return found


def spent(course: Course, goal: float) -> np.ndarray:
    """Returns the executions until the goal, f[seeds]; infinite where it was not reached."""
    reached = course.energies <= goal
    first = np.argmax(reached, axis=1)
    executions = course.executions[np.arange(len(first)), first]
    return np.where(reached.any(axis=1), executions, np.inf)


def available(name: str) -> bool:
    """True if the package of a method is installed."""
    return not name.startswith("pl_") or importlib.util.find_spec("pennylane") is not None


@functools.cache
def _compiled_update(make: Callable[..., Any], energy: jd.quantum.Expectation) -> Any:
    """Returns the update of a transformation, compiled once for all learning rates."""
    return jax.jit(lambda rate, *args, value: make(energy, rate).update(*args, value=value))


@functools.cache
def _compiled_step(make: Callable[..., Any], energy: jd.quantum.Expectation, budget: int) -> Any:
    """Returns the step of an optimizer, compiled once for all learning rates and seeds."""
    return jax.jit(lambda rate, *args: make(energy, rate, budget).step(*args))


def _by_gradient(make: Callable[..., Any], natural: bool = False) -> Any:
    """Returns the points of an optax transformation with exact gradients.

    The natural gradient uses the value as well, which is one more execution, and a metric.
    """

    def points(problem: Problem, rate: float, budget: int, seed: int) -> Iterator[Point]:
        del budget, seed
        x, cost = jnp.asarray(problem.start), 0
        state = make(problem.energy, rate).init(x)
        update = _compiled_update(make, problem.energy)
        yield 0, x
        while True:
            value, grads = problem.value_and_grad(x)
            updates, state = update(rate, grads, state, x, value=value)
            x, cost = x + updates, cost + _gradient(problem) + natural
            yield cost + (int(state.executions) if natural else 0), x

    return points


def _by_itself(make: Callable[..., jd.quantum.CircuitOptimizer]) -> Any:
    """Returns the points of an optimizer that counts its executions."""

    def points(problem: Problem, rate: float, budget: int, seed: int) -> Iterator[Point]:
        key, x = jax.random.key(seed), jnp.asarray(problem.start)
        state = make(problem.energy, rate, budget).init(x, key)
        step = _compiled_step(make, problem.energy, budget)
        yield int(state.executions), x
        for number in range(budget):
            x, state = step(rate, x, state, jax.random.fold_in(key, number))
            yield int(state.executions), x

    return points


def _natural(energy: jd.quantum.Expectation, rate: Any) -> Any:
    return jd.quantum.quantum_natural_gradient(energy.circuit, rate, form="block-diagonal")


def _sweeps(problem: Problem, rate: float, budget: int, seed: int) -> Iterator[Point]:
    """Returns the points of Rotosolve, which knows the energy after each parameter."""
    del rate, seed
    key, x = jax.random.key(0), jnp.asarray(problem.start)
    optimizer = jd.quantum.rotosolve(problem.energy, num_frequencies=2, unit=0.5, refresh=False)
    state, step = optimizer.init(x, key), jax.jit(optimizer.step)
    yield 0, x
    while int(state.executions) <= budget:
        start = max(1, int(state.executions))
        x, state = step(x, state, key)
        for index, energy in enumerate(np.asarray(state.values)):
            yield start + 4 * (index + 1), energy


def _peer_sweeps(problem: Problem, rate: float, budget: int, seed: int) -> Iterator[Point]:
    """Returns the points of PennyLane's Rotosolve, with the energy after each parameter."""
    del rate, budget, seed
    import pennylane as qml
    from pennylane import numpy as pnp

    x = pnp.array(problem.start, requires_grad=True)
    spectra = {"x": {(i,): [0.5, 1.0] for i in range(len(x))}}
    executions = 0

    def value(x: Any) -> np.ndarray:
        return np.asarray(problem.value(jnp.asarray(np.asarray(x))))

    yield 0, jnp.asarray(problem.start)
    while True:
        x, energies = qml.RotosolveOptimizer().step(value, x, spectra=spectra, full_output=True)
        for energy in energies:
            executions += 5
            yield executions, float(energy)


def _peer(name: str, cost: Callable[[Problem], int]) -> Any:
    """Returns the points of an optimizer of PennyLane."""

    def points(problem: Problem, rate: float, budget: int, seed: int) -> Iterator[Point]:
        import pennylane as qml
        from pennylane import numpy as pnp

        np.random.seed(seed)  # noqa: NPY002  PennyLane draws from it
        x = pnp.array(problem.start, requires_grad=True)
        named = {"stepsize": rate} if np.isfinite(rate) else {}
        if name == "SPSAOptimizer":
            named = {"maxiter": max(1, budget // 2)}
        optimizer = getattr(qml, name)(**named)

        def value(x: Any) -> np.ndarray:
            return np.asarray(problem.value(jnp.asarray(np.asarray(x))))

        def gradient(x: Any) -> Any:
            return np.asarray(problem.value_and_grad(jnp.asarray(np.asarray(x)))[1])

        def metric(x: Any) -> Any:
            return np.array(problem.metric(np.asarray(x)))  # it is written to

        extra: dict[str, Any] = {}
        if name == "QNGOptimizer":
            extra = {
                "grad_fn": gradient,
                "metric_tensor_fn": metric,
            }
        elif name != "SPSAOptimizer":
            extra = {"grad_fn": gradient}
        executions = 0
        yield executions, jnp.asarray(np.asarray(x))
        while True:
            x = optimizer.step(value, x, **extra)
            executions += cost(problem)
            yield executions, jnp.asarray(np.asarray(x))

    return points


def _spsa(energy: jd.quantum.Expectation, rate: Any, budget: int) -> jd.quantum.CircuitOptimizer:
    del rate
    return jd.quantum.spsa(energy, max(1, budget // 2))


def _spsa_calibrated(
    energy: jd.quantum.Expectation, rate: Any, budget: int
) -> jd.quantum.CircuitOptimizer:
    del rate
    return jd.quantum.spsa(energy, max(1, budget // 2), calibrate=True)


def _qn_spsa(energy: jd.quantum.Expectation, rate: Any, budget: int) -> jd.quantum.CircuitOptimizer:
    del budget
    return jd.quantum.qn_spsa(energy, rate)


def _adam(energy: jd.quantum.Expectation, rate: Any) -> optax.GradientTransformationExtraArgs:
    del energy
    return optax.with_extra_args_support(optax.adam(rate))


def _gradient_descent(
    energy: jd.quantum.Expectation, rate: Any
) -> optax.GradientTransformationExtraArgs:
    del energy
    return optax.with_extra_args_support(optax.sgd(rate))


def _pair(problem: Problem) -> int:
    del problem
    return 2


def _gradient(problem: Problem) -> int:
    return problem.gradient_cost - 1  # without the value


METHODS: dict[MethodName, Method] = {
    "rotosolve": Method("Rotosolve", _sweeps, has_rate=False),
    "natural_gradient": Method("natural gradient", _by_gradient(_natural, natural=True)),
    "adam": Method("Adam", _by_gradient(_adam)),
    "gradient_descent": Method("gradient descent", _by_gradient(_gradient_descent)),
    "spsa": Method("SPSA", _by_itself(_spsa), has_rate=False, draws=True),
    "spsa_calibrated": Method(
        "SPSA, calibrated", _by_itself(_spsa_calibrated), has_rate=False, draws=True
    ),
    "qn_spsa": Method("QN-SPSA", _by_itself(_qn_spsa), draws=True),
    "pl_rotosolve": Method("PennyLane Rotosolve", _peer_sweeps, has_rate=False),
    "pl_qng": Method(
        "PennyLane QNG",
        _peer("QNGOptimizer", lambda problem: _gradient(problem) + problem.metric_cost),
    ),
    "pl_adam": Method("PennyLane Adam", _peer("AdamOptimizer", _gradient)),
    "pl_gradient_descent": Method(
        "PennyLane gradient descent", _peer("GradientDescentOptimizer", _gradient)
    ),
    "pl_spsa": Method("PennyLane SPSA", _peer("SPSAOptimizer", _pair), has_rate=False, draws=True),
    # A step on LiH takes a second.
    "pl_qn_spsa": Method("PennyLane QN-SPSA", qn_spsa_points, draws=True, molecules=("h2",)),
}
