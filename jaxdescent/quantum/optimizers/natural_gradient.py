"""Quantum natural gradient: steepest descent in the space of states.

    update = -eta (g + lambda m I)^-1 grad          g: the metric, m: its largest diagonal entry

The damping lambda follows Levenberg's rule. If the value at the new parameters is lower, the step
is accepted, and lambda becomes lambda / 3. Otherwise the next update goes back to the last accepted
parameters and takes the step from there with a larger lambda: 2, 4, 8, ... times as large after the
first, second, third, ... rejection in a row (Nielsen's rule, for initial values far too small).

g is symmetric with non-negative eigenvalues, so that the damped matrix can always be inverted, at
singular metrics too.

Sources: J. Stokes, J. Izaac, N. Killoran, G. Carleo 2020, arXiv:1909.02108; K. Levenberg 1944;
H. B. Nielsen 1999, IMM-REP-1999-05.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxdescent import numerics, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.quantum.circuits import metric as metrics
from jaxdescent.quantum.circuits.circuit import Circuit
from jaxdescent.quantum.optimizers.circuit_optimizer import added, no_count

LEAST_SCALE = 2.5e-4
"""A thousandth of the metric of one rotation, under which m does not fall."""

DAMPING_RANGE = 1e-9, 1e3


class NaturalGradientState(NamedTuple):
    """State of `quantum_natural_gradient`.

    Attributes:
      damping: f[], lambda of the next update.
      condition: f[], condition number of the damped metric of the last update; NaN before.
      value: f[], value at the last accepted parameters; infinite before.
      params: f[n], the last accepted parameters.
      grads: f[n], the gradient there.
      metric: f[n, n], the metric there.
      rejected: i32[], number of steps that were rejected.
      in_a_row: i32[], number of the last steps that were rejected.
      executions: i32[], number of executions that measured metrics until now. The executions of
        gradients are in the `evaluations` of their estimator.
    """

    damping: jax.Array
    condition: jax.Array
    value: jax.Array
    params: jax.Array
    grads: jax.Array
    metric: jax.Array
    rejected: jax.Array
    in_a_row: jax.Array
    executions: jax.Array


def quantum_natural_gradient(
    circuit: Circuit | Callable[[Any], jax.Array],
    learning_rate: ArrayLike = 0.5,
    *,
    form: metrics.Form = "full",
    damping: ArrayLike = 1e-3,
    levenberg: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Preconditions gradients by the metric of a circuit's states with respect to the parameters.

    A momentum is a chain: `optax.chain(quantum_natural_gradient(circuit, 0.1, levenberg=False),
    optax.trace(0.9))`.

    Args:
      circuit: a circuit, whose metric is computed; or a function called as `circuit(params)` that
        returns the metric with respect to the flattened parameters, f[n, n]. The executions of a
        function are not counted.
      learning_rate: eta, a number in (0, inf). 0.5 is Newton's step near an eigenstate if the
        observable's spectrum has the width 1.
      form: "full", or "block-diagonal", which needs an execution per layer.
      damping: the first lambda, a number in [1e-9, 1000].
      levenberg: whether the damping is adapted. Otherwise it is constant, and no step is rejected.

    Returns:
      A transformation. `update(grads, state, params, value=value)` needs the value if `levenberg`.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: an argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd, optax
      >>> gates = jd.quantum.gates
      >>> circuit = jd.quantum.Circuit(1, [gates.ry(gates.param(0), 0)])
      >>> expectation = circuit.expectation(jd.quantum.pauli_sum({"Z": 1.0}))
      >>> tx, params = jd.quantum.quantum_natural_gradient(circuit, 0.25), jnp.array([2.0])
      >>> state = tx.init(params)
      >>> for _ in range(6):
      ...     value, grads = jax.value_and_grad(expectation)(params)
      ...     updates, state = tx.update(grads, state, params, value=value)
      ...     params = optax.apply_updates(params, updates)
      >>> round(float(expectation(params)), 3)
      -1.0
    """
    metrics.check_form(form)
    executions = 0
    if isinstance(circuit, Circuit):
        executions = metrics.metric_executions(circuit, form)
    elif not callable(circuit):
        metrics.check_circuit(circuit)
    rate = validation.positive_number("learning_rate", learning_rate)
    if validation.is_concrete(damping):
        validation.number_in("damping", damping, *DAMPING_RANGE)
    validation.boolean("levenberg", levenberg)

    def metric_at(params: Any, dtype: Any) -> jax.Array:
        if isinstance(circuit, Circuit):
            wide = jax.tree.map(lambda x: x.astype(numerics.at_least_float32(x.dtype)), params)
            return metrics.metric(circuit, wide, form=form).astype(dtype)
        found = jnp.asarray(circuit(params), dtype)
        size = sum(jnp.size(x) for x in jax.tree.leaves(params))
        if not size:
            raise ValueError(
                f"params must hold at least one number, got {validation.shown(params)}"
            )
        if found.shape != (size, size):
            raise ValueError(
                f"circuit must return the metric of {size} parameters, f[{size}, {size}], got "
                f"shape {found.shape}"
            )
        return found

    def init(params: Any) -> NaturalGradientState:
        validation.check_floating("params", params)
        dtype = numerics.widest_float(params)
        size = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
        return NaturalGradientState(
            damping=jnp.asarray(damping, dtype),
            condition=jnp.full((), jnp.nan, dtype),
            value=jnp.full((), jnp.inf, dtype),
            params=jnp.zeros(size, dtype),
            grads=jnp.zeros(size, dtype),
            metric=jnp.zeros((size, size), dtype),
            rejected=no_count(),
            in_a_row=no_count(),
            executions=no_count(),
        )

    def update(
        updates: Any,
        state: NaturalGradientState,
        params: Any = None,
        *,
        value: Any = None,
        **_: Any,
    ) -> tuple[Any, NaturalGradientState]:
        if levenberg:
            validation.check_params_and_loss(params, value)
        elif params is None:
            raise ValueError("update(grads, state, params) needs params")
        if not isinstance(state, NaturalGradientState):
            raise TypeError(
                "state must be the NaturalGradientState that init(params) or update returned, got "
                f"{validation.shown(state)}"
            )
        if jnp.shape(value if value is not None else 0):
            raise ValueError(f"value must be a scalar, got shape {jnp.shape(value)}")
        dtype = state.value.dtype
        params, updates = (jax.tree.map(jnp.asarray, tree) for tree in (params, updates))
        grads, unravel = ravel_pytree(jax.tree.map(lambda g: g.astype(dtype), updates))
        x = ravel_pytree(jax.tree.map(lambda p: p.astype(dtype), params))[0]
        for name, flat in (("params", x), ("grads", grads)):
            if flat.size != state.params.size:
                raise ValueError(
                    f"{name} must hold {state.params.size} numbers, as in init(params), got "
                    f"{flat.size}"
                )
        value = jnp.asarray(jnp.nan if value is None else value, dtype)
        usable = numerics.all_finite((grads, value)) if levenberg else numerics.all_finite(grads)
        accepted = usable & (value <= state.value) if levenberg else usable
        in_a_row = jnp.where(accepted, 0, added(state.in_a_row, 1))
        damping = state.damping
        if levenberg:
            first = jnp.isinf(state.value)
            lower = jnp.where(first, damping, damping / 3)
            higher = damping * 2.0 ** jnp.minimum(in_a_row, 30).astype(dtype)
            damping = jnp.clip(jnp.where(accepted, lower, higher), *DAMPING_RANGE)
        new = metric_at(params, dtype)
        metric = jnp.where(accepted, new, state.metric)
        slopes = jnp.where(accepted, grads, state.grads)
        origin = jnp.where(accepted, x, state.params)
        direction, condition = damped_solve(metric, slopes, damping)
        seen = accepted | jnp.isfinite(state.value)  # an accepted point exists
        moved = jnp.where(seen, origin - jnp.asarray(rate, dtype) * direction, x)
        change = unravel(moved - x)
        change = jax.tree.map(lambda c, g: c.astype(g.dtype), change, updates)
        return change, NaturalGradientState(
            damping=damping,
            condition=condition,
            value=jnp.where(accepted & jnp.isfinite(value), value, state.value),
            params=origin,
            grads=slopes,
            metric=metric,
            rejected=added(state.rejected, ~accepted),
            in_a_row=in_a_row,
            executions=added(state.executions, jnp.where(accepted, executions, 0)),
        )

    return optax.GradientTransformationExtraArgs(init, compile_eager_calls(update))


def damped_solve(
    metric: jax.Array, grads: jax.Array, damping: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns (g + lambda m I)^-1 grad, f[n], and the condition number of the damped metric."""
    values, vectors = jnp.linalg.eigh((metric + metric.T) / 2)
    values = jnp.maximum(values, 0)
    scale = jnp.maximum(jnp.max(jnp.diagonal(metric)), LEAST_SCALE)
    damped = values + damping * scale
    along = jnp.matmul(vectors.T, grads, precision="highest") / damped
    return jnp.matmul(vectors, along, precision="highest"), damped[-1] / damped[0]
