"""Gradient flow: the path of an optimizer with small steps, which does not oscillate.

    dw/dt = -learning_rate m / P(nu, age)
    dm/dt = log(1 / b1) (g - m),    dnu/dt = log(1 / b2) (g^2 - nu),    g = grad L(w)

with the optimizer in the form of `optimizers` and one optimizer step as the unit of time. For
gradient descent m = g, which makes it gradient flow at speed `learning_rate`; for Adam it is
known as the stable flow. Each step is cut into `substeps` of length h, in which the averages
relax exactly (see `flow`) and then w moves,

    w <- w - h learning_rate m / P,

so that with one substep it is the optimizer, up to rounding.

At the edge of stability the optimizer departs from this flow and follows `central_flow`.

Source: J. Cohen, A. Damian et al. 2025, arXiv:2410.24206 (stable flows).
"""

import functools
from typing import Any, NamedTuple

import jax

from jaxdescent import validation
from jaxdescent.programs import compiled
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
from jaxdescent.stability.flows.optimizers import FlowOptimizer
from jaxdescent.stability.sharpness import curvature
from jaxdescent.stability.sharpness.arguments import check_loss


class GradientFlowState(NamedTuple):
    """State of a gradient flow.

    Attributes:
      params: the parameters, at least float32.
      m, nu: averages of the gradient and of its square, like `params`.
      age: `f[]`, number of steps that the averages have seen.
    """

    params: Any
    m: Any
    nu: Any
    age: jax.Array


class GradientFlowInfo(NamedTuple):
    """Measurements of one optimizer step of a gradient flow.

    Attributes:
      loss: `f[]`, at the beginning of the step.
      finite: `bool[]`, False if the loss or the new state was not finite; the old state is kept.
    """

    loss: jax.Array
    finite: jax.Array


def gradient(loss_fn: Loss, optimizer: FlowOptimizer, *, substeps: int = 16) -> Flow:
    """Returns the gradient flow as (init, step), one optimizer step per call.

    See `gradient_flow`.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      optimizer: one of `jd.flows`.
      substeps: integration steps per optimizer step, at least 1.

    Returns:
      `init(params, batch) -> GradientFlowState` and
      `step(state, batch) -> (GradientFlowState, GradientFlowInfo)`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: `substeps` is out of its range; at `init`, a leaf of params is not
        floating-point or the loss is not a scalar.
    """
    check_optimizer(optimizer)
    h = 1 / validation.integer_in("substeps", substeps, 1)

    def init(params: Any, batch: Any) -> GradientFlowState:
        check_loss(loss_fn, None, params, batch)
        flat = curvature.layout(params)
        w = flat.flat(params)
        wide = functools.partial(flat.tree, dtype=flat.dtype)
        g = jax.grad(flat_loss(loss_fn, flat))(w, batch)
        m, nu, age = first_moments(cast(optimizer, flat.dtype), g, h)
        return GradientFlowState(wide(w), wide(m), wide(nu), age)

    def step(state: GradientFlowState, batch: Any) -> tuple[GradientFlowState, GradientFlowInfo]:
        flat = curvature.layout(state.params)
        rule = cast(optimizer, flat.dtype)
        value_and_grad = jax.value_and_grad(flat_loss(loss_fn, flat))

        def substep(carry: tuple[jax.Array, Moments], _: None) -> tuple[Any, jax.Array]:
            w, moments = carry
            loss, g = value_and_grad(w, batch)
            moments = relax(rule, moments, g, g**2, h)
            P = rule.preconditioner(moments.nu, moments.age)
            return (w - h * rule.learning_rate * moments.m / P, moments), loss

        moments = Moments(flat.flat(state.m), flat.flat(state.nu), state.age)
        start = (flat.flat(state.params), moments)
        (w, moments), losses = jax.lax.scan(substep, start, None, length=substeps)
        new = GradientFlowState(
            flat.tree(w), flat.tree(moments.m), flat.tree(moments.nu), moments.age
        )
        new, finite = keep_finite(new, state, losses)
        return new, GradientFlowInfo(losses[0], finite)

    return Flow(init, step)


def gradient_flow(
    loss_fn: Loss,
    params: Any,
    batch: Any,
    optimizer: FlowOptimizer,
    *,
    steps: int,
    substeps: int = 16,
) -> tuple[GradientFlowState, GradientFlowInfo]:
    """Follows the gradient flow of an optimizer: the path that it would take without oscillations.

    Uses an Euler method, of first order for gradient descent. With moving averages, which are
    updated before the parameters, it is of second order. The flow is stable, but its computation is
    unstable where an eigenvalue of P^-1/2 H P^-1/2 is above

        2 (1 + b1^h) / (h learning_rate (1 - b1^h)),    h = 1 / substeps.

    Without momentum that is `substeps` times the optimizer's threshold, with momentum about
    `substeps`^2 times. Half precision is computed in float32.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, passed to `loss_fn` in every step.
      optimizer: one of `jd.flows`: sgd, rmsprop or adam.
      steps: number of optimizer steps to follow, at least 1.
      substeps: integration steps per optimizer step, at least 1.

    Returns:
      The state after `steps`, and the info of every step, `[steps]`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: `steps` or `substeps` is out of its range, a leaf of params is not
        floating-point, or the loss is not a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxdescent as jd
      >>> def loss(w, scale):
      ...     return 0.5 * scale * w**2
      >>> state, path = jd.gradient_flow(
      ...     loss, jnp.array(1.0), 2.0, jd.flows.sgd(0.05), steps=10, substeps=1000
      ... )
      >>> print(f"{state.params:.3f} {jnp.exp(-0.05 * 2.0 * 10):.3f}")
      0.368 0.368

    References:
      J. Cohen, A. Damian et al. 2025, arXiv:2410.24206.
    """
    validation.integer_in("steps", steps, 1)
    gradient(loss_fn, optimizer, substeps=substeps)
    return _gradient_flow(params, batch, optimizer, loss_fn=loss_fn, steps=steps, substeps=substeps)


@compiled("loss_fn", "steps", "substeps")
def _gradient_flow(
    params: Any,
    batch: Any,
    optimizer: FlowOptimizer,
    *,
    loss_fn: Loss,
    steps: int,
    substeps: int,
) -> tuple[GradientFlowState, GradientFlowInfo]:
    flow = gradient(loss_fn, optimizer, substeps=substeps)
    start = flow.init(params, batch)
    return jax.lax.scan(lambda state, _: flow.step(state, batch), start, None, length=steps)
