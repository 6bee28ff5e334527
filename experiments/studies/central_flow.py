"""Central flows: the average path of an optimizer at the edge of stability, against the path.

A small tanh network learns scikit-learn's handwritten digits on the whole batch. Beside each
optimizer runs its central flow from the same start, and the flow that it would follow if
it did not oscillate: gradient flow for descent, the stable flow for the others. The central
flow predicts three things that can be measured: the loss, the variance of the oscillation,
and the path (J. Cohen, A. Damian et al. 2025, arXiv:2410.24206).

The oscillation is measured as the part of the iterates that alternates, (w+ - 2 w + w-) / 4,
which needs no flow; its complement (w+ + 2 w + w-) / 4 is what a flow's distance is to.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import jaxdescent as jd
from experiments import runner
from experiments.data import digits

LOSS, VARIANCE = 0.05, 0.15  # how far a prediction may be off, relative to what is measured
WINDOW = 200  # steps, of the swings that are reported
SUBSTEPS = 4


class Case(NamedTuple):
    """An optimizer.

    Attributes:
      title: what is printed.
      flowing, tx: the optimizer as a flow's and as optax's.
      steps: at scale small.
      k: eigenvalues that are followed; one more, if possible, than come to the edge.
    """

    title: str
    flowing: jd.flows.FlowOptimizer
    tx: optax.GradientTransformation
    steps: int
    k: int


Name = Literal["gd", "polyak", "rmsprop", "adam"]

CASES: dict[Name, Case] = {
    "gd": Case("GD, rate .15", jd.flows.sgd(0.15), optax.sgd(0.15), 1500, 6),
    "polyak": Case("Polyak .5, rate .15", jd.flows.sgd(0.15, 0.5), optax.sgd(0.15, 0.5), 1500, 4),
    "rmsprop": Case(
        "RMSProp .99, rate 3e-4", jd.flows.rmsprop(3e-4, 0.99), optax.rmsprop(3e-4, 0.99), 1200, 5
    ),
    "adam": Case("Adam, rate 1e-3", jd.flows.adam(1e-3), optax.adam(1e-3), 2400, 3),
}


class Scale(NamedTuple):
    """Images, hidden width, steps relative to those of scale small, and probes of eigenvalues."""

    images: int
    width: int
    steps: float
    probes: int


SCALES = {
    "smoke": Scale(40, 6, 0.02, 6),
    "small": Scale(300, 32, 1.0, 60),
    "full": Scale(1078, 200, 2.0, 60),
}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the central flow study."""

    optimizers: tuple[Name, ...] = tuple(CASES)
    """Which optimizers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.optimizers or len({*self.optimizers}) < len(self.optimizers):
            raise ValueError(
                f"--optimizers must be different ones of {', '.join(CASES)}, got {self.optimizers}"
            )


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Follows every optimizer and its flows, and draws the picture."""
    scale = SCALES[settings.scale]
    cases = [CASES[name] for name in settings.optimizers]
    with runner.Progress(total=sum(_steps(case, scale) for case in cases)) as progress:
        traces = {case.title: _trace(case, scale, settings.seed, run, progress) for case in cases}
    summaries = {case.title: summary(traces[case.title]) for case in cases}
    run.save_figure("central_flow", _draw(cases, traces))
    return _results(cases, summaries, scale)


def _steps(case: Case, scale: Scale) -> int:
    return round(case.steps * scale.steps / scale.probes) * scale.probes


