"""Slices of the loss around a trained network."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from matplotlib.figure import Figure

import jaxdescent as jd
from experiments import runner, tasks
from experiments.studies.train import saved_runs
from jaxdescent.extras import require

POINTS = {"smoke": 5, "small": 31, "full": 51}
EXAMPLES = {"smoke": 64, "small": 1_000, "full": 5_000}
SUBSPACE = {"smoke": 4, "small": 20, "full": 100}
EPSILONS = (1e-3, 5e-4)  # those of Keskar et al.
MARGIN = 0.25  # of a path's extent, around it
LINE = (-0.25, 1.25)  # from the start at 0 to the end at 1


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of a landscape."""

    saved: tyro.conf.Positional[Path] = Path("last")
    """The folder of a run of train; last is the newest under --runs."""
    points: int | None = None
    """Points along each side of a plane; by default 5, 31 or 51, by scale."""
    examples: int | None = None
    """Training examples in each loss; by default 64, 1,000 or 5,000, by scale, or all."""
    statistics: Literal["batch", "running"] = "batch"
    """Of batch normalization: recomputed at each point, or held as they are at the end."""
    data_dir: Path | None = None
    """The folder of data files; by default where the run had them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("points", 2), ("examples", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name} must be in [{least}, inf), got {value}")
        if self.saved == Path("last"):
            object.__setattr__(self, "saved", _newest(self.runs))


class Subject(NamedTuple):
    """What is looked at.

    Attributes:
      saved: the run.
      loss_fn: from (params, batch) to the loss.
      metric_fn: to the accuracy in percent; None where there is none.
      batch: arrays, indices i32[examples] and the model's other state.
      end: the last parameters of the first network.
      steps: i64[n], of the path, ascending; the last is the end's.
      path: its parameters [n, ...].
    """

    saved: saved_runs.SavedRun
    loss_fn: Any
    metric_fn: Any
    batch: Any
    end: Any
    steps: np.ndarray
    path: Any


def check(settings: Settings) -> None:
    """Raises if something is missing, before there is a folder."""
    for module, extra in (("plotly", "landscape"), ("matfree", "stability")):
        require(module, extra)
    saved_runs.read_description(settings.saved)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Evaluates every slice and draws it."""
    subject = subject_of(settings)
    run.pin("saved run", subject.saved.identity)
    run.pin("step", str(subject.saved.step))
    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        run.interruption.check()
        if _possible(name, subject):
            began = time.monotonic()
            found[name] = run.once(name, lambda part=part: part(subject, settings))
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    _draw(run, subject, found)
    return _results(settings, subject, found)


def subject_of(settings: Settings) -> Subject:
    """The run, its losses and its path, which ends at the last checkpoint."""
    saved = saved_runs.load(settings.saved, data_dir=settings.data_dir)
    wanted = settings.examples or EXAMPLES[settings.scale]
    indices = tasks.subsample(np.arange(saved.task.train.examples), wanted).astype(np.int32)
    end = saved.network(0)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end["params"])):
        raise runner.RunError(
            f"{settings.saved} diverged: its parameters at step {saved.step:,} are not finite"
        )
    batch = jax.device_put((saved.task.train.arrays, indices, end["model_state"]))
    scores = _scores(saved.task, settings.statistics)
    judged = jax.eval_shape(scores, end["params"], batch)
    kept = dict(zip(saved.path.steps.tolist(), saved.path.trees, strict=True))
    if saved.start is not None and 0 not in kept:
        kept[0] = jax.tree.map(lambda leaf: leaf[0], saved.start)
    kept[saved.step] = end
    steps = sorted(kept)
    return Subject(
        saved,
        lambda params, batch: scores(params, batch)["loss"],
        (lambda params, batch: scores(params, batch)["accuracy"]) if "accuracy" in judged else None,
        batch,
        jax.device_put(end["params"]),
        np.array(steps),
        jax.device_put(saved_runs.stacked([kept[step]["params"] for step in steps])),
    )


def _scores(task: tasks.Task, statistics: str) -> Any:
    """From (params, batch) to the means of the task's scores over a batch."""
    shapes = nnx.eval_shape(lambda: task.build(nnx.Rngs(0)))
    graph = nnx.split(shapes, nnx.Param, ...)[0]

    def scores(params: Any, batch: Any) -> dict[str, jax.Array]:
        arrays, indices, model_state = batch
        # A copy: statistics that belong to an outer trace may not be written to in this one.
        model = nnx.merge(graph, params, model_state, copy=True)
        model.eval()
        if statistics == "batch":
            model.set_attributes(use_running_average=False, raise_if_not_found=False)
        judged = task.scores(model, task.batch_of(arrays, indices), None)
        return jax.tree.map(jnp.mean, judged)

    return scores


