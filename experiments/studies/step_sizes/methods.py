"""First-order methods on a convex problem, and the number of gradients that each needs.

Every gradient is counted. The loss is checked only at points where a gradient is evaluated, for
all methods alike, and a Hessian-vector product counts as two gradients. Methods that are given
the smoothness L do not pay for it. The others measure L at the start and whenever
`jd.step_sizes.guarded` asks for it: L is the top eigenvalue of the Hessian plus its residual,
times a safety margin.

Sources: Y. Nesterov 1983; B. O'Donoghue, E. Candes 2012, arXiv:1204.3982 (gradient-based
restart); D. Kim, J. A. Fessler 2014, arXiv:1406.5468 (optimized gradient method); R. H. Byrd et
al. 1995 (L-BFGS-B, in scipy, with a memory of 10).
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.step_sizes.problems import ConvexProblem, minimum

CONSTANT, CONSTANT_MEASURED, SILVER_MEASURED = "1/L", "1/L, measured", "silver, measured"

GRADIENTS_PER_PRODUCT = 2
TOLERANCE = 1e-2  # relative residual of the measured eigenvalue
CURVE_POINTS = 600  # of a curve, evenly spaced in the logarithm of the number of gradients


class MethodRun(NamedTuple):
    """Result of one method on one problem.

    Attributes:
      gradients: the number of gradients until the target, with products; inf if it was missed.
      products: the number of Hessian-vector products.
      refuted: the number of estimates of L that turned out too small.
      curve: f64[CURVE_POINTS], the smallest relative gap per interval of gradient counts (see
        `curve_gradients`); nan for intervals without an evaluation.
    """

    gradients: float
    products: int
    refuted: int
    curve: np.ndarray


class ReferenceValues(NamedTuple):
    """Loss values that define the relative gap (f - minimum) / (initial - minimum).

    Attributes:
      initial: the loss at the start.
      minimum: the minimal loss.
    """

    initial: float
    minimum: float


class Goal(NamedTuple):
    """Stopping criterion for one problem.

    Attributes:
      reference: the initial and the minimal loss.
      gap: the target for the relative gap.
      budget: the maximal number of gradients.
      margin: the factor on a measured L.
    """

    reference: ReferenceValues
    gap: float
    budget: int
    margin: float


class Method(NamedTuple):
    """A method that evaluates one gradient per step.

    Attributes:
      init: called as `init(params, L)`; returns the state.
      step: called as `step(params, grads, state, L)`; returns the next parameters and state.
      measures: True if L is measured and the state is a `GuardedState`.
    """

    init: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any, Any], tuple[Any, Any]]
    measures: bool = False


Solver = Callable[[ConvexProblem, Goal], MethodRun]


def solvers() -> dict[str, Solver]:
    """Returns all methods by name, in the order of the table."""
    constant, silver = optax.constant_schedule(1.0), jd.step_sizes.silver(1.0)
    methods = {
        CONSTANT: scheduled(constant),
        CONSTANT_MEASURED: measured(constant),
        "silver": scheduled(silver),
        "anytime": scheduled(jd.step_sizes.anytime(1.0)),
        SILVER_MEASURED: measured(silver),
        "Nesterov": nesterov(restart=False),
        "Nesterov, restarted": nesterov(restart=True),
        "OGM": optimized_gradient(),
    }
    return {name: partial(descend, method) for name, method in methods.items()} | {"L-BFGS": lbfgs}


def scheduled(schedule: optax.Schedule) -> Method:
    """Gradient descent with the steps of a schedule for L = 1, divided by the given L."""

    def init(*_: Any) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def step(x: Any, grad: Any, count: Any, L: Any) -> tuple[Any, Any]:
        return x - schedule(count) / L * grad, count + 1

    return Method(init, step)


def measured(schedule: optax.Schedule) -> Method:
    """Gradient descent with the same steps, guarded, and with a measured L."""

    def init(x: Any, L: Any) -> Any:
        return jd.step_sizes.guarded(schedule, L).init(x)

    def step(x: Any, grad: Any, state: Any, _: Any) -> tuple[Any, Any]:
        updates, state = jd.step_sizes.guarded(schedule, 1.0).update(grad, state, x)
        return x + updates, state

    return Method(init, step, measures=True)


def nesterov(restart: bool) -> Method:
    """Nesterov's method; `restart` resets the momentum when it points uphill."""

    def step(y: Any, grad: Any, state: Any, L: Any) -> tuple[Any, Any]:
        previous_x, t = state
        x = y - grad / L
        if restart:
            t = jnp.where(jnp.vdot(grad, x - previous_x) > 0, 1.0, t)
        next_t = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return x + (t - 1) / next_t * (x - previous_x), (x, next_t)

    return Method(_init_momentum, step)


def optimized_gradient() -> Method:
    """The optimized gradient method (OGM) without its special last step, for an open horizon."""

    def step(x: Any, grad: Any, state: Any, L: Any) -> tuple[Any, Any]:
        previous_y, t = state
        y = x - grad / L
        next_t = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return y + ((t - 1) * (y - previous_y) + t * (y - x)) / next_t, (y, next_t)

    return Method(_init_momentum, step)


