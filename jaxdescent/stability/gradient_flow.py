"""The flow of an optimizer whose steps are so small, or so stable, that it does not oscillate.

    dw/dt = -learning_rate m / P(nu, age)
    dm/dt = log(1 / b1) (g - m),    dnu/dt = log(1 / b2) (g^2 - nu),    g = grad L(w)

with the optimizer in the form of `optimizers` and a step as the unit of time: gradient flow at
speed `learning_rate` for plain descent, where m = g. For Adam it is known as the stable flow.
The averages forget as fast as the optimizer's, b^t. A unit is cut into `substeps` of h, in each
of which the averages relax by their exact weight 1 - b^h and then w moves,

    m <- b1^h m + (1 - b1^h) g,    nu <- b2^h nu + (1 - b2^h) g^2,    w <- w - h learning_rate m / P

so that with one substep it is the optimizer, to rounding. The first step's gradient counts at
the step's middle: averages begin at age (1 - h) / 2 with what the first gradient gives.

It knows nothing of oscillations: at the edge of stability the optimizer leaves this flow, and
follows the one of `central_flow`.

Source: J. Cohen, A. Damian et al. 2025, arXiv:2410.24206 (stable flows).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.stability import curvature
from jaxdescent.stability.optimizers import FlowingOptimizer, weight

Loss = Callable[[Any, Any], jax.Array]


class GradientFlowState(NamedTuple):
    """Where a flow is.

    Attributes:
      params: the parameters, float32 at least.
      m, nu: the gradient's averages, like `params`.
      age: `f[]`, how many steps the averages have seen.
    """

    params: Any
    m: Any
    nu: Any
    age: jax.Array


class GradientFlowInfo(NamedTuple):
    """What happened in a unit of time.

    Attributes:
      loss: `f[]`, at its beginning.
      finite: `bool[]`, false if the loss is not finite, or the state would become so; it stays.
    """

    loss: jax.Array
    finite: jax.Array


class Flow(NamedTuple):
    """A flow as a pair of pure functions.

    Attributes:
      init: from (params, batch) to a state.
      step: from (state, batch) to the state a unit of time later, and info.
    """

    init: Callable[[Any, Any], Any]
    step: Callable[[Any, Any], tuple[Any, Any]]


class Moments(NamedTuple):
    """The averages of flat gradients, as a flow carries them.

    Attributes:
      m, nu: `f[n]`, of the gradient and of its square.
      age: `f[]`, how many steps they have seen.
    """

    m: jax.Array
    nu: jax.Array
    age: jax.Array


def first_moments(optimizer: FlowingOptimizer, g: jax.Array, h: float) -> Moments:
    """The averages at the start, before a substep of length h."""
    age = jnp.asarray((1 - h) / 2, g.dtype)
    return Moments(weight(optimizer.b1, age) * g, weight(optimizer.b2, age) * g**2, age)


def relaxed(
    optimizer: FlowingOptimizer, moments: Moments, g: jax.Array, square: jax.Array, h: float
) -> Moments:
    """The averages after a time h with a gradient of mean `g` and mean square `square`."""
    w1, w2 = weight(optimizer.b1, h), weight(optimizer.b2, h)
    return Moments(
        moments.m + w1 * (g - moments.m), moments.nu + w2 * (square - moments.nu), moments.age + h
    )


def kept_finite(new: Any, old: Any, losses: jax.Array) -> tuple[Any, jax.Array]:
    """The new state, or the old one if a number of the new one or a loss is not finite."""
    numbers = jax.tree.leaves((new, losses))
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers]))
    return jax.tree.map(lambda x, y: jnp.where(finite, x, y), new, old), finite


def gradient(loss_fn: Loss, optimizer: FlowingOptimizer, *, substeps: int = 16) -> Flow:
    """The gradient flow, a unit of time per call. See `gradient_flow`.

    Args:
      loss_fn: from (params, batch) to a scalar.
      optimizer: of `jd.flows`.
      substeps: that a unit of time is cut into, at least 1.

    Returns:
      `init(params, batch) -> GradientFlowState` and
      `step(state, batch) -> (GradientFlowState, GradientFlowInfo)`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: `substeps` is out of its range; at `init`, a leaf is not of floating point or
        the loss is no scalar.
    """
    check_optimizer(optimizer)
    h = 1 / validation.integer_in("substeps", substeps, 1)

    def init(params: Any, batch: Any) -> GradientFlowState:
        curvature.check(loss_fn, None, params, batch)
        flat = curvature.layout(params)
        w = flat.flat(params)
        wide = functools.partial(flat.tree, dtype=flat.dtype)
        g = jax.grad(on_flat(loss_fn, flat))(w, batch)
        m, nu, age = first_moments(cast(optimizer, flat.dtype), g, h)
        return GradientFlowState(wide(w), wide(m), wide(nu), age)

    def step(state: GradientFlowState, batch: Any) -> tuple[GradientFlowState, GradientFlowInfo]:
        flat = curvature.layout(state.params)
        rule = cast(optimizer, flat.dtype)
        value_and_grad = jax.value_and_grad(on_flat(loss_fn, flat))

        def substep(at: tuple[jax.Array, Moments], _: None) -> tuple[Any, jax.Array]:
            w, moments = at
            loss, g = value_and_grad(w, batch)
            moments = relaxed(rule, moments, g, g**2, h)
            P = rule.preconditioner(moments.nu, moments.age)
            return (w - h * rule.learning_rate * moments.m / P, moments), loss

        moments = Moments(flat.flat(state.m), flat.flat(state.nu), state.age)
        start = (flat.flat(state.params), moments)
        (w, moments), losses = jax.lax.scan(substep, start, None, length=substeps)
        new = GradientFlowState(
            flat.tree(w), flat.tree(moments.m), flat.tree(moments.nu), moments.age
        )
        new, finite = kept_finite(new, state, losses)
        return new, GradientFlowInfo(losses[0], finite)

    return Flow(init, step)


def gradient_flow(
    loss_fn: Loss,
    params: Any,
    batch: Any,
    optimizer: FlowingOptimizer,
    *,
    steps: int,
    substeps: int = 16,
) -> tuple[GradientFlowState, GradientFlowInfo]:
    """The path of an optimizer that does not oscillate; gradient flow for descent.

    An Euler method, of first order for descent and of second with averages, which take turns
    with the parameters. An eigenvalue of P^-1/2 H P^-1/2 above

        2 (1 + b1^h) / (h learning_rate (1 - b1^h)),    h = 1 / substeps,

    makes the computation unstable, not the flow: without momentum that is `substeps` times the
    optimizer's threshold, with momentum about its square. Half precision is computed in
    float32.

    Args:
      loss_fn: from (params, batch) to a scalar.
      params: pytree of real arrays.
      batch: pytree of arrays, handed on: the same one at all times.
      optimizer: of `jd.flows`: sgd, rmsprop or adam.
      steps: of the optimizer, to which the flow is followed; at least 1.
      substeps: that a step is cut into, at least 1.

    Returns:
      The state after `steps`, and the info of every one, `[steps]`.

    Raises:
      TypeError: the optimizer is not one of `jd.flows`.
      ValueError: `steps` or `substeps` is out of its range, a leaf is not of floating point, or
        the loss is no scalar.

    Example:
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