def _axis(settings: Settings, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Coordinates; an odd number of them between -1 and 1 has the origin."""
    return np.linspace(low, high, settings.points or POINTS[settings.scale])


def _random(subject: Subject, settings: Settings) -> Mapping[str, Any]:
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    directions = jd.landscape.random_directions(key, subject.end)
    return _plane(subject, directions, _axis(settings), _axis(settings))


def _hessian(subject: Subject, settings: Settings) -> Mapping[str, Any]:
    """As far as the greatest eigenvalue alone makes the rise from the end to the start."""
    found = jd.landscape.hessian_plane(subject.loss_fn, subject.end, subject.batch)
    top = found.sharpness
    losses = jd.landscape.path_losses(subject.loss_fn, subject.path, subject.batch)
    rise = max(float(losses[0] - losses[-1]), 0.1 * float(losses[-1]))
    reach = float(np.sqrt(2 * rise / max(float(top.values[0]), 1e-12)))
    side = _axis(settings, -reach, reach)
    return {
        **_plane(subject, found.directions, side, side),
        "eigenvalues": top.values,
        "residuals": top.residuals,
        "converged": top.converged,
    }


def _principal(subject: Subject, settings: Settings) -> Mapping[str, Any]:
    found = jd.landscape.principal_plane(subject.path)
    at = np.asarray(found.coordinates)
    low, high = at.min(0), at.max(0)
    margin = MARGIN * np.max(high - low)
    sides = [_axis(settings, a - margin, b + margin) for a, b in zip(low, high, strict=True)]
    shown = jd.landscape.losses_at(
        subject.loss_fn, found.origin, found.directions, at, subject.batch
    )
    return {
        **_plane(subject, found.directions, *sides),
        "coordinates": at,
        "distances": found.distances,
        "explained": found.explained,
        "plane_losses": shown,
        "true_losses": jd.landscape.path_losses(subject.loss_fn, subject.path, subject.batch),
        "steps": subject.steps,
    }


def _start_to_end(subject: Subject, settings: Settings) -> Mapping[str, Any]:
    start = jax.tree.map(lambda leaf: leaf[0], subject.path)
    return _between(subject, settings, start, subject.end, *LINE)


def _two_networks(subject: Subject, settings: Settings) -> Mapping[str, Any]:
    other = jax.device_put(subject.saved.network(1)["params"])
    return _between(subject, settings, subject.end, other, *LINE)


def _box(subject: Subject, settings: Settings) -> Mapping[str, Any]:
    found = {}
    for space in (None, SUBSPACE[settings.scale]):
        each = [
            jd.landscape.epsilon_sharpness(
                subject.loss_fn, subject.end, subject.batch, epsilon=epsilon, subspace=space
            ).value
            for epsilon in EPSILONS
        ]
        found["full" if space is None else "subspace"] = np.array(each)
    return found


PARTS = {
    "random": _random,
    "hessian": _hessian,
    "principal": _principal,
    "start to end": _start_to_end,
    "two networks": _two_networks,
    "box": _box,
}


def _possible(name: str, subject: Subject) -> bool:
    """Whether the run has what a part needs."""
    needed = {
        "hessian": len(subject.steps) > 1,
        "principal": len(subject.steps) >= 3,
        "start to end": len(subject.steps) > 1,
        "two networks": subject.saved.settings.seeds > 1,
    }
    return needed.get(name, True)


def _plane(
    subject: Subject, directions: Sequence[Any], x: np.ndarray, y: np.ndarray
) -> dict[str, Any]:
    found = jd.landscape.plane(subject.loss_fn, subject.end, directions, subject.batch, x=x, y=y)
    return found._asdict()


def _between(
    subject: Subject, settings: Settings, first: Any, second: Any, low: float, high: float
) -> dict[str, Any]:
    found = jd.landscape.connectivity(
        subject.loss_fn,
        first,
        second,
        subject.batch,
        x=np.linspace(low, high, 2 * (settings.points or POINTS[settings.scale]) - 1),
        metric_fn=subject.metric_fn,
    )
    return {name: value for name, value in found._asdict().items() if value is not None}


def random_walk_shares(points: int) -> np.ndarray:
    """What two principal directions explain of a random walk in very many dimensions, f64[2].

    Its points have inner products of min(i, j), centered.

    Example:
      >>> random_walk_shares(1_000).round(2).tolist()  # 6 / pi^2 and a quarter of it
      [0.61, 0.15]
    """
    times = np.arange(points, dtype=float)
    inner = np.minimum(times[:, None], times)
    centered = inner - inner.mean(0) - inner.mean(1)[:, None] + inner.mean()
    variances = np.linalg.eigvalsh(centered)[::-1]
    return variances[:2] / variances.sum()


def _draw(run: runner.Run, subject: Subject, found: Mapping[str, Any]) -> None:
    """A picture of each slice, and surfaces that can be turned."""
    planes = {
        name: jd.landscape.Plane(*(values[field] for field in jd.landscape.Plane._fields))
        for name, values in found.items()
        if "y" in values
    }
    title = f"{subject.saved.task.name}, step {subject.saved.step:,}: "
    random, axes = planes["random"], ("random direction", "another")
    words = {"title": title + "random plane, normalized by filters", "labels": axes}
    run.save_figure("random_plane", jd.landscape.contour_figure(random, **words))
    run.save_figure("random_surface", jd.landscape.surface_figure(random, **words))
    surfaces = [jd.landscape.surface_html(random, **words)]
    if "hessian" in found:
        first, second = found["hessian"]["eigenvalues"]
        labels = f"eigenvalue {first:.3g}", f"eigenvalue {second:.3g}"
        figure = jd.landscape.contour_figure(
            planes["hessian"], title=title + "the most curved plane", labels=labels
        )
        run.save_figure("hessian_plane", figure)
    if "principal" in found:
        path = found["principal"]
        named = ("coordinates", "true_losses", "plane_losses", "distances", "explained")
        figure = jd.landscape.path_figure(
            planes["principal"],
            *(path[name] for name in named),
            steps=path["steps"],
            title=title + "the path's principal plane",
        )
        run.save_figure("principal_plane", figure)
        surfaces.append(
            jd.landscape.surface_html(
                planes["principal"],
                path=path["coordinates"],
                path_losses=path["true_losses"],
                title=title + "the path at its true losses, on its principal plane",
                labels=("first principal direction", "second"),
                script=False,
            )
        )
    run.save_fragment("surfaces", "\n".join(surfaces))
    lines = {name: found[name] for name in ("start to end", "two networks") if name in found}
    if lines:
        run.save_figure("lines", _lines(lines))


def _lines(lines: Mapping[str, Any]) -> Figure:
    """The loss along each line, with what a straight line would have between its ends."""
    figure = Figure(figsize=(5.8 * len(lines), 4.2), layout="constrained")
    panels = figure.subplots(1, len(lines), squeeze=False)[0]
    curves: list[Any] = []
    for panel, (name, line) in zip(panels, lines.items(), strict=True):
        curves = panel.plot(line["x"], line["values"], color="tab:blue", label="loss")
        curves += panel.plot((0, 1), line["ends"], "ko--", markersize=4, label="its ends, joined")
        panel.set(xlabel=f"{name}, from 0 to 1", ylabel="loss")
        panel.set_title(f"barrier {float(line['barrier']):.3g}")
        panel.grid(alpha=0.25)
        if "metrics" in line:
            other = panel.twinx()
            other.set_ylabel("accuracy %")
            style = {"color": "tab:orange", "linewidth": 1, "label": "accuracy"}
            curves += other.plot(line["x"], line["metrics"], **style)
    figure.legend(handles=curves, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _results(settings: Settings, subject: Subject, found: Mapping[str, Any]) -> runner.Results:
    saved, count = subject.saved, len(subject.batch[1])
    held = settings.statistics == "running"
    notes = [
        f"{saved.folder}, network 1 of {saved.settings.seeds} at step {saved.step:,}; losses are "
        f"means over the same {count:,} training examples, in float32, without dropout; "
        "statistics of batch normalization, if there are any, are "
        + ("those of the end." if held else "recomputed at each point."),
        "Random directions: each filter has the norm of the network's, biases and norms' scales "
        "stay (Li et al. 2018). Hessian and principal planes are in Euclidean distance.",
        "Barrier: the most that the loss on the line is above the straight line between its ends "
        "(Entezari et al. 2022); instability: above their mean (Frankle et al. 2020).",
        "Epsilon-sharpness: how far the loss rises in a box, in percent of 1 + loss (Keskar et "
        "al. 2017); a lower bound, of 10 steps of ascent from 2 starts.",
        *_lacking(subject),
    ]
    if "principal" in found:
        shares = random_walk_shares(len(subject.steps))
        notes.append(
            f"A random walk of as many points ({len(subject.steps)}) would have "
            f"{100 * shares.sum():.1f}% of its variance in two directions "
            "(Antognini and Sohl-Dickstein 2018)."
        )
    rows = [row for name, values in found.items() for row in _ROWS[name](values)]
    values = {
        name: {key: value for key, value in each.items() if np.size(value) <= 100}
        for name, each in found.items()
    }
    title = f"The landscape of {saved.task.name} by {saved.settings.optimizer}"
    return runner.Results(title, ("slice", "quantity", "value"), rows, notes, values)


def _lacking(subject: Subject) -> list[str]:
    """What the run does not have, in a sentence each."""
    said = []
    if not len(subject.saved.path.steps):
        said.append(
            "The run has no path: it is from before runs kept one, or too large to keep one. "
            "There is no principal plane, and the start is drawn again from the run's seed."
        )
    if len(subject.steps) < 2:
        said.append("It was a warm start, so that its own start is not known either.")
    return said


def _rows_of_plane(title: str, values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    heights = np.asarray(values["values"], float)
    finite = heights[np.isfinite(heights)]
    rows = [(title, "lowest and highest loss", f"{finite.min():.4g} to {finite.max():.4g}")]
    if int(values["not_finite"]):
        rows.append((title, "points that are not finite", f"{int(values['not_finite'])}"))
    return rows


def _rows_of_hessian(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    certified = zip(values["eigenvalues"], values["residuals"], values["converged"], strict=True)
    shown = [
        f"{value:.4g} ± {residual:.1g}" + ("" if converged else ", not converged")
        for value, residual, converged in certified
    ]
    title = "most curved plane"
    return [
        *_rows_of_plane(title, values),
        (title, "greatest eigenvalue", shown[0]),
        (title, "second eigenvalue", shown[1]),
    ]


def _rows_of_path(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    explained, title = values["explained"], "principal plane"
    true, shown = values["true_losses"], values["plane_losses"]
    positive = np.all(true > 0) and np.all(shown > 0)
    apart = np.abs(np.log(shown / true)) if positive else np.abs(shown - true)
    worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
    at = f"{true[worst]:.4g}, {shown[worst]:.4g}, step {values['steps'][worst]:,}"
    extent = float(np.linalg.norm(values["coordinates"][0]))
    off = f"{np.max(values['distances']):.3g}; from start to end {extent:.3g}"
    return [
        *_rows_of_plane(title, values),
        (title, "variance explained, two directions", f"{100 * explained[:2].sum():.1f}%"),
        (title, "first and second", f"{100 * explained[0]:.1f}%, {100 * explained[1]:.1f}%"),
        (title, "path farthest from the plane", off),
        (title, "loss of the path and of its projection, where they differ most", at),
    ]


def _rows_of_line(title: str, values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    first, second = values["ends"]
    rows = [
        (title, "losses of the ends", f"{first:.4g}, {second:.4g}"),
        (title, "barrier", f"{float(values['barrier']):.4g}"),
        (title, "instability", f"{float(values['instability']):.4g}"),
    ]
    if "metric_barrier" in values:
        rows.append((title, "barrier of accuracy", f"{float(values['metric_barrier']):.3g} points"))
    return rows


def _rows_of_box(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    spaces = {"full": "all directions", "subspace": "a random subspace"}
    return [
        ("box", f"sharpness, epsilon {epsilon:g}, {spaces[space]}", f"{value:.3g}%")
        for space in spaces
        for epsilon, value in zip(EPSILONS, values[space], strict=True)
    ]


_ROWS = {
    "random": lambda values: _rows_of_plane("random plane", values),
    "hessian": _rows_of_hessian,
    "principal": _rows_of_path,
    "start to end": lambda values: _rows_of_line("start to end", values),
    "two networks": lambda values: _rows_of_line("network 1 to 2", values),
    "box": _rows_of_box,
}


def _newest(runs: Path) -> Path:
    """The newest run of train."""
    found = [path.parent for path in runs.glob("train/*/run.json")]
    if not found:
        raise ValueError(f"there is no run of train under {runs.absolute()}; name a run's folder")
    return max(found, key=lambda folder: runner.read_description(folder)["began"])