def network(sizes: Sequence[int], seed: int) -> list[dict[str, jax.Array]]:
    """Dense layers with weights that are uniform within 1 / sqrt(inputs), and no bias."""
    layers = []
    rng = np.random.default_rng(seed)
    for inputs, outputs in itertools.pairwise(sizes):
        kernel = rng.uniform(-1, 1, (inputs, outputs)) / np.sqrt(inputs)
        layers.append({"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(outputs)})
    return layers


def loss(layers: list[dict[str, jax.Array]], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Half the squared error of a tanh network, summed over outputs, mean over examples."""
    x, targets = batch
    *hidden, last = layers
    for layer in hidden:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    outputs = x @ last["kernel"] + last["bias"]
    return jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1)) / 2


class Carry(NamedTuple):
    """Three paths: the optimizer's, with the iterate before, and the two flows'."""

    before: Any
    params: Any
    opt_state: Any
    central: jd.flows.CentralFlowState
    stable: jd.flows.GradientFlowState


def _trace(
    case: Case, scale: Scale, seed: int, run: runner.Run, progress: runner.Progress
) -> dict[str, np.ndarray]:
    """What happened along the paths, one row a step; `probe` has one now and then."""
    steps = _steps(case, scale) // scale.probes

    def compute() -> Mapping[str, Any]:
        part = digits.load().train
        batch = (
            jnp.asarray(part.inputs[: scale.images]),
            jax.nn.one_hot(part.targets[: scale.images], 10),
        )
        params = network([64, scale.width, scale.width, 10], seed)
        central = jd.flows.central(loss, case.flowing, k=case.k, substeps=SUBSTEPS)
        stable = jd.flows.gradient(loss, case.flowing, substeps=4 * SUBSTEPS)
        carry = Carry(
            params,
            params,
            case.tx.init(params),
            jax.jit(central.init)(params, batch),
            stable.init(params, batch),
        )
        rows = []
        for _ in range(scale.probes):
            run.interruption.check()
            began = time.perf_counter()
            carry, each = _chunk(carry, batch, case.tx, central, stable, steps)
            each["probe"] = _eigenvalues(case, carry, batch)[None]
            rows.append(jax.device_get(each))
            progress.advance(
                case.title,
                steps=steps,
                loss=float(each["loss"][-1]),
                steps_per_second=steps / (time.perf_counter() - began),
            )
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return run.once(case.title, compute)


@functools.partial(jax.jit, static_argnames=("tx", "central", "stable", "steps"))
def _chunk(
    carry: Carry,
    batch: Any,
    tx: optax.GradientTransformation,
    central: jd.flows.Flow,
    stable: jd.flows.Flow,
    steps: int,
) -> tuple[Carry, dict[str, jax.Array]]:
    def step(at: Carry, _: None) -> tuple[Carry, dict[str, jax.Array]]:
        value, grads = jax.value_and_grad(loss)(at.params, batch)
        updates, opt_state = tx.update(grads, at.opt_state, at.params)
        after = optax.apply_updates(at.params, updates)
        mean, swing = alternation(at.before, at.params, after)
        flow, info = central.step(at.central, batch)
        calm, calm_info = stable.step(at.stable, batch)
        each = {
            "loss": value,
            "predicted_loss": info.predicted_loss,
            "flow_loss": info.loss,
            "stable_loss": calm_info.loss,
            "variance": optax.tree.norm(swing, squared=True),
            "predicted_variance": info.variance,
            "deviation": _deviation(at),
            "eigenvalues": info.eigenvalues,
            "at_edge": info.at_edge,
            "residual": info.complementarity_residual,
            "distance": optax.tree.norm(optax.tree.sub(mean, at.central.params)),
            "stable_distance": optax.tree.norm(optax.tree.sub(mean, at.stable.params)),
        }
        return Carry(at.params, after, opt_state, flow, calm), each

    return jax.lax.scan(step, carry, None, length=steps)


def alternation(before: Any, now: Any, after: Any) -> tuple[Any, Any]:
    """What drifts and what alternates at the middle one of three iterates, exact for a line."""
    mean = jax.tree.map(lambda a, b, c: (a + 2 * b + c) / 4, before, now, after)
    swing = jax.tree.map(lambda a, b, c: (a - 2 * b + c) / 4, before, now, after)
    return mean, swing


def _deviation(at: Carry) -> jax.Array:
    """|w - flow|^2 within the span of the flow's directions at the edge, or near it."""
    flat = lambda tree: jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])
    basis, _ = jnp.linalg.qr(jax.vmap(flat)(at.central.directions).T)
    return jnp.sum((basis.T @ flat(optax.tree.sub(at.params, at.central.params))) ** 2)


def _eigenvalues(case: Case, carry: Carry, batch: Any) -> jax.Array:
    """The top eigenvalues of P^-1/2 H P^-1/2, f[k], between two iterates of the optimizer."""
    mean = jax.tree.map(lambda a, b: (a + b) / 2, carry.before, carry.params)
    preconditioner = None
    if case.flowing.adaptive:
        nu = optax.tree.get(carry.opt_state, "nu")
        age = optax.tree.get(carry.opt_state, "count", default=1)
        preconditioner = jax.tree.map(lambda x: case.flowing.preconditioner(x, age), nu)
    found = jd.sharpness(loss, mean, batch, case.k, preconditioner=preconditioner, tolerance=1e-3)
    return found.values


class Summary(NamedTuple):
    """The numbers of an optimizer; means over steps, and ratios of predicted to measured.

    Attributes:
      steps: of the run.
      edge: at which the flow reached the edge of stability; `steps` if never.
      at_edge: eigenvalues there, the mean and the most from then on.
      loss: measured.
      loss_ratio: of the central flow's prediction, over all steps.
      loss_ratio_edge: the same since the edge.
      without: of the loss on the central flow, without the oscillation's part.
      stable_ratio: of the stable flow.
      variance: measured, since the edge.
      variance_ratio: since the edge.
      variance_ratio_whole: over all steps.
      swings: the least and the greatest variance ratio of windows of `WINDOW` steps.
      deviation_ratio: predicted variance to the flow's squared deviation within its directions.
      distance, stable_distance: root mean squares, of the flows from the optimizer.
      residual: the greatest of the complementarity problem.
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
    variance_ratio_whole: float
    swings: tuple[float, float]
    deviation_ratio: float
    distance: float
    stable_distance: float
    residual: float


def summary(trace: Mapping[str, np.ndarray]) -> Summary:
    """The numbers of an optimizer."""
    steps = len(trace["loss"])
    there = trace["at_edge"] > 0
    edge = int(np.argmax(there)) if there.any() else steps
    since = slice(max(edge, 1), steps)  # the first step has no iterate before it
    mean = lambda name, part=slice(None): _mean(trace[name][part])
    ratio = lambda part: _ratio(mean("predicted_variance", part), mean("variance", part))
    windows = [slice(i, i + WINDOW) for i in range(since.start, steps - WINDOW + 1, WINDOW)]
    swings = [ratio(window) for window in windows] or [ratio(since)]
    rms = lambda name: float(np.sqrt(np.mean(trace[name][1:] ** 2)))
    return Summary(
        steps=steps,
        edge=edge,
        at_edge=mean("at_edge", since),
        most=int(trace["at_edge"].max()),
        loss=mean("loss"),
        loss_ratio=_ratio(mean("predicted_loss"), mean("loss")),
        loss_ratio_edge=_ratio(mean("predicted_loss", since), mean("loss", since)),
        without=_ratio(mean("flow_loss"), mean("loss")),
        stable_ratio=_ratio(mean("stable_loss"), mean("loss")),
        variance=mean("variance", since),
        variance_ratio=ratio(since),
        variance_ratio_whole=ratio(slice(1, steps)),
        swings=(min(swings), max(swings)),
        deviation_ratio=_ratio(mean("predicted_variance", since), mean("deviation", since)),
        distance=rms("distance"),
        stable_distance=rms("stable_distance"),
        residual=float(trace["residual"].max()),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")


def _ratio(predicted: float, measured: float) -> float:
    return predicted / measured if measured else float("nan")


COLUMNS = (
    "optimizer",
    "steps",
    "edge at",
    "eigenvalues there",
    "loss",
    "loss predicted",
    "within 5%",
    "since the edge",
    "without oscillation",
    "stable flow",
    "variance",
    "variance predicted",
    "within 15%",
    "windows",
    "all steps",
    "distance",
    "stable flow's",
)


def _results(
    cases: Sequence[Case], summaries: Mapping[str, Summary], scale: Scale
) -> runner.Results:
    notes = [
        *verdicts(summaries),
        f"Network 64-{scale.width}-{scale.width}-10, tanh, half squared error on {scale.images} "
        "digits, full batch. All paths start from the same parameters; nothing is left out.",
        "Loss: the mean over all steps, from the first; then ratios to it: the central flow's "
        "prediction L + <Sigma, H> / 2, over all steps and over those since the flow reached the "
        "edge, L on its path alone, and the stable flow's loss.",
        "Variance: the mean square of the alternating part of the iterates, from the step at which "
        "the flow reaches the edge, where it first predicts any; then ratios of predicted to "
        f"measured: since that step, the range over windows of {WINDOW} steps, and over all steps, "
        "which count the start against the prediction of 0 as well.",
        "An optimizer that starts beyond the edge has a variance predicted from its first step on.",
        "Another measure, the squared deviation of the iterates from the flow within the flow's "
        "directions, has all in it that the two paths have drifted apart, too; predicted variance "
        "over it is "
        + ", ".join(f"{name} {each.deviation_ratio:.3f}" for name, each in summaries.items())
        + ".",
        "Distance: root mean square over all steps, from the iterates without what alternates.",
    ]
    full = [case.title for case in cases if summaries[case.title].most >= case.k]
    if full:
        notes.append(
            f"As many eigenvalues at the edge as were followed, perhaps more: {', '.join(full)}."
        )
    cells = [_cells(name, each) for name, each in summaries.items()]
    values = {name: each._asdict() for name, each in summaries.items()}
    return runner.Results("Central flows", COLUMNS, cells, notes, values)


def verdicts(summaries: Mapping[str, Summary]) -> list[str]:
    """A sentence for each promise, with those that break it."""
    said = []
    for what, field, limit in (
        ("The time-averaged loss", "loss_ratio", LOSS),
        ("The oscillation's variance", "variance_ratio", VARIANCE),
    ):
        ratios = {name: getattr(each, field) for name, each in summaries.items()}
        missed = [f"{name} ({x:.3f})" for name, x in ratios.items() if not abs(x - 1) <= limit]
        kept = f"{len(ratios) - len(missed)} of {len(ratios)} optimizers"
        ending = f"; not for {', '.join(missed)}." if missed else "."
        said.append(f"{what} is predicted within {limit:.0%} for {kept}{ending}")
    return said


def _cells(name: str, each: Summary) -> tuple[str, ...]:
    verdict = lambda ratio, limit: "yes" if abs(ratio - 1) <= limit else "NO"
    return (
        name,
        str(each.steps),
        str(each.edge),
        f"{each.at_edge:.1f}, most {each.most}",
        f"{each.loss:.4f}",
        f"{each.loss_ratio:.3f}",
        verdict(each.loss_ratio, LOSS),
        f"{each.loss_ratio_edge:.3f}",
        f"{each.without:.3f}",
        f"{each.stable_ratio:.3f}",
        f"{each.variance:.2e}",
        f"{each.variance_ratio:.3f}",
        verdict(each.variance_ratio, VARIANCE),
        "{:.2f} .. {:.2f}".format(*each.swings),
        f"{each.variance_ratio_whole:.3f}",
        f"{each.distance:.3f}",
        f"{each.stable_distance:.3f}",
    )


MEASURED, CENTRAL, STABLE = "#999999", "#154360", "#d35400"


def _draw(cases: Sequence[Case], traces: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Loss, eigenvalues and variance: a row for each optimizer."""
    figure = Figure(figsize=(13, 2.9 * len(cases) + 0.4), layout="constrained")
    panels = figure.subplots(len(cases), 3, squeeze=False)
    for row, case in zip(panels, cases, strict=True):
        trace = traces[case.title]
        steps = np.arange(len(trace["loss"]))
        threshold = float(case.flowing.threshold)
        loss_panel, spectrum_panel, variance_panel = row

        loss_panel.plot(steps, trace["loss"], color=MEASURED, linewidth=0.5, alpha=0.6)
        whole, smooth = _smooth(trace["loss"], 50)
        loss_panel.plot(whole, smooth, color="#444444", label="optimizer, mean of 50 steps")
        loss_panel.plot(steps, trace["stable_loss"], color=STABLE, label="stable flow")
        loss_panel.plot(
            steps, trace["predicted_loss"], color=CENTRAL, linestyle="--", label="central flow"
        )
        loss_panel.set_yscale("log")
        loss_panel.yaxis.set_minor_formatter(NullFormatter())
        loss_panel.set_ylabel(case.title)

        count = len(trace["probe"])
        probed = np.arange(1, count + 1) * (len(steps) // count) - 0.5
        probes, values = trace["probe"] / threshold, trace["eigenvalues"] / threshold
        for i in range(case.k):
            labels = (
                {"label": "between iterates"} if i == 0 else {},
                {"label": "central flow"} if i == 0 else {},
            )
            spectrum_panel.plot(
                probed, probes[:, i], ".", color=MEASURED, markersize=4, **labels[0]
            )
            spectrum_panel.plot(steps, values[:, i], color=CENTRAL, linewidth=1, **labels[1])
        spectrum_panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
        spectrum_panel.set_ylim(0, 1.6)

        whole, smooth = _smooth(trace["variance"], WINDOW)
        variance_panel.plot(steps, trace["variance"], color=MEASURED, linewidth=0.4, alpha=0.5)
        label = f"alternation, mean of {WINDOW} steps"
        variance_panel.plot(whole, smooth, color="#444444", label=label)
        variance_panel.plot(
            steps, trace["predicted_variance"], color=CENTRAL, linestyle="--", label="central flow"
        )
        top = max(smooth.max(), trace["predicted_variance"].max(), 1e-12)
        variance_panel.set_ylim(0, 2.5 * top)  # bursts of a few steps leave the panel
    for panel, title in zip(
        panels[0],
        ("loss", "top eigenvalues over the threshold", "variance of the oscillation"),
        strict=True,
    ):
        panel.set_title(title)
        panel.legend(fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("step")
    return figure


def _smooth(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The middles of all windows that are whole, and the means over them."""
    window = min(window, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    means = (sums[window:] - sums[:-window]) / window
    return np.arange(len(means)) + (window - 1) / 2, means
