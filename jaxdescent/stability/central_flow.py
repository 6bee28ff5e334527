"""The central flow: the time-averaged path of an optimizer that oscillates at the edge.

Let the iterates be w + d, where w moves slowly and d has mean 0 and covariance Sigma. To second
order in d the mean gradient and the variance of the gradient are

    E g = grad L + 1/2 grad <Sigma, H>        Var g = diag(H Sigma H),    H = hess L(w),

so that the mean path of an optimizer in the form of `optimizers` has, with E g for g,

    dm/dt = log(1 / b1) (g - m),    dnu/dt = log(1 / b2) (g^2 + Var g - nu)
    dw/dt = -learning_rate m / P(nu, age).

The averages are linear in the gradient and in its square, so that momentum passes a mean force
on as it is, only later, and nothing else of the oscillation enters. What remains is Sigma. A
mode that grows or decays is not there for long. One that stays alternates, with H u = T P u and
T the stability threshold, and the whole margin T P - H must not get negative:

    Sigma = U X U',  U' P U = 1:   X >= 0,    C = U' (T P - H) U >= 0,    <X, C> = 0.

Where a mode is at the edge, C must not fall any further. Its rate of change is affine in X, for
X moves w along -grad <Sigma, H>, which flattens it, and by Var g enlarges P. Over a substep of
length h, with w1 = 1 - b1^h and w2 = 1 - b2^h,

    C + h dC/dt = C + h A' + B[X]
    A'   = what it is for X = 0
    B    = h learning_rate w1 / 2 G P^-1 G' + T^3 w2 F' (dP/dnu P^2) F
    G_ij = grad <u_i u_j', H>,    F_ij = u_i u_j elementwise,    H U = T P U,

a B that is symmetric and positive: X solves the complementarity problem of the file of that
name. It is posed for the k top modes, at the edge or not, since those with a margin left get
X = 0 from it. The margin may be used up at the rate 1 / tau only, C + tau dC/dt >= 0, tau a step
or the memory 1 / (1 - b1) of the first average, as force reaches speed only that late; and what
error there is in C is mended at that rate. (A' has (E g)^2 as it is for X = 0.)

What is left out: terms of higher order in d; that nu swings with the oscillation, an error of
relative size 1 - b2; and that Sigma takes its time to grow or to fall, in which the optimizer
overshoots the edge, and falls behind it, by turns.

The time-averaged loss is L + 1/2 <Sigma, H> = L + T tr(X) / 2. With one mode at the edge, for
gradient descent and S its eigenvalue: tr Sigma = -2 <grad L, grad S> / |grad S|^2.

Source: J. Cohen, A. Damian, A. Talwalkar, J. Z. Kolter, J. D. Lee 2025, arXiv:2410.24206, for
descent and RMSProp; A. Damian, E. Nichani, J. D. Lee 2023, arXiv:2209.15594. The equations with
momentum, and with it Adam's, are derived above.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.stability import curvature
from jaxdescent.stability.complementarity import solve_complementarity, symmetric_basis
from jaxdescent.stability.gradient_flow import (
    Flow,
    Loss,
    Moments,
    cast,
    check_optimizer,
    first_moments,
    kept_finite,
    on_flat,
    relaxed,
)
from jaxdescent.stability.optimizers import FlowingOptimizer, weight
from jaxdescent.stability.tracking import track

RESIDUAL = 1e-2  # in thresholds; an eigenvalue is off by its square over a gap
ROUNDS, FIRST_ROUNDS = 8, 200


class CentralFlowState(NamedTuple):
    """Where a central flow is.

    Attributes:
      params: the parameters, float32 at least.
      m, nu: the gradient's averages, like `params`.
      age: `f[]`, how many steps the averages have seen.
      directions: like `params` with a leading axis k: U, the top eigenvectors of P^-1 H as
        they were at the last substep, the greatest first, with U' P U = 1.
    """

    params: Any
    m: Any
    nu: Any
    age: jax.Array
    directions: Any


class CentralFlowInfo(NamedTuple):
    """What happened in a unit of time, that is a step of the optimizer.

    Attributes:
      loss: `f[]`, L(w) at its beginning.
      predicted_loss: `f[]`, the prediction for the optimizer's loss, L + <Sigma, H> / 2.
      eigenvalues: `f[k]`, of P^-1/2 H P^-1/2 at the beginning, the greatest first. None is
        much above the optimizer's `threshold`.
      amplitudes: `f[k]`, eigenvalues of X, the greatest first, averaged over the unit.
      variance: `f[]`, tr Sigma, the prediction for E |d|^2, averaged over the unit.
      at_edge: `i32[]`, the rank of X at the beginning. If it is k, ask for a greater k.
      complementarity_residual: `f[]`, the greatest of the unit, 0 is exact.
      eigen_residuals: `f[k]`, at the beginning: an eigenvalue is that near.
      products: `i32[]`, Hessian-vector products made.
      finite: `bool[]`, false if the loss is not finite, or the state would become so; it stays.
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
    """A state with flat vectors; directions f[n, k]."""

    w: jax.Array
    moments: Moments
    directions: jax.Array


