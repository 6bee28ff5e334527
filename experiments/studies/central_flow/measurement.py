"""An optimizer and its flows, run from the same parameters, and what is measured of them."""

import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import runner
from experiments.data import digits
from experiments.models.tanh_network import Layers, squared_error
from experiments.studies.central_flow.settings import SUBSTEPS, WINDOW, Case, Scale


class Step(NamedTuple):
    """Measurements at a step, or with a leading axis at all steps.

    Attributes:
      loss: of the optimizer's iterate.
      predicted_loss: the time-averaged loss that the central flow predicts.
      flow_loss: at the parameters of the central flow.
      stable_loss: of the flow without oscillations.
      variance: squared norm of the alternating part of the iterates.
      predicted_variance: the central flow's prediction of it.
      deviation: squared distance of the iterate from the central flow, within the span of its
        tracked directions.
      eigenvalues: [k], of the central flow.
      at_edge: the number of eigenvalues at the edge.
      residual: of the complementarity problem.
      distance, stable_distance: of the flows from the iterates without their alternating part.
    """

    loss: Any
    predicted_loss: Any
    flow_loss: Any
    stable_loss: Any
    variance: Any
    predicted_variance: Any
    deviation: Any
    eigenvalues: Any
    at_edge: Any
    residual: Any
    distance: Any
    stable_distance: Any


class History(NamedTuple):
    """Measurements of a case.

    Attributes:
      steps: with a leading axis of steps.
      probed_eigenvalues: `f[probes, k]`, measured between two iterates of the optimizer.
    """

    steps: Step
    probed_eigenvalues: np.ndarray


class Carry(NamedTuple):
    """States of the optimizer, with its previous iterate, and of the two flows."""

    previous: Any
    params: Any
    opt_state: Any
    central: jd.flows.CentralFlowState
    stable: jd.flows.GradientFlowState


def init_params(sizes: Sequence[int], seed: int) -> Layers:
    """Draws weights uniformly within +-1 / sqrt(inputs) by NumPy; biases are zero."""
    layers = []
    rng = np.random.default_rng(seed)
    for inputs, outputs in itertools.pairwise(sizes):
        kernel = rng.uniform(-1, 1, (inputs, outputs)) / np.sqrt(inputs)
        layers.append({"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(outputs)})
    return layers


def measure(
    case: Case, scale: Scale, seed: int, run: runner.Run, progress: runner.Progress
) -> History:
    """Runs the optimizer and its flows; returns their measurements."""
    total = scale.steps_of(case)
    steps = total // scale.probes

    def compute() -> History:
        part = digits.load().train
        batch = (
            jnp.asarray(part.inputs[: scale.images]),
            jax.nn.one_hot(part.targets[: scale.images], 10),
        )
        params = init_params([64, scale.width, scale.width, 10], seed)
        optimizer = case.flow_optimizer
        central = jd.flows.central(squared_error, optimizer, k=case.k, substeps=SUBSTEPS)
        stable = jd.flows.gradient(squared_error, optimizer, substeps=4 * SUBSTEPS)
        carry = Carry(
            params,
            params,
            case.tx.init(params),
            jax.jit(central.init)(params, batch),
            stable.init(params, batch),
        )
        chunks, probes = [], []
        for _ in range(scale.probes):
            run.interruption.check()
            began = time.perf_counter()
            carry, measured = _run_steps(carry, batch, case.tx, central, stable, steps)
            probes.append(np.asarray(_probe_eigenvalues(case, carry, batch)))
            chunks.append(jax.device_get(measured))
            progress.advance(
                case.title,
                steps=steps,
                loss=float(measured.loss[-1]),
                steps_per_second=steps / (time.perf_counter() - began),
            )
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)
        return History(joined, np.stack(probes))

    return run.series(case.title, History, compute, progress=progress, steps=total)


@functools.partial(jax.jit, static_argnames=("tx", "central", "stable", "steps"))
def _run_steps(
    carry: Carry,
    batch: Any,
    tx: optax.GradientTransformation,
    central: jd.flows.Flow,
    stable: jd.flows.Flow,
    steps: int,
) -> tuple[Carry, Step]:
    def step(state: Carry, _: None) -> tuple[Carry, Step]:
        value, grads = jax.value_and_grad(squared_error)(state.params, batch)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        after = optax.apply_updates(state.params, updates)
        mean, oscillation = split_oscillation(state.previous, state.params, after)
        flow, info = central.step(state.central, batch)
        stable_flow, stable_info = stable.step(state.stable, batch)
        measured = Step(
            loss=value,
            predicted_loss=info.predicted_loss,
            flow_loss=info.loss,
            stable_loss=stable_info.loss,
            variance=optax.tree.norm(oscillation, squared=True),
            predicted_variance=info.variance,
            deviation=_deviation(state),
            eigenvalues=info.eigenvalues,
            at_edge=info.at_edge,
            residual=info.complementarity_residual,
            distance=optax.tree.norm(optax.tree.sub(mean, state.central.params)),
            stable_distance=optax.tree.norm(optax.tree.sub(mean, state.stable.params)),
        )
        return Carry(state.params, after, opt_state, flow, stable_flow), measured

    return jax.lax.scan(step, carry, None, length=steps)


def split_oscillation(before: Any, now: Any, after: Any) -> tuple[Any, Any]:
    """Splits the middle iterate of three into its mean and its alternating part.

    Both are exact if the mean moves along a line.
    """
    mean = jax.tree.map(lambda a, b, c: (a + 2 * b + c) / 4, before, now, after)
    oscillation = jax.tree.map(lambda a, b, c: (a - 2 * b + c) / 4, before, now, after)
    return mean, oscillation


def _deviation(state: Carry) -> jax.Array:
    """Returns |w - flow|^2 within the span of the central flow's directions."""
    basis, _ = jnp.linalg.qr(jax.vmap(_ravel)(state.central.directions).T)
    difference = _ravel(optax.tree.sub(state.params, state.central.params))
    return jnp.sum((basis.T @ difference) ** 2)


def _ravel(tree: Any) -> jax.Array:
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])