def _init_momentum(x: Any, _: Any) -> Any:
    return x, jnp.ones(())


def reference_values(problem: ConvexProblem) -> ReferenceValues:
    """Computes the initial and the minimal loss of a problem."""
    initial = float(problem.loss(jnp.asarray(problem.start), problem.data))
    return ReferenceValues(initial, minimum(problem))


def descend(method: Method, problem: ConvexProblem, goal: Goal) -> MethodRun:
    """Runs a method until the target or the end of the budget; compiles its own program."""
    run_steps = _compile_steps(problem.loss, method, goal)
    x = jnp.asarray(problem.start)
    spent, products, L = 0, 0, jnp.asarray(problem.smoothness, float)
    top = _random_direction(x)
    if method.measures:
        top, L = _measure(problem, x, top, goal.margin)
        products = int(top.products)
        spent = GRADIENTS_PER_PRODUCT * products
    state = method.init(x, L)
    curve, gap = jnp.full(CURVE_POINTS, jnp.nan), jnp.inf
    while gap > goal.gap and spent < goal.budget:
        x, state, gap, spent, curve = run_steps(x, state, problem.data, L, spent, curve)
        if gap > goal.gap and method.measures and spent < goal.budget:
            top, L = _measure(problem, x, top, goal.margin)
            state = state._replace(smoothness=L)
            products += int(top.products)
            spent += GRADIENTS_PER_PRODUCT * int(top.products)
    return MethodRun(
        gradients=float(spent) if gap <= goal.gap else float("inf"),
        products=products,
        refuted=int(state.refuted) if method.measures else 0,
        curve=np.asarray(curve),
    )


def _random_direction(x: jax.Array) -> jd.Sharpness:
    """Returns a start for the first measurement, so that one program serves all of them."""
    vector = jax.random.normal(jax.random.key(1), (1, *x.shape))
    zeros = jnp.zeros(1)
    return jd.Sharpness(zeros, vector, zeros, zeros > 0, jnp.zeros((), jnp.int32))


def _measure(
    problem: ConvexProblem, x: jax.Array, start: jd.Sharpness, margin: float
) -> tuple[jd.Sharpness, jax.Array]:
    top = jd.sharpness(problem.loss, x, problem.data, tolerance=TOLERANCE, start=start)
    return top, margin * (top.values[0] + top.residuals[0])


def curve_gradients(budget: int) -> np.ndarray:
    """Returns the number of gradients at each point of a curve, f64[CURVE_POINTS]."""
    return np.geomspace(1, budget, CURVE_POINTS)


def _compile_steps(loss: Any, method: Method, goal: Goal) -> Any:
    """Returns a program that steps until the target, the budget or the next measurement of L."""
    scale = (CURVE_POINTS - 1) / np.log(goal.budget)
    initial, minimum = goal.reference

    @jax.jit
    def run_steps(x: Any, state: Any, data: Any, L: Any, spent: Any, curve: Any) -> Any:
        def unfinished(carry: Any) -> Any:
            _, _, gap, spent, _, due = carry
            return (gap > goal.gap) & (spent < goal.budget) & ~due

        def body(carry: Any) -> Any:
            x, state, _, spent, curve, _ = carry
            value, grad = jax.value_and_grad(loss)(x, data)
            gap = (value - minimum) / (initial - minimum)
            spent = spent + 1
            point = jnp.ceil(scale * jnp.log(spent.astype(float))).astype(jnp.int32)
            curve = curve.at[point].set(jnp.fmin(curve[point], gap), mode="drop")
            x, state = method.step(x, grad, state, L)
            due = state.due if method.measures else jnp.array(False)
            return x, state, gap, spent, curve, due

        start = (x, state, jnp.array(jnp.inf), jnp.asarray(spent), curve, jnp.array(False))
        return jax.lax.while_loop(unfinished, body, start)[:5]

    return run_steps


class _StopMinimizing(Exception):  # noqa: N818  (control flow: the only way out of scipy's loop)
    """Signals that the target is met or that the budget is spent."""


def lbfgs(problem: ConvexProblem, goal: Goal) -> MethodRun:
    """Runs scipy's L-BFGS-B; one evaluation is a loss and a gradient."""
    from scipy.optimize import minimize

    value_and_grad = jax.jit(jax.value_and_grad(problem.loss))
    initial, minimum = goal.reference
    gaps: list[float] = []

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = value_and_grad(jnp.asarray(x), problem.data)
        gaps.append((float(value) - minimum) / (initial - minimum))
        if gaps[-1] <= goal.gap or len(gaps) >= goal.budget:
            raise _StopMinimizing
        return float(value), np.asarray(grad)

    options = {"maxiter": goal.budget, "maxfun": goal.budget, "ftol": 0.0, "gtol": 0.0}
    with contextlib.suppress(_StopMinimizing):
        minimize(evaluate, problem.start, jac=True, method="L-BFGS-B", options=options)
    best = np.minimum.accumulate(gaps)
    points = np.minimum(curve_gradients(goal.budget).astype(int), len(gaps)) - 1
    is_met = best[-1] <= goal.gap
    return MethodRun(float(len(gaps)) if is_met else float("inf"), 0, 0, best[points])