def central(loss_fn: Loss, optimizer: FlowingOptimizer, *, k: int = 2, substeps: int = 4) -> Flow:
    """The central flow, a unit of time per call. See `central_flow`.

    Args:
      loss_fn: from (params, batch) to a scalar.
      optimizer: of `jd.flows`.
      k: how many eigenvalues may be at the edge.
      substeps: that a unit of time is cut into, at least 2: with one, what is at the edge
        would oscillate in the flow, too.

    Returns:
      `init(params, batch) -> CentralFlowState` and
      `step(state, batch) -> (CentralFlowState, CentralFlowInfo)`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: a number is out of its range; at `init`, k is greater than the number of
        parameters, a leaf is not of floating point, or the loss is no scalar.
    """
    check_optimizer(optimizer)
    validation.integer_in("k", k, 1)
    h = 1 / validation.integer_in("substeps", substeps, 2)

    def init(params: Any, batch: Any) -> CentralFlowState:
        curvature.check(loss_fn, None, params, batch)
        flat = curvature.layout(params)
        validation.integer_in("k", k, 1, flat.size)
        rule, loss, w = cast(optimizer, flat.dtype), on_flat(loss_fn, flat), flat.flat(params)
        with jax.default_matmul_precision("highest"):
            g, product = jax.linearize(lambda w: jax.grad(loss)(w, batch), w)
        moments = first_moments(rule, g, h)
        root = jnp.sqrt(_preconditioner(rule, moments))[:, None]
        apply = _preconditioned(product, root)
        # An image has nothing in coordinates that the loss does not depend on, where P is tiny.
        start = apply(jax.random.normal(jax.random.key(0), (flat.size, k), flat.dtype))
        limit = RESIDUAL * rule.threshold
        top = track(apply, start, tolerance=limit, min_rounds=10, max_rounds=FIRST_ROUNDS)
        wide = functools.partial(flat.tree, dtype=flat.dtype)
        directions = jax.vmap(wide)((top.vectors / root).T)
        return CentralFlowState(wide(w), wide(moments.m), wide(moments.nu), moments.age, directions)

    def step(state: CentralFlowState, batch: Any) -> tuple[CentralFlowState, CentralFlowInfo]:
        flat = curvature.layout(state.params)
        advance = functools.partial(
            _substep, on_flat(loss_fn, flat), cast(optimizer, flat.dtype), h, batch
        )
        moments = Moments(flat.flat(state.m), flat.flat(state.nu), state.age)
        at = _Point(flat.flat(state.params), moments, jax.vmap(flat.flat)(state.directions).T)

        # One round a unit looks whether another mode has come up.
        numbers = (jnp.arange(substeps) == 0).astype(jnp.int32)
        at, each = jax.lax.scan(advance, at, numbers)
        new = CentralFlowState(
            flat.tree(at.w),
            flat.tree(at.moments.m),
            flat.tree(at.moments.nu),
            at.moments.age,
            jax.vmap(flat.tree)(at.directions.T),
        )
        new, finite = kept_finite(new, state, each.loss)
        first = jax.tree.map(lambda x: x[0], each)
        info = first._replace(
            predicted_loss=first.loss + jnp.mean(each.predicted_loss - each.loss),
            amplitudes=jnp.mean(each.amplitudes, axis=0),
            variance=jnp.mean(each.variance),
            complementarity_residual=jnp.max(each.complementarity_residual),
            products=jnp.sum(each.products),
            finite=finite,
        )
        return new, info

    return Flow(init, step)


