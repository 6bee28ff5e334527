"""First-order methods on a convex problem, and how many gradients each takes.

A gradient is counted where it is taken, and the loss is looked at in the same points, for all
methods alike; a product with the Hessian counts as two. Methods that are given L have it for
free. The others measure it, at the start and when `guarded` says that it is due: L is the top
eigenvalue of the Hessian and its residual, times a margin.

Sources: Y. Nesterov 1983; B. O'Donoghue, E. Candes 2012, arXiv:1204.3982 (the restart by the
gradient); D. Kim, J. A. Fessler 2014, arXiv:1406.5468 (the optimized gradient method); R. H.
Byrd et al. 1995 (L-BFGS-B, as scipy has it, memory 10).
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.step_sizes.problems import Convex

PER_PRODUCT = 2  # gradients
TOLERANCE = 1e-2  # of the eigenvalue's residual, which is added to it
MARKS = 600  # of a curve, evenly over the logarithm of the gradients


class Descent(NamedTuple):
    """What a method did.

    Attributes:
      gradients: until the target, products included; inf if it was not met.
      products: with the Hessian.
      refuted: estimates of L that were.
      curve: f64[MARKS], the least gap until a number of gradients, relative to the first; nan
        where there is no news.
    """

    gradients: float
    products: int
    refuted: int
    curve: np.ndarray


class Goal(NamedTuple):
    """What to reach, of one problem.

    Attributes:
      least: f*.
      first: f at the start.
      gap: the target, relative to the first gap.
      budget: gradients.
      margin: what a measured L is multiplied by.
    """

    least: float
    first: float
    gap: float
    budget: int
    margin: float


class Method(NamedTuple):
    """A method that takes one gradient a step.

    Attributes:
      init: from the start and L to a state.
      step: from the point, its gradient, the state and L to the next point and state.
      measures: whether L is measured, and the state a `GuardedState`.
    """

    init: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any, Any], tuple[Any, Any]]
    measures: bool = False


def scheduled(schedule: optax.Schedule) -> Method:
    """Steps of a schedule for a smoothness of 1, over L."""

    def step(x: Any, grad: Any, count: Any, L: Any) -> tuple[Any, Any]:
        return x - schedule(count) / L * grad, count + 1

    return Method(lambda *_: jnp.zeros((), jnp.int32), step)


def measured(schedule: optax.Schedule) -> Method:
    """The same, guarded, by an L that is measured."""

    def step(x: Any, grad: Any, state: Any, _: Any) -> tuple[Any, Any]:
        updates, state = jd.step_sizes.guarded(schedule, 1.0).update(grad, state, x)
        return x + updates, state

    init = lambda x, L: jd.step_sizes.guarded(schedule, L).init(x)
    return Method(init, step, measures=True)


def nesterov(restart: bool) -> Method:
    """Nesterov's method; with `restart` momentum starts anew when it points uphill."""

    def step(y: Any, grad: Any, state: Any, L: Any) -> tuple[Any, Any]:
        x_before, t = state
        x = y - grad / L
        if restart:
            t = jnp.where(jnp.vdot(grad, x - x_before) > 0, 1.0, t)
        t_next = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return x + (t - 1) / t_next * (x - x_before), (x, t_next)

    return Method(lambda x, _: (x, jnp.ones(())), step)


def optimized_gradient() -> Method:
    """The optimized gradient method, for no horizon: without its other last step."""

    def step(x: Any, grad: Any, state: Any, L: Any) -> tuple[Any, Any]:
        y_before, t = state
        y = x - grad / L
        t_next = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return y + ((t - 1) * (y - y_before) + t * (y - x)) / t_next, (y, t_next)

    return Method(lambda x, _: (x, jnp.ones(())), step)


