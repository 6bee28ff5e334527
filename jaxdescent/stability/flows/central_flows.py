"""Central flow: the time-averaged path of an optimizer that oscillates at the edge of stability.

Write the iterates as w + d, where w moves slowly and d has mean 0 and covariance Sigma. To second
order in d the mean of the gradient and its variance are

    E g = grad L + 1/2 grad <Sigma, H>        Var g = diag(H Sigma H),    H = hess L(w).

The mean path of an optimizer in the form of `optimizers` follows, with g short for E g,

    dm/dt = log(1 / b1) (g - m),    dnu/dt = log(1 / b2) (g^2 + Var g - nu)
    dw/dt = -learning_rate m / P(nu, age).

The averages are linear in the gradient and in its square. Momentum therefore only delays the
mean force, and Sigma is the only other quantity of the oscillation that enters. A mode of the
oscillation persists only if it neither grows nor decays: it alternates in sign, with H u = T P u
and T the stability threshold. No eigenvalue of the margin T P - H may be negative. So

    Sigma = U X U',  U' P U = 1:   X >= 0,    C = U' (T P - H) U >= 0,    <X, C> = 0.

For a mode at the edge, C must not decrease further. Its rate of change is affine in X, because X
moves w along -grad <Sigma, H>, which flattens the mode, and through Var g enlarges P. Over a
substep of length h, with w1 = 1 - b1^h and w2 = 1 - b2^h,

    C + h dC/dt = C + h A' + B[X]
    A'   = dC/dt for X = 0
    B    = h learning_rate w1 / 2 G P^-1 G' + T^3 w2 F' (dP/dnu P^2) F
    G_ij = grad <u_i u_j', H>,    F_ij = u_i u_j elementwise,    H U = T P U.

B is symmetric and positive semidefinite, so X solves the problem of `complementarity`. It is
posed for the k top modes, whether at the edge or not: those with a margin left get X = 0. The
margin may be used up only at the rate 1 / tau, C + tau dC/dt >= 0, where tau = 1 / (1 - b1) is the
memory of the first average: a force changes the speed with that delay. An error in C decays at
the same rate. (A' takes (E g)^2 for X = 0.)

The model neglects terms of higher order in d; that nu oscillates too, a relative error of 1 - b2;
and that Sigma takes time to grow and to shrink, so that the optimizer alternately overshoots the
edge and falls below it.

The time-averaged loss is L + 1/2 <Sigma, H> = L + T tr(X) / 2. For gradient descent with one
mode at the edge, of eigenvalue S: tr Sigma = -2 <grad L, grad S> / |grad S|^2.

Source: J. Cohen, A. Damian, A. Talwalkar, J. Z. Kolter, J. D. Lee 2025, arXiv:2410.24206, for
gradient descent and RMSProp; A. Damian, E. Nichani, J. D. Lee 2023, arXiv:2209.15594. The
equations with momentum, hence for Adam, are derived above.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.programs import compiled
from jaxdescent.stability.flows.complementarity import solve_complementarity, symmetric_basis
from jaxdescent.stability.flows.flow import (
    Flow,
    Loss,
    Moments,
    cast,
    check_optimizer,
    first_moments,
    flat_loss,
    keep_finite,
    relax,
)
from jaxdescent.stability.flows.optimizers import FlowOptimizer, ema_weight
from jaxdescent.stability.flows.subspace_tracking import track
from jaxdescent.stability.sharpness import curvature
from jaxdescent.stability.sharpness.arguments import check_loss

RESIDUAL = 1e-2  # in units of the threshold; the eigenvalue's error is its square over a gap
ROUNDS, FIRST_ROUNDS = 8, 200


class CentralFlowState(NamedTuple):
    """State of a central flow.

    Attributes:
      params: the parameters, at least float32.
      m, nu: averages of the gradient and of its square, like `params`.
      age: `f[]`, number of steps that the averages have seen.
      directions: like `params` with a leading axis k: U, the top eigenvectors of P^-1 H at the
        last substep, in descending order of eigenvalues, with U' P U = 1.
    """

    params: Any
    m: Any
    nu: Any
    age: jax.Array
    directions: Any


class CentralFlowInfo(NamedTuple):
    """Measurements of one optimizer step of a central flow.

    Attributes:
      loss: `f[]`, L(w) at the beginning of the step.
      predicted_loss: `f[]`, the prediction for the optimizer's loss, L + <Sigma, H> / 2.
      eigenvalues: `f[k]`, of P^-1/2 H P^-1/2 at the beginning of the step, in descending order.
        All stay below or near the optimizer's `threshold`.
      amplitudes: `f[k]`, eigenvalues of X in descending order, averaged over the step.
      variance: `f[]`, tr Sigma, the prediction for E |d|^2, averaged over the step.
      at_edge: `i32[]`, the rank of X at the beginning of the step. If it equals k, increase k.
      complementarity_residual: `f[]`, the largest of the step; 0 is exact.
      eigen_residuals: `f[k]`, at the beginning of the step: each value is within its residual
        of an eigenvalue.
      products: `i32[]`, number of Hessian-vector products.
      finite: `bool[]`, False if the loss or the new state was not finite; the old state is kept.
    """

    loss: jax.Array
    predicted_loss: jax.Array
    eigenvalues: jax.Array
    amplitudes: jax.Array
    variance: jax.Array
    at_edge: jax.Array
    complementarity_residual: jax.Array
    eigen_residuals: jax.Array
    products: jax.Array
    finite: jax.Array


class _Point(NamedTuple):
    """A central flow's state with flat vectors; directions f[n, k]."""

    w: jax.Array
    moments: Moments
    directions: jax.Array


