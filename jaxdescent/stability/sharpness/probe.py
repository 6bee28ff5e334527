"""Stability probe: measures a run's sharpness and detects when the run diverges.

At parameters w, with an optimizer whose stability threshold is T (see `optimizer_thresholds`), a
probe computes

    s = lambda_max(P^-1/2 H P^-1/2)      in a few products from the last probe's eigenvector
    r = ||(P^-1/2 H P^-1/2 - s) y||      s is at most lambda_max, which can exceed s + r

and the loss, and stores them in a ring buffer. At the edge of stability s / T oscillates around
1 while the loss decreases over many steps, so s > T alone does not mean divergence. A run counts
as diverging if s > T and the loss exceeds its minimum by more than `rise` times the first loss,
at `patience` consecutive probes. Numbers that are not finite are reported separately.

Source for the edge: J. Cohen et al. 2021, arXiv:2103.00065. The divergence test is ours.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescent import containers, validation
from jaxdescent.stability.sharpness import curvature
from jaxdescent.stability.sharpness.arguments import check_threshold
from jaxdescent.stability.sharpness.eigenvalues import Sharpness, sharpness
from jaxdescent.stability.sharpness.optimizer_thresholds import Threshold


class StabilityOutcome(enum.IntEnum):
    """Outcome of a run so far; `DIVERGING` and above are failures."""

    UNKNOWN = 0
    """No probe yet."""
    BELOW = 1
    """The sharpness has always been below the threshold."""
    EDGE = 2
    """The sharpness has reached the threshold."""
    DIVERGING = 3
    """The sharpness stayed above the threshold while the loss grew."""
    NOT_FINITE = 4
    """A loss or an eigenvalue was not finite."""


class StabilityRecord(NamedTuple):
    """Measurements of a probe, or of many: arrays with a leading axis.

    Attributes:
      step: i32[], number of updates before the probe; -1 where there is no record yet.
      loss: f[].
      learning_rate: f[], of the update at this step.
      sharpness: f[], of P^-1 H if the optimizer has a P.
      residual: f[], the sharpness is within this distance of an eigenvalue.
      converged: bool[], True if the residual is within the tolerance.
      threshold: f[], the largest stable sharpness.
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
    """State of a probe.

    Attributes:
      log: ring buffer of the last records; `stability_log` puts them in order.
      probes: i32[], number of probes.
      unconverged: i32[], number of probes whose residual was not within the tolerance.
      first_loss: f[], loss of the first probe.
      least_loss: f[], smallest loss of all probes.
      suspicious: i32[], number of consecutive probes at which the divergence test held.
      below: bool[], True if the sharpness was ever below the threshold.
      reached: i32[], step of the first probe with a sharpness at or above the threshold, or -1.
        If the run starts above the threshold, this is reset once the sharpness falls below it.
      diverged: i32[], step at which the run was first found to diverge, or -1.
      not_finite: i32[], step of the first number that was not finite, or -1.
      vector: like the parameters, the last eigenvector, from which the next probe starts.
    """

    log: StabilityRecord
    probes: jax.Array
    unconverged: jax.Array
    first_loss: jax.Array
    least_loss: jax.Array
    suspicious: jax.Array
    below: jax.Array
    reached: jax.Array
    diverged: jax.Array
    not_finite: jax.Array
    vector: Any

    @property
    def last(self) -> StabilityRecord:
        """The newest record."""
        log, probes = containers.unboxed((self.log, self.probes))
        return jax.tree.map(lambda ring: ring[(probes - 1) % len(ring)], log)

    @property
    def outcome(self) -> jax.Array:
        """i32[], a value of `StabilityOutcome`."""
        state = containers.unboxed(self)  # as nnx.Optimizer holds it
        outcome = jnp.where(state.reached < 0, StabilityOutcome.BELOW, StabilityOutcome.EDGE)
        outcome = jnp.where(state.diverged < 0, outcome, StabilityOutcome.DIVERGING)
        outcome = jnp.where(state.not_finite < 0, outcome, StabilityOutcome.NOT_FINITE)
        return jnp.where(state.probes > 0, outcome, StabilityOutcome.UNKNOWN).astype(jnp.int32)