@functools.partial(jax.jit, static_argnames=("loss_fn", "steps", "substeps"))
def _gradient_flow(
    params: Any,
    batch: Any,
    optimizer: FlowingOptimizer,
    *,
    loss_fn: Loss,
    steps: int,
    substeps: int,
) -> tuple[GradientFlowState, GradientFlowInfo]:
    flow = gradient(loss_fn, optimizer, substeps=substeps)
    start = flow.init(params, batch)
    return jax.lax.scan(lambda state, _: flow.step(state, batch), start, None, length=steps)


def on_flat(loss_fn: Loss, flat: curvature.Layout) -> Callable[[jax.Array, Any], jax.Array]:
    """The loss over flat parameters, in the flat vector's dtype throughout."""
    return lambda w, batch: loss_fn(flat.tree(w, dtype=flat.dtype), batch).astype(flat.dtype)


def cast(optimizer: FlowingOptimizer, dtype: Any) -> FlowingOptimizer:
    """The optimizer with numbers of this dtype."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), optimizer)


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError if it is none of `jd.flows`."""
    if not isinstance(optimizer, FlowingOptimizer):
        raise TypeError(
            "optimizer must be one of jd.flows, such as jd.flows.adam(1e-3), got "
            f"{type(optimizer).__name__}"
        )