def central(loss_fn: Loss, optimizer: FlowOptimizer, *, k: int = 2, substeps: int = 4) -> Flow:
    """Returns the central flow as (init, step), one optimizer step per call.

    See `central_flow`, which also describes the arguments.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      optimizer: one of `jd.flows`.
      k: number of eigenvalues that can be at the edge.
      substeps: integration steps per optimizer step, at least 2; with one, modes at the edge
        would oscillate in the flow too.

    Returns:
      `init(params, batch) -> CentralFlowState` and
      `step(state, batch) -> (CentralFlowState, CentralFlowInfo)`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: a number is out of its range; at `init`, k is larger than the number of
        parameters, a leaf of params is not floating-point, or the loss is not a scalar.
    """
    check_optimizer(optimizer)
    validation.integer_in("k", k, 1)
    h = 1 / validation.integer_in("substeps", substeps, 2)

    def init(params: Any, batch: Any) -> CentralFlowState:
        check_loss(loss_fn, None, params, batch)
        flat = curvature.layout(params)
        validation.integer_in("k", k, 1, flat.size)
        rule, loss, w = cast(optimizer, flat.dtype), flat_loss(loss_fn, flat), flat.flat(params)
        with jax.default_matmul_precision("highest"):
            g, product = jax.linearize(lambda w: jax.grad(loss)(w, batch), w)
        moments = first_moments(rule, g, h)
        root = jnp.sqrt(_preconditioner(rule, moments))[:, None]
        apply = _preconditioned(product, root)
        # An image is zero in coordinates that the loss does not depend on, where P is tiny.
        start = apply(jax.random.normal(jax.random.key(0), (flat.size, k), flat.dtype))
        limit = RESIDUAL * rule.threshold
        top = track(apply, start, tolerance=limit, min_rounds=10, max_rounds=FIRST_ROUNDS)
        wide = functools.partial(flat.tree, dtype=flat.dtype)
        directions = jax.vmap(wide)((top.vectors / root).T)
        return CentralFlowState(wide(w), wide(moments.m), wide(moments.nu), moments.age, directions)

    def step(state: CentralFlowState, batch: Any) -> tuple[CentralFlowState, CentralFlowInfo]:
        flat = curvature.layout(state.params)
        advance = functools.partial(
            _substep, flat_loss(loss_fn, flat), cast(optimizer, flat.dtype), h, batch
        )
        moments = Moments(flat.flat(state.m), flat.flat(state.nu), state.age)
        point = _Point(flat.flat(state.params), moments, jax.vmap(flat.flat)(state.directions).T)

        # One round per optimizer step detects a mode that has overtaken another.
        min_rounds = (jnp.arange(substeps) == 0).astype(jnp.int32)
        point, infos = jax.lax.scan(advance, point, min_rounds)
        new = CentralFlowState(
            flat.tree(point.w),
            flat.tree(point.moments.m),
            flat.tree(point.moments.nu),
            point.moments.age,
            jax.vmap(flat.tree)(point.directions.T),
        )
        new, finite = keep_finite(new, state, infos.loss)
        first = jax.tree.map(lambda x: x[0], infos)
        info = first._replace(
            predicted_loss=first.loss + jnp.mean(infos.predicted_loss - infos.loss),
            amplitudes=jnp.mean(infos.amplitudes, axis=0),
            variance=jnp.mean(infos.variance),
            complementarity_residual=jnp.max(infos.complementarity_residual),
            products=jnp.sum(infos.products),
            finite=finite,
        )
        return new, info

    return Flow(init, step)