class StabilityProbe(NamedTuple):
    """A probe as two pure functions, which can be vmapped.

    Attributes:
      init: called as `init(params)`; returns a `StabilityState`.
      update: called as `update(state, params, opt_state, grads, batch, step)`; returns the next
        state. `opt_state` is the optimizer's state after its update with these parameters and
        gradients, `step` the number of updates before that one.
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
    """Returns a probe to call in your own loop, for example between compiled chunks of steps.

    `monitor_stability` runs a probe every few steps with `lax.cond`. Under `vmap` both branches of
    a `cond` are computed in every step, so for vmapped seeds call a probe between chunks of steps.

    Args:
      loss_fn: called as `loss_fn(params, batch)`; returns a scalar.
      threshold: the optimizer's stability threshold, one of `jd.thresholds`.
      log_size: number of records to keep.
      patience: number of consecutive probes at which the divergence test must hold; the outcome
        DIVERGING is then final. Choose it, and the time between probes, so that a catapult (a
        temporary increase of the loss) is over sooner.
      rise: how far the loss must be above its minimum, in units of the magnitude of the first
        loss; in (0, inf).
      tolerance: for the eigenvalue's residual, relative to the eigenvalue.
      num_steps: largest number of Lanczos steps between restarts. A probe starts at the last
        eigenvector and takes at least 6 steps, which is enough to find another eigenvalue that has
        become larger. With fewer steps, a record could follow the old eigenvalue for a long time
        and still be marked as converged.
      max_restarts: largest number of restarts; the record is then marked as not converged.

    Raises:
      ValueError: an argument is out of its range.
      TypeError: the threshold is not one of `jd.thresholds`, or the loss is not callable.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x, scales):
      ...     return 0.5 * jnp.sum(scales * x**2)
      >>> tx, probe = optax.sgd(0.1), jd.stability_probe(loss, jd.thresholds.sgd(0.1))
      >>> x, scales = jnp.ones(3), jnp.array([1.0, 4.0, 15.0])
      >>> grads = jax.grad(loss)(x, scales)
      >>> state = probe.update(probe.init(x), x, tx.init(x), grads, scales, 0)
      >>> round(float(state.last.ratio), 3), jd.StabilityOutcome(int(state.outcome)).name
      (0.75, 'BELOW')
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be callable, got {loss_fn!r}")
    check_threshold(threshold)
    validation.integer_in("log_size", log_size, 1)
    validation.integer_in("patience", patience, 1)
    validation.open_interval("rise", rise, 0.0, np.inf)
    validation.open_interval("tolerance", tolerance, 0.0, np.inf)
    validation.integer_in("num_steps", num_steps, 1)
    validation.integer_in("max_restarts", max_restarts, 0)

    def init(params: Any) -> StabilityState:
        dtype = measured_dtype(params)

        def ring(fill: Any, kind: Any = dtype) -> jax.Array:
            return jnp.full(log_size, fill, kind)

        def count(fill: int = 0) -> jax.Array:
            return jnp.full((), fill, jnp.int32)

        return StabilityState(
            log=StabilityRecord(
                step=ring(-1, jnp.int32),
                loss=ring(jnp.nan),
                learning_rate=ring(jnp.nan),
                sharpness=ring(jnp.nan),
                residual=ring(jnp.nan),
                converged=ring(False, bool),
                threshold=ring(jnp.nan),
            ),
            probes=count(),
            unconverged=count(),
            first_loss=jnp.full((), jnp.nan, dtype),
            least_loss=jnp.full((), jnp.inf, dtype),
            suspicious=count(),
            below=jnp.zeros((), bool),
            reached=count(-1),
            diverged=count(-1),
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
        model, params = params, containers.params_like(params, state.vector)
        opt_state = containers.unboxed(opt_state)
        loss_of, batch = _loss_of_params(loss_fn, model, params, batch)
        preconditioner = None
        if threshold.preconditioner is not None:
            preconditioner = containers.boxed_like(threshold.preconditioner(opt_state), params)
        top = sharpness(
            loss_of,
            params,
            batch,
            preconditioner=preconditioner,
            tolerance=tolerance,
            num_steps=num_steps,
            max_restarts=max_restarts,
            start=_warm_start(state),
            key=jax.random.fold_in(jax.random.key(0), step),
        )
        learning_rate = threshold.learning_rate(opt_state, step)
        record = StabilityRecord(
            step=step,
            loss=loss_of(params, batch).astype(dtype),
            learning_rate=learning_rate.astype(dtype),
            sharpness=top.values[0],
            residual=top.residuals[0],
            converged=top.converged[0],
            threshold=threshold.max_sharpness(learning_rate, grads).astype(dtype),
        )
        return add_record(state, record, patience, rise)._replace(
            vector=jax.tree.map(_if_finite, top.vectors, state.vector)
        )

    return StabilityProbe(init, update)


@dataclass(frozen=True)
class _LossOfModel:
    """The loss of a model as a function of its parameters and of its other arrays and the batch.

    Two of them are equal if the models have equal leaves that are not arrays.

    Attributes:
      loss_fn: called as `loss_fn(model, batch)`.
      structure: of the model without the parameters.
      others: its leaves; None in the place of arrays.
    """

    loss_fn: Callable[[Any, Any], jax.Array]
    structure: Any
    others: tuple[Any, ...]

    def __call__(self, params: Any, arrays_and_batch: tuple[Any, Any]) -> jax.Array:
        arrays, batch = arrays_and_batch
        pairs = zip(arrays, self.others, strict=True)
        leaves = [other if array is None else array for array, other in pairs]
        model = containers.filled(params, jax.tree.unflatten(self.structure, leaves))
        return self.loss_fn(model, batch)


def _loss_of_params(
    loss_fn: Callable[[Any, Any], jax.Array], model: Any, params: Any, batch: Any
) -> tuple[Callable[[Any, Any], jax.Array], Any]:
    """Returns the loss as a function of `params`, which are None in the model's other leaves.

    The function is equal at each call, so that eager calls compile once.

    Returns:
      The function, and its second argument.
    """
    if params is model:
        return loss_fn, batch

    def keep(param: Any, leaf: Any) -> Any:
        return leaf if param is None else None

    others = jax.tree.map(keep, params, model, is_leaf=lambda node: node is None)
    leaves, structure = jax.tree.flatten(others)
    arrays = tuple(x if isinstance(x, jax.Array | np.ndarray) else None for x in leaves)
    rest = tuple(None if isinstance(x, jax.Array | np.ndarray) else x for x in leaves)
    return _LossOfModel(loss_fn, structure, rest), (arrays, batch)


def stability_log(state: Any, /) -> StabilityRecord:
    """Returns the records of a probe as NumPy arrays, oldest first.

    Args:
      state: a `StabilityState`, or a tree that holds one, such as the state of a monitored
        optimizer; of one run, not of a batch of runs.

    Returns:
      A `StabilityRecord` of arrays [records]: all of them, or the last `log_size`.

    Raises:
      ValueError: `state` does not hold exactly one such state, or it is of a batch of runs.
    """
    state = get_stability(state)
    if jnp.ndim(state.probes):
        raise ValueError(
            "state must be of one run, got a batch of runs; select one with jax.tree.map"
        )
    size = len(state.log.step)
    count = int(state.probes)
    order = np.arange(max(count - size, 0), count) % size
    return jax.tree.map(lambda ring: np.asarray(ring)[order], state.log)


def get_stability(state: Any, /) -> StabilityState:
    """Returns the only `StabilityState` in a tree, such as a monitored optimizer's state.

    The tree may also be the `opt_state` of an `nnx.Optimizer`, `nnx.state(optimizer)`, a
    `TrainState`, or a state that Orbax restored without a template.

    Raises:
      ValueError: there is no such state, or more than one.
    """
    found = containers.find_states(state, StabilityState, may_be_empty=())
    if len(found) != 1:
        raise ValueError(f"state must hold one StabilityState, got {len(found)}")
    return found[0]


def measured_dtype(params: Any) -> Any:
    """Returns the dtype of measurements: float64 if a parameter is float64, else float32."""
    # `optax.tree.map_params` passes a placeholder without leaves.
    return curvature.layout(params).dtype if jax.tree.leaves(params) else jnp.dtype(jnp.float32)


def add_record(
    state: StabilityState, record: StabilityRecord, patience: ArrayLike, rise: ArrayLike
) -> StabilityState:
    """Returns the state with another record, after the divergence test."""
    finite = jnp.isfinite(record.loss) & jnp.isfinite(record.sharpness)
    finite &= ~jnp.isnan(record.threshold)
    first = jnp.where(jnp.isnan(state.first_loss), record.loss, state.first_loss)
    above = record.sharpness > record.threshold
    below = record.sharpness < record.threshold
    reached = jnp.where(below & ~state.below, -1, state.reached)
    risen = record.loss - state.least_loss > rise * jnp.abs(first)
    suspicious = jnp.where(above & risen, state.suspicious + 1, 0)
    index = state.probes % len(state.log.step)

    def since(old: jax.Array, now: jax.Array) -> jax.Array:
        return jnp.where((old < 0) & now, record.step, old)

    return state._replace(
        log=jax.tree.map(lambda ring, new: ring.at[index].set(new), state.log, record),
        probes=state.probes + 1,
        unconverged=state.unconverged + jnp.where(record.converged, 0, 1),
        first_loss=first,
        least_loss=jnp.fmin(state.least_loss, record.loss),
        suspicious=suspicious,
        below=state.below | below,
        reached=since(reached, record.sharpness >= record.threshold),
        diverged=since(state.diverged, suspicious >= patience),
        not_finite=since(state.not_finite, ~finite),
    )


def _warm_start(state: StabilityState) -> Sharpness:
    zeros = jnp.zeros(1, state.least_loss.dtype)
    last = jnp.nan_to_num(state.last.sharpness)[None]  # the scale of the matrix
    vectors = jax.tree.map(lambda x: x[None], state.vector)
    return Sharpness(last, vectors, zeros, zeros > 0, jnp.zeros((), jnp.int32))


def _if_finite(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(jnp.all(jnp.isfinite(new)), new[0], old)