def descend(problem: Convex, method: Method, goal: Goal) -> Descent:
    """Runs a method until the target or the end of the budget; its programs are compiled anew."""
    run = _program(problem.loss, method, goal)
    x = jnp.asarray(problem.start)
    spent, products, L = 0, 0, jnp.asarray(problem.smoothness, float)
    top = _anywhere(x)
    if method.measures:
        top, L = _measure(problem, x, top, goal.margin)
        products = int(top.products)
        spent = PER_PRODUCT * products
    state = method.init(x, L)
    curve, gap = jnp.full(MARKS, jnp.nan), jnp.inf
    while gap > goal.gap and spent < goal.budget:
        x, state, gap, spent, curve = run(x, state, problem.data, L, spent, curve)
        if gap > goal.gap and method.measures and spent < goal.budget:
            top, L = _measure(problem, x, top, goal.margin)
            state = state._replace(smoothness=L)
            products += int(top.products)
            spent += PER_PRODUCT * int(top.products)
    return Descent(
        gradients=float(spent) if gap <= goal.gap else float("inf"),
        products=products,
        refuted=int(state.refuted) if method.measures else 0,
        curve=np.asarray(curve),
    )


def _anywhere(x: jax.Array) -> jd.Sharpness:
    """A random direction in the place of an earlier measurement: one program for all of them."""
    vector = jax.random.normal(jax.random.key(1), (1, *x.shape))
    nothing = jnp.zeros(1)
    return jd.Sharpness(nothing, vector, nothing, nothing > 0, jnp.zeros((), jnp.int32))


def _measure(
    problem: Convex, x: jax.Array, start: jd.Sharpness, margin: float
) -> tuple[jd.Sharpness, jax.Array]:
    top = jd.sharpness(problem.loss, x, problem.data, tolerance=TOLERANCE, start=start)
    return top, margin * (top.values[0] + top.residuals[0])


def marks(budget: int) -> np.ndarray:
    """The numbers of gradients that a curve's entries are for."""
    return np.geomspace(1, budget, MARKS)


def _program(loss: Any, method: Method, goal: Goal) -> Any:
    """Steps until the target, the budget or, if L is measured, until that is due."""
    scale = (MARKS - 1) / np.log(goal.budget)

    @jax.jit
    def run(x: Any, state: Any, data: Any, L: Any, spent: Any, curve: Any) -> Any:
        def going(carry: Any) -> Any:
            _, _, gap, spent, _, due = carry
            return (gap > goal.gap) & (spent < goal.budget) & ~due

        def body(carry: Any) -> Any:
            x, state, _, spent, curve, _ = carry
            value, grad = jax.value_and_grad(loss)(x, data)
            gap = (value - goal.least) / (goal.first - goal.least)
            spent = spent + 1
            mark = jnp.ceil(scale * jnp.log(spent.astype(float))).astype(jnp.int32)
            curve = curve.at[mark].set(jnp.fmin(curve[mark], gap), mode="drop")
            x, state = method.step(x, grad, state, L)
            due = state.due if method.measures else jnp.array(False)
            return x, state, gap, spent, curve, due

        start = (x, state, jnp.array(jnp.inf), jnp.asarray(spent), curve, jnp.array(False))
        return jax.lax.while_loop(going, body, start)[:5]

    return run


class _Finished(Exception):  # noqa: N818  (it is no error: the only way out of scipy's loop)
    """The target is met, or the budget is spent."""


def lbfgs(problem: Convex, goal: Goal) -> Descent:
    """Runs scipy's L-BFGS-B; an evaluation is a loss and a gradient."""
    from scipy.optimize import minimize

    value_and_grad = jax.jit(jax.value_and_grad(problem.loss))
    gaps: list[float] = []

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = value_and_grad(jnp.asarray(x), problem.data)
        gaps.append((float(value) - goal.least) / (goal.first - goal.least))
        if gaps[-1] <= goal.gap or len(gaps) >= goal.budget:
            raise _Finished
        return float(value), np.asarray(grad)

    options = {"maxiter": goal.budget, "maxfun": goal.budget, "ftol": 0.0, "gtol": 0.0}
    with contextlib.suppress(_Finished):
        minimize(evaluate, problem.start, jac=True, method="L-BFGS-B", options=options)
    best = np.minimum.accumulate(gaps)
    places = np.minimum(marks(goal.budget).astype(int), len(gaps)) - 1
    reached = best[-1] <= goal.gap
    return Descent(float(len(gaps)) if reached else float("inf"), 0, 0, best[places])