def central_flow(
    loss_fn: Loss,
    params: Any,
    batch: Any,
    optimizer: FlowOptimizer,
    *,
    steps: int,
    k: int = 2,
    substeps: int = 4,
) -> tuple[CentralFlowState, CentralFlowInfo]:
    """Follows the central flow of an optimizer: its time-averaged path, also at the edge.

    The theory holds for a deterministic optimizer (pass all data as `batch`) that starts below its
    stability threshold. If it starts above, the flow moves to the threshold at once, although the
    optimizer may diverge. A substep takes k Hessian-vector products and the gradients of k (k + 1)
    / 2 second derivatives, which are in memory together. Half precision is computed in float32.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar, three times differentiable.
      params: pytree of real arrays.
      batch: pytree of arrays, passed to `loss_fn` in every step.
      optimizer: one of `jd.flows`: sgd, rmsprop or adam.
      steps: number of optimizer steps to follow, at least 1.
      k: number of eigenvalues that can be at the edge; choose one more than you expect.
      substeps: integration steps per optimizer step, at least 2.

    Returns:
      The state after `steps`, and the info of every step, `[steps, ...]`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: a number is out of its range, a leaf of params is not floating-point, or the
        loss is not a scalar.

    Example:
      In a valley along y the curvature grows at the speed c while x does not oscillate. At the
      edge, oscillations with a mean x^2 of 2 c keep the curvature at 2 / learning_rate:

      >>> import jax.numpy as jnp
      >>> import jaxdescent as jd
      >>> def loss(w, c):
      ...     x, y = w
      ...     return 0.5 * (18 + y) * x**2 - c * y
      >>> state, path = jd.central_flow(
      ...     loss, jnp.array([0.1, 0.0]), 0.5, jd.flows.sgd(0.1), steps=100, k=1
      ... )
      >>> print(f"{path.eigenvalues[-1, 0]:.2f} {path.variance[-1]:.2f}")
      20.00 1.00

    References:
      J. Cohen, A. Damian et al. 2025, arXiv:2410.24206.
    """
    validation.integer_in("steps", steps, 1)
    central(loss_fn, optimizer, k=k, substeps=substeps)
    return _central_flow(
        params, batch, optimizer, loss_fn=loss_fn, steps=steps, k=k, substeps=substeps
    )


@compiled("loss_fn", "steps", "k", "substeps")
def _central_flow(
    params: Any,
    batch: Any,
    optimizer: FlowOptimizer,
    *,
    loss_fn: Loss,
    steps: int,
    k: int,
    substeps: int,
) -> tuple[CentralFlowState, CentralFlowInfo]:
    flow = central(loss_fn, optimizer, k=k, substeps=substeps)
    start = flow.init(params, batch)
    return jax.lax.scan(lambda state, _: flow.step(state, batch), start, None, length=steps)


def _preconditioner(rule: FlowOptimizer, moments: Moments) -> jax.Array:
    return rule.preconditioner(moments.nu, moments.age)


