"""A probe: what a run is like where it stands, and whether it has left its edge of stability.

At parameters w, with an optimizer whose threshold is T (see `thresholds`), a probe finds

    s = lambda_max(P^-1/2 H P^-1/2)      from the last probe's eigenvector, in a few products
    r = ||(P^-1/2 H P^-1/2 - s) y||      s is at most lambda_max, which may be above s + r

and the loss, and keeps them in a ring. Descent at its edge has s / T hover around 1 while the
loss falls, if not at every step: s > T alone is no fault. A run has left its edge if s > T and the
loss is above its least by more than `rise` times the first one, at `patience` probes in a row;
or if a number is not finite.

Source for the edge: J. Cohen et al. 2021, arXiv:2103.00065. The guard is ours.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import validation
from jaxdescent.stability import curvature
from jaxdescent.stability.sharpness import Sharpness, sharpness
from jaxdescent.stability.thresholds import Threshold


class StabilityOutcome(enum.IntEnum):
    """What a run has come to; from LEFT on something is wrong."""

    UNKNOWN = 0
    """There was no probe yet."""
    BELOW = 1
    """The sharpness has not come up to the threshold."""
    EDGE = 2
    """The sharpness has reached the threshold."""
    DIVERGING = 3
    """The sharpness stayed above the threshold while the loss grew."""
    NOT_FINITE = 4
    """A loss or an eigenvalue was not finite."""


class StabilityRecord(NamedTuple):
    """What a probe found, or a ring of it: arrays with a leading axis.

    Attributes:
      step: i32[], updates before it; -1 where there is no record yet.
      loss: f[].
      learning_rate: f[], of the update at this step.
      sharpness: f[], of P^-1 H if the optimizer has a P.
      residual: f[], an eigenvalue lies within it of the sharpness.
      converged: bool[], whether the residual is within the tolerance.
      threshold: f[], the greatest stable sharpness.
    """

    step: jax.Array
    loss: jax.Array
    learning_rate: jax.Array
    sharpness: jax.Array
    residual: jax.Array
    converged: jax.Array
    threshold: jax.Array

    @property
    def ratio(self) -> jax.Array:
        """f[], sharpness over threshold."""
        return self.sharpness / self.threshold


class StabilityState(NamedTuple):
    """What a probe carries.

    Attributes:
      log: the last records, a ring; `stability_log` puts it in order.
      probes: i32[], how many there were.
      unconverged: i32[], at how many of them the eigenvalue was not within the tolerance.
      first_loss: f[], of the first probe.
      least_loss: f[], of all.
      suspicious: i32[], probes in a row at which the guard's condition held.
      below: bool[], whether the sharpness was ever found below the threshold.
      reached: i32[], step at which it was first found at the threshold or above, or -1. A
        start above the threshold no longer counts when the sharpness has fallen below.
      left: i32[], step at which the run was first found to have left the edge, or -1.
      not_finite: i32[], step of the first number that was not finite, or -1.
      vector: like the parameters, the last eigenvector: where the next probe starts.
    """

    log: StabilityRecord
    probes: jax.Array
    unconverged: jax.Array
    first_loss: jax.Array
    least_loss: jax.Array
    suspicious: jax.Array
    below: jax.Array
    reached: jax.Array
    left: jax.Array
    not_finite: jax.Array
    vector: Any

    @property
    def last(self) -> StabilityRecord:
        """The newest record."""
        size = len(self.log.step)
        return jax.tree.map(lambda ring: ring[(self.probes - 1) % size], self.log)

    @property
    def outcome(self) -> jax.Array:
        """i32[], one of `StabilityOutcome`."""
        known = jnp.where(self.reached < 0, StabilityOutcome.BELOW, StabilityOutcome.EDGE)
        known = jnp.where(self.left < 0, known, StabilityOutcome.DIVERGING)
        known = jnp.where(self.not_finite < 0, known, StabilityOutcome.NOT_FINITE)
        return jnp.where(self.probes > 0, known, StabilityOutcome.UNKNOWN).astype(jnp.int32)


class StabilityProbe(NamedTuple):
    """Two pure functions; `jax.vmap` them over seeds.

    Attributes:
      init: from parameters to a `StabilityState`.
      update: from (state, params, opt_state, grads, batch, step) to the next one. `opt_state` is
        what the update at these parameters and gradients returned, `step` how many
        updates there were before it.
    """

    init: Callable[[Any], StabilityState]
    update: Callable[..., StabilityState]


def stability_probe(
    loss_fn: Callable[[Any, Any], jax.Array],
    threshold: Threshold,
    *,
    log_size: int = 256,
    patience: int = 3,
    rise: float = 0.5,
    tolerance: float = 1e-2,
    num_steps: int = 8,
    max_restarts: int = 4,
) -> StabilityProbe:
    """A probe to be called by hand, say between compiled chunks of a run.

    `monitor_stability` calls it every so many steps by `lax.cond`, of which `vmap` runs
    both branches: probe seeds that are vmapped between chunks.

    Args:
      loss_fn: from (params, batch) to a scalar.
      threshold: what the optimizer can bear, one of `jd.thresholds`.
      log_size: how many records are kept.
      patience: probes in a row after which the run has left its edge, and stays so: choose
        the time between probes so that this is longer than a catapult takes.
      rise: by how much the loss must be above its least there, in units of the first one's
        magnitude; in (0, inf).
      tolerance: for the eigenvalue's residual, relative to it.
      num_steps: Lanczos steps between restarts. A probe starts at the last one's vector, and
        takes 6 steps at least in which an eigenvalue that has overtaken the old one is
        seen: with less, a record may stay at the old one for long, and be converged.
      max_restarts: how often it restarts at most; the record is then flagged.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: the threshold is none, or the loss is not callable.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x, scales):
      ...     return 0.5 * jnp.sum(scales * x**2)
      >>> tx, probe = optax.sgd(0.1), jd.stability_probe(loss, jd.thresholds.gd(0.1))
      >>> x, scales = jnp.ones(3), jnp.array([1.0, 4.0, 15.0])
      >>> grads = jax.grad(loss)(x, scales)
      >>> state = probe.update(probe.init(x), x, tx.init(x), grads, scales, 0)
      >>> round(float(state.last.ratio), 3), jd.StabilityOutcome(int(state.outcome)).name
      (0.75, 'BELOW')
    """
    _check_callable("loss_fn", loss_fn)
    check_threshold(threshold)
    validation.integer_in("log_size", log_size, 1)
    validation.integer_in("patience", patience, 1)
    validation.open_interval("rise", rise, 0.0, np.inf)
    validation.open_interval("tolerance", tolerance, 0.0, np.inf)
    validation.integer_in("num_steps", num_steps, 1)
    validation.integer_in("max_restarts", max_restarts, 0)

    def init(params: Any) -> StabilityState:
        dtype = float_dtype(params)
        ring = lambda fill, kind: jnp.full(log_size, fill, kind)
        number = lambda: ring(jnp.nan, dtype)
        count = lambda fill=0: jnp.full((), fill, jnp.int32)
        return StabilityState(
            log=StabilityRecord(
                step=ring(-1, jnp.int32),
                loss=number(),
                learning_rate=number(),
                sharpness=number(),
                residual=number(),
                converged=ring(False, bool),
                threshold=number(),
            ),
            probes=count(),
            unconverged=count(),
            first_loss=jnp.full((), jnp.nan, dtype),
            least_loss=jnp.full((), jnp.inf, dtype),
            suspicious=count(),
            below=jnp.zeros((), bool),
            reached=count(-1),
            left=count(-1),
            not_finite=count(-1),
            vector=jax.tree.map(lambda x: jnp.zeros_like(x, dtype), params),
        )

    def update(
        state: StabilityState,
        params: Any,
        opt_state: Any,
        grads: Any = None,
        batch: Any = None,
        step: Any = 0,
    ) -> StabilityState:
        dtype = state.least_loss.dtype
        step = jnp.asarray(step, jnp.int32)
        preconditioner = threshold.preconditioner
        top = sharpness(
            loss_fn,
            params,
            batch,
            preconditioner=None if preconditioner is None else preconditioner(opt_state),
            tolerance=tolerance,
            num_steps=num_steps,
            max_restarts=max_restarts,
            start=_warm(state),
            key=jax.random.fold_in(jax.random.key(0), step),
        )
        learning_rate = threshold.learning_rate(opt_state, step)
        record = StabilityRecord(
            step=step,
            loss=loss_fn(params, batch).astype(dtype),
            learning_rate=learning_rate.astype(dtype),
            sharpness=top.values[0],
            residual=top.residuals[0],
            converged=top.converged[0],
            threshold=threshold.bound(learning_rate, grads).astype(dtype),
        )
        return judged(state, record, patience, rise)._replace(
            vector=jax.tree.map(_if_finite, top.vectors, state.vector)
        )

    return StabilityProbe(init, update)


def stability_log(state: Any, /) -> StabilityRecord:
    """The records of a probe, the oldest first, as NumPy arrays.

    Args:
      state: a `StabilityState`, or any tree that holds one, such as the state of an
        optimizer that is monitored; of one run, not of a batch of them.

    Returns:
      A `StabilityRecord` of arrays [records]: all of them, or the last `log_size`.

    Raises:
      ValueError: there is no such state in `state`, or more than one, or it is of many runs.
    """
    state = find_stability(state)
    if jnp.ndim(state.probes):
        raise ValueError(
            "state must be of one run, got one of a batch of them; take one by jax.tree.map"
        )
    size = len(state.log.step)
    count = int(state.probes)
    order = np.arange(max(count - size, 0), count) % size
    return jax.tree.map(lambda ring: np.asarray(ring)[order], state.log)


def find_stability(state: Any, /) -> StabilityState:
    """The only `StabilityState` in a tree.

    Raises:
      ValueError: there is none, or more than one.
    """
    is_it = lambda node: isinstance(node, StabilityState)
    found = [node for node in jax.tree.leaves(state, is_leaf=is_it) if is_it(node)]
    if len(found) != 1:
        raise ValueError(f"state must hold one StabilityState, got {len(found)}")
    return found[0]


def float_dtype(params: Any) -> Any:
    """Of what is measured: float32, or float64 if a parameter is."""
    # `optax.tree.map_params` asks for the state of a placeholder without leaves.
    return curvature.layout(params).dtype if jax.tree.leaves(params) else jnp.dtype(jnp.float32)


def check_threshold(threshold: Any) -> None:
    """Raises TypeError if this is no threshold, with the usual mistake in mind."""
    if isinstance(threshold, Threshold):
        return
    hint = "; call it first, as in jd.thresholds.gd(0.1)" if callable(threshold) else ""
    raise TypeError(f"threshold must be one of jd.thresholds, got {threshold!r}{hint}")


def judged(
    state: StabilityState, record: StabilityRecord, patience: ArrayLike, rise: ArrayLike
) -> StabilityState:
    """The state with another record, and what the guard says of it."""
    finite = jnp.isfinite(record.loss) & jnp.isfinite(record.sharpness)
    finite &= ~jnp.isnan(record.threshold)
    first = jnp.where(jnp.isnan(state.first_loss), record.loss, state.first_loss)
    above = record.sharpness > record.threshold
    below = record.sharpness < record.threshold
    reached = jnp.where(below & ~state.below, -1, state.reached)
    lost = record.loss - state.least_loss > rise * jnp.abs(first)
    suspicious = jnp.where(above & lost, state.suspicious + 1, 0)
    since = lambda old, now: jnp.where((old < 0) & now, record.step, old)
    place = state.probes % len(state.log.step)
    return state._replace(
        log=jax.tree.map(lambda ring, new: ring.at[place].set(new), state.log, record),
        probes=state.probes + 1,
        unconverged=state.unconverged + jnp.where(record.converged, 0, 1),
        first_loss=first,
        least_loss=jnp.fmin(state.least_loss, record.loss),
        suspicious=suspicious,
        below=state.below | below,
        reached=since(reached, record.sharpness >= record.threshold),
        left=since(state.left, suspicious >= patience),
        not_finite=since(state.not_finite, ~finite),
    )


def _warm(state: StabilityState) -> Sharpness:
    nothing = jnp.zeros(1, state.least_loss.dtype)
    last = jnp.nan_to_num(state.last.sharpness)[None]  # for the scale of the matrix
    vectors = jax.tree.map(lambda x: x[None], state.vector)
    return Sharpness(last, vectors, nothing, nothing > 0, jnp.zeros((), jnp.int32))


def _if_finite(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(jnp.all(jnp.isfinite(new)), new[0], old)


def _check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {value!r}")