def central_flow(
    loss_fn: Loss,
    params: Any,
    batch: Any,
    optimizer: FlowingOptimizer,
    *,
    steps: int,
    k: int = 2,
    substeps: int = 4,
) -> tuple[CentralFlowState, CentralFlowInfo]:
    """The time-averaged path of an optimizer, at the edge of stability too, and its variance.

    The theory is that of a deterministic optimizer (pass all data as `batch`) which starts
    stable: from above the threshold the flow moves to it at once, while the optimizer may be
    thrown anywhere. A substep takes k Hessian-vector products and the gradients of k (k + 1) / 2
    second derivatives, which are all held at a time. Half precision is computed in float32.

    Args:
      loss_fn: from (params, batch) to a scalar, three times differentiable.
      params: pytree of real arrays.
      batch: pytree of arrays, handed on: the same one at all times.
      optimizer: of `jd.flows`: sgd, rmsprop or adam.
      steps: of the optimizer, to which the flow is followed; at least 1.
      k: how many eigenvalues may be at the edge; one more than will be is a good choice.
      substeps: that a step is cut into, at least 2.

    Returns:
      The state after `steps`, and the info of every one, `[steps, ...]`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: a number is out of its range, a leaf is not of floating point, or the loss is
        no scalar.

    Example:
      A valley along y that gets steeper at the speed c where nothing oscillates across it. At
      the edge, x^2 = 2 c on average holds it at 2 / learning_rate:

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


@functools.partial(jax.jit, static_argnames=("loss_fn", "steps", "k", "substeps"))
def _central_flow(
    params: Any,
    batch: Any,
    optimizer: FlowingOptimizer,
    *,
    loss_fn: Loss,
    steps: int,
    k: int,
    substeps: int,
) -> tuple[CentralFlowState, CentralFlowInfo]:
    flow = central(loss_fn, optimizer, k=k, substeps=substeps)
    start = flow.init(params, batch)
    return jax.lax.scan(lambda state, _: flow.step(state, batch), start, None, length=steps)


def _preconditioner(rule: FlowingOptimizer, moments: Moments) -> jax.Array:
    return rule.preconditioner(moments.nu, moments.age)


def _preconditioned(product: curvature.Product, root: jax.Array) -> curvature.Product:
    """The columns of P^-1/2 H P^-1/2 q, with sqrt(P) as f[n, 1]."""
    return lambda q: jax.vmap(product, 1, 1)(q / root) / root


def _substep(
    loss_fn: Any, rule: FlowingOptimizer, h: float, batch: Any, at: _Point, min_rounds: jax.Array
) -> tuple[_Point, CentralFlowInfo]:
    w, old, directions = at
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
    rate, w1, w2 = h * rule.learning_rate, weight(rule.b1, h), weight(rule.b2, h)
    calm = relaxed(rule, old, g, g**2, h)  # what comes if nothing oscillates
    P_calm = _preconditioner(rule, calm)
    # The secant's slope, nearly, of what the oscillation makes up for at a steady nu.
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
    moments = relaxed(rule, old, mean, mean**2 + (T * P) ** 2 * (F @ x), h)
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
    """The gradients of <E, U' H U> for every E of the symmetric basis, f[k (k + 1) / 2, n]."""
    rows, columns = np.triu_indices(U.shape[1])

    def gradient(u: jax.Array, v: jax.Array) -> jax.Array:
        along = lambda f, u: lambda w: jax.jvp(f, (w,), (u,))[1]
        return jax.grad(along(along(loss, u), v))(w)

    scale = np.where(rows == columns, 1, np.sqrt(2))
    with jax.default_matmul_precision("highest"):
        found = jax.vmap(gradient, (1, 1))(U[:, rows], U[:, columns])
    return jnp.asarray(scale, w.dtype)[:, None] * found