def _probe_eigenvalues(case: Case, carry: Carry, batch: Any) -> jax.Array:
    """Returns the top eigenvalues of P^-1/2 H P^-1/2 between two iterates, `f[k]`."""
    mean = jax.tree.map(lambda a, b: (a + b) / 2, carry.previous, carry.params)
    preconditioner = None
    if case.flow_optimizer.adaptive:
        nu = optax.tree.get(carry.opt_state, "nu")
        age = optax.tree.get(carry.opt_state, "count", default=1)
        preconditioner = jax.tree.map(lambda x: case.flow_optimizer.preconditioner(x, age), nu)
    found = jd.sharpness(
        squared_error, mean, batch, case.k, preconditioner=preconditioner, tolerance=1e-3
    )
    return found.values


class Summary(NamedTuple):
    """Numbers of a case: means over steps, and ratios of predicted to measured quantities.

    Attributes:
      steps: of the run.
      edge: the step at which the flow reached the edge of stability; `steps` if it did not.
      at_edge: the mean number of eigenvalues at the edge from then on.
      most: the largest number of eigenvalues at the edge.
      loss: measured.
      loss_ratio: of the central flow's prediction, over all steps.
      loss_ratio_edge: the same from `edge` on.
      without: of the loss at the central flow, without the oscillation's part.
      stable_ratio: of the stable flow's loss.
      variance: measured, from `edge` on.
      variance_ratio: from `edge` on.
      variance_ratio_all: over all steps.
      variance_ratio_range: the least and the greatest variance ratio of windows of `WINDOW` steps.
      deviation_ratio: predicted variance to the squared deviation within the flow's directions.
      distance, stable_distance: root mean squares, of the flows from the optimizer.
      residual: the largest residual of the complementarity problem.
    """

    steps: int
    edge: int
    at_edge: float
    most: int
    loss: float
    loss_ratio: float
    loss_ratio_edge: float
    without: float
    stable_ratio: float
    variance: float
    variance_ratio: float
    variance_ratio_all: float
    variance_ratio_range: tuple[float, float]
    deviation_ratio: float
    distance: float
    stable_distance: float
    residual: float


def summarize(history: History) -> Summary:
    """Computes the numbers of a case."""
    measured = history.steps
    steps = len(measured.loss)
    at_edge = measured.at_edge > 0
    edge = int(np.argmax(at_edge)) if at_edge.any() else steps
    since = slice(max(edge, 1), steps)  # the first step has no previous iterate
    starts = range(since.start, steps - WINDOW + 1, WINDOW)
    windows = [slice(start, start + WINDOW) for start in starts] or [since]

    def variance_ratio(part: slice) -> float:
        return _ratio(measured.predicted_variance[part], measured.variance[part])

    in_windows = [variance_ratio(window) for window in windows]
    return Summary(
        steps=steps,
        edge=edge,
        at_edge=_mean(measured.at_edge[since]),
        most=int(measured.at_edge.max()),
        loss=_mean(measured.loss),
        loss_ratio=_ratio(measured.predicted_loss, measured.loss),
        loss_ratio_edge=_ratio(measured.predicted_loss[since], measured.loss[since]),
        without=_ratio(measured.flow_loss, measured.loss),
        stable_ratio=_ratio(measured.stable_loss, measured.loss),
        variance=_mean(measured.variance[since]),
        variance_ratio=variance_ratio(since),
        variance_ratio_all=variance_ratio(slice(1, steps)),
        variance_ratio_range=(min(in_windows), max(in_windows)),
        deviation_ratio=_ratio(measured.predicted_variance[since], measured.deviation[since]),
        distance=_root_mean_square(measured.distance[1:]),
        stable_distance=_root_mean_square(measured.stable_distance[1:]),
        residual=float(measured.residual.max()),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")


def _ratio(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Returns the ratio of the means."""
    mean = _mean(measured)
    return _mean(predicted) / mean if mean else float("nan")


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