def _preconditioned(product: curvature.Product, root: jax.Array) -> curvature.Product:
    """Returns q -> P^-1/2 H P^-1/2 q for columns q, given sqrt(P) as f[n, 1]."""
    return lambda q: jax.vmap(product, 1, 1)(q / root) / root


def _substep(
    loss_fn: Any, rule: FlowOptimizer, h: float, batch: Any, point: _Point, min_rounds: jax.Array
) -> tuple[_Point, CentralFlowInfo]:
    w, old, directions = point
    k = directions.shape[1]
    with jax.default_matmul_precision("highest"):
        value_and_grad = jax.value_and_grad(lambda w: loss_fn(w, batch))
        (loss, g), product = jax.linearize(value_and_grad, w)
    P = _preconditioner(rule, old)
    T, root = rule.threshold, jnp.sqrt(P)[:, None]
    top = track(
        _preconditioned(lambda v: product(v)[1], root),
        directions * root,
        tolerance=RESIDUAL * T,
        min_rounds=min_rounds,
        max_rounds=ROUNDS,
    )
    U = top.vectors / root

    basis = jnp.asarray(symmetric_basis(k), w.dtype)
    G = _third_derivatives(lambda w: loss_fn(w, batch), w, U)
    F = jnp.einsum("aij,ni,nj->na", basis, U, U)
    rate, w1, w2 = h * rule.learning_rate, ema_weight(rule.b1, h), ema_weight(rule.b2, h)
    calm = relax(rule, old, g, g**2, h)  # the averages without oscillation
    P_calm = _preconditioner(rule, calm)
    # Approximates the slope of the secant over which the oscillation keeps nu steady.
    between = (old.nu + calm.nu) / 2
    slope = jax.grad(lambda nu: jnp.sum(_preconditioner(rule, calm._replace(nu=nu))))(between)
    slope = jnp.where(between > 0, slope, 0)

    C = T * jnp.eye(k, dtype=w.dtype) - jnp.diag(top.values)
    change = rate * G @ (calm.m / P_calm) + T * (P_calm - P) @ F
    A = h * (1 - rule.b1) * C + jnp.einsum("aij,a->ij", basis, change)
    B = rate * w1 / 2 * (G / P_calm) @ G.T + T**3 * w2 * (F.T * (slope * P**2)) @ F
    solution = solve_complementarity(A, B)

    x = jnp.einsum("aij,ij->a", basis, solution.X)
    mean = g + x @ G / 2
    moments = relax(rule, old, mean, mean**2 + (T * P) ** 2 * (F @ x), h)
    amplitudes = jnp.linalg.eigvalsh(solution.X)[::-1]
    info = CentralFlowInfo(
        loss=loss,
        predicted_loss=loss + T * jnp.sum(amplitudes) / 2,
        eigenvalues=top.values,
        amplitudes=amplitudes,
        variance=jnp.sum(F @ x),
        at_edge=solution.rank,
        complementarity_residual=solution.residual,
        eigen_residuals=top.residuals,
        products=k * (1 + top.rounds),
        finite=jnp.ones((), bool),
    )
    w = w - rate * moments.m / _preconditioner(rule, moments)
    return _Point(w, moments, U), info


def _third_derivatives(loss: Any, w: jax.Array, U: jax.Array) -> jax.Array:
    """Returns grad <E, U' H U> for every E of the symmetric basis, f[k (k + 1) / 2, n]."""
    rows, columns = np.triu_indices(U.shape[1])

    def derivative(f: Any, direction: jax.Array) -> Any:
        return lambda w: jax.jvp(f, (w,), (direction,))[1]

    def gradient(u: jax.Array, v: jax.Array) -> jax.Array:
        return jax.grad(derivative(derivative(loss, u), v))(w)

    scale = np.where(rows == columns, 1, np.sqrt(2))
    with jax.default_matmul_precision("highest"):
        gradients = jax.vmap(gradient, (1, 1))(U[:, rows], U[:, columns])
    return jnp.asarray(scale, w.dtype)[:, None] * gradients
