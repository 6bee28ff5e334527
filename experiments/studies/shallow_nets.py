"""Pruned training against 64 full ones: 20 small tasks, regret on held-out data, compute.

Each task is trained from 64 starts with Adam, once to the end and once with a rule that removes
agents by their validation loss (`jd.fit`); a training is judged by its test loss where its
validation loss was least. Regret is the test loss of the pruned run's winner above that of the
best of the 64, as a share of the spread from their best to their worst. Since winners are chosen
by validation, even all 64 trainings have one: that is the floor, and stands beside it.

The agents differ in their starts alone, or in their learning rates too.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

import jaxdescent as jd
from experiments import runner, shallow

AGENTS = 64
TASKS = {"smoke": ("iris", "diabetes"), "small": shallow.NAMES, "full": shallow.NAMES}
SEEDS = {"smoke": 1, "small": 2, "full": 10}
RUNGS, RUNG, BATCH = (
    {"smoke": 6, "small": 20, "full": 40},
    {"smoke": 10, "small": 40, "full": 50},
    32,
)
RATE, RATES = 1e-2, (-4.0, -1.0)  # one for all, or drawn log-uniformly, in powers of ten
KINDS = {"starts": "starts alone", "rates": "starts and rates"}
POINTS = {"smoke": 5, "small": 41, "full": 81}  # along each side of a plane
ETA = 1.3  # the gentlest halving, to a tenth, that takes less than a quarter of 20 rungs' compute
RULE = jd.pruning.successive_halving(ETA)
MOST_REGRET, MOST_COMPUTE = 0.01, 0.25
SHOWN = ("breast cancer", "digits", "diabetes", "Swiss roll")  # in the picture of curves


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of shallow networks."""


class Outcome(NamedTuple):
    """A pruned run beside the full one; losses are those at the least validation loss.

    Attributes:
      validation, test: f64[agents], of the full trainings.
      won_validation, won_test: f64[], of the pruned run's winner.
      compute: f64[], the pruned run's gradients, as a share of the full one's.
      curves: f64[rungs, agents], validation losses of the full trainings.
      alive: bool[rungs, agents], of the pruned run.
      same: bool[], whether those not yet pruned have the full ones' losses to the bit.
    """

    validation: np.ndarray
    test: np.ndarray
    won_validation: np.ndarray
    won_test: np.ndarray
    compute: np.ndarray
    curves: np.ndarray
    alive: np.ndarray
    same: np.ndarray

    @property
    def regret(self) -> float:
        """Of the pruned run's winner."""
        return float((self.won_test - np.min(self.test)) / self.spread(self.test))

    @property
    def floor(self) -> float:
        """Of the one with the least validation loss of all full trainings."""
        chosen = self.test[np.argmin(self.validation)]
        return float((chosen - np.min(self.test)) / self.spread(self.test))

    @property
    def lost(self) -> float:
        """Validation loss that pruning has cost, as a share of the spread of validation losses."""
        return float((self.won_validation - np.min(self.validation)) / self.spread(self.validation))

    @staticmethod
    def spread(losses: np.ndarray) -> float:
        """From the best to the worst that is finite."""
        return float(np.max(losses[np.isfinite(losses)]) - np.min(losses))


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every task, and draws the pictures."""
    names, seeds = TASKS[settings.scale], SEEDS[settings.scale]
    steps = RUNGS[settings.scale] * RUNG[settings.scale]
    found: dict[str, dict[str, list[Outcome]]] = {}
    with runner.Progress(total=len(names) * len(KINDS) * seeds * steps) as progress:
        for name in names:
            train = partial(trained, shallow.task(name), settings.scale)
            found[name] = {kind: [] for kind in KINDS}
            for kind in KINDS:
                for seed in range(seeds):
                    line = f"{name}, {KINDS[kind]}, seed {settings.seed + seed}"
                    compute = lambda s=seed, k=kind, train=train: train(settings.seed + s, k)
                    began = time.monotonic()
                    outcome = Outcome(**run.once(line, compute))
                    speed = steps / (time.monotonic() - began)
                    found[name][kind].append(outcome)
                    loss = float(outcome.won_test)
                    progress.advance(line, steps=steps, loss=loss, steps_per_second=speed)
    run.save_figure("regret", _draw_regret(found))
    run.save_figure("winners", _draw_winners(shallow.task(names[0]), settings))
    run.save_figure("curves", _draw_curves({name: found[name] for name in SHOWN if name in found}))
    return _results(found, steps)


def trained(task: shallow.Task, scale: str, seed: int, kind: str) -> dict[str, Any]:
    """The fields of an `Outcome`."""
    key = jax.random.key(seed)
    starts, rates = _agents(key, task.train["x"].shape[1], task.outputs, kind == "rates")
    fit = partial(
        jd.fit,
        task.loss,
        optax.adam,
        task.train,
        starts=starts,
        hyperparams={"learning_rate": rates},
        key=key,
        steps=RUNGS[scale] * RUNG[scale],
        rung=RUNG[scale],
        batch_size=min(BATCH, len(task.train["y"])),
        held_out=task.validation,
        rule=RULE,
    )
    full, pruned = fit(prune=False), fit()
    values, seen = np.asarray(full.history.values), np.asarray(pruned.history.values)
    descended = ~np.isnan(seen)
    test = _losses(task.loss, full.population.best_params, task.test)
    return {
        "validation": np.asarray(full.population.best_values, float),
        "test": np.where(np.isfinite(test), test, np.inf),
        "won_validation": float(pruned.value),
        "won_test": float(task.loss(pruned.params, task.test)),
        "compute": pruned.gradients / full.gradients,
        "curves": values,
        "alive": np.asarray(pruned.history.alive),
        "same": np.array_equal(values[descended], seen[descended]),
    }


def _draw_winners(task: shallow.Task, settings: Settings) -> Figure:
    """The paths of a pruned run's agents, projected on the plane through its three best."""
    key, scale = jax.random.key(settings.seed), settings.scale
    starts, _ = _agents(key, task.train["x"].shape[1], task.outputs, False)
    result = jd.fit(
        task.loss,
        optax.adam(RATE),
        task.train,
        starts=starts,
        key=key,
        steps=RUNGS[scale] * RUNG[scale],
        rung=RUNG[scale],
        batch_size=min(BATCH, len(task.train["y"])),
        held_out=task.validation,
        rule=jd.pruning.successive_halving(ETA, min_agents=3),
        record_params=True,
    )
    best = jnp.argsort(result.population.scores)[:3]
    corners = [jax.tree.map(lambda x, i=i: x[i], result.population.params) for i in best]
    origin, directions, seen = jd.landscape.plane_through(*corners)
    whole = jax.tree.map(
        lambda start, later: jnp.concatenate([start[None], later]), starts, result.history.params
    )
    paths = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), whole)
    flat = jd.landscape.project(paths, origin, directions).coordinates
    low, high = np.min(seen, 0), np.max(seen, 0)
    reach = 1.5 * np.max(high - low)
    points = POINTS[scale]
    plane = jd.landscape.plane(
        task.loss,
        origin,
        directions,
        task.validation,
        x=np.linspace(low[0] - reach, high[0] + reach, points),
        y=np.linspace(low[1] - reach, high[1] + reach, points),
    )
    last = 1 + np.sum(np.asarray(result.history.alive), axis=0)
    return jd.landscape.agents_figure(
        plane,
        flat,
        last,
        winner=int(best[0]),
        title=f"{task.name}: agents, projected on the plane of the three best",
        labels=("from the best to the second", "across, towards the third"),
    )


@partial(jax.jit, static_argnums=(1, 2, 3))
def _agents(key: jax.Array, inputs: int, outputs: int, own: bool) -> tuple[Any, jax.Array]:
    """Starts and learning rates."""
    starts = shallow.starts(jax.random.fold_in(key, 0), inputs, outputs, AGENTS)
    drawn = jax.random.uniform(
        jax.random.fold_in(key, 1), (AGENTS,), minval=RATES[0], maxval=RATES[1]
    )
    return starts, 10.0**drawn if own else jnp.full(AGENTS, RATE)


@partial(jax.jit, static_argnums=0)
def _losses(loss: Callable[..., jax.Array], params: Any, examples: Any) -> jax.Array:
    return jax.vmap(loss, (0, None))(params, examples)


def _mean(outcomes: Sequence[Outcome], name: str) -> float:
    return float(np.mean([getattr(outcome, name) for outcome in outcomes]))


MEASURES = ("compute", "regret", "floor", "lost")


def _results(found: Mapping[str, Mapping[str, Sequence[Outcome]]], steps: int) -> runner.Results:
    means = {
        name: {kind: {m: _mean(kinds[kind], m) for m in MEASURES} for kind in KINDS}
        for name, kinds in found.items()
    }
    rows = [(name, *_cells([means[name]])) for name in found]
    of_all = [*means.values()]
    rows.append(("median", *_cells(of_all, np.median)))
    rows.append(("worst", *_cells(of_all, np.max)))
    every = [each for kinds in found.values() for outcomes in kinds.values() for each in outcomes]
    seeds = len(next(iter(found.values()))["starts"])
    notes = [
        *(_verdict(kind, means) for kind in KINDS),
        f"{AGENTS} agents, {steps} steps of Adam on batches of {BATCH} or less, networks of "
        f"{shallow.HIDDEN} hidden units; the rule is successive halving with eta = {ETA:g} for all "
        f"tasks. Cells are means over {seeds} seeds.",
        "compute: gradients of the pruned run, counted there, as a share of the 64 full "
        "trainings'. regret: test loss of the winner above the best of the 64, as a share of "
        "their spread from best to worst. floor: the same of the winner by validation of all 64, "
        "without any pruning. lost: validation loss that pruning cost, as a share of that spread.",
        "With starts alone the spread is the luck of the start, and the noise of choosing by "
        "validation examples (a fifth of a bundled set, 2,000 of a generator) is large beside it: "
        "the floor says how large. No rule that prunes by validation can be expected below it.",
        f"Those not pruned have the losses of the full run to the bit in "
        f"{sum(bool(each.same) for each in every)} of {len(every)} runs.",
    ]
    columns = ("task", *(f"{measure}, {kind}" for kind in KINDS for measure in MEASURES))
    return runner.Results("Pruned training of shallow networks", columns, rows, notes, means)


def _cells(means: Sequence[Any], of: Callable[[Any], Any] = np.mean) -> list[str]:
    return [
        f"{100 * of([each[kind][measure] for each in means]):.1f}%"
        for kind in KINDS
        for measure in MEASURES
    ]


def _verdict(kind: str, means: Mapping[str, Any]) -> str:
    regrets = {name: each[kind]["regret"] for name, each in means.items()}
    kept = sum(regret <= MOST_REGRET for regret in regrets.values())
    floors = sum(each[kind]["floor"] <= MOST_REGRET for each in means.values())
    lost = sum(each[kind]["lost"] <= MOST_REGRET for each in means.values())
    most = max(each[kind]["compute"] for each in means.values())
    worst = max(regrets, key=lambda name: regrets[name])
    return (
        f"Agents that differ in {KINDS[kind]}: regret at most {MOST_REGRET:.0%} on {kept} of "
        f"{len(regrets)} tasks (the floor: {floors}; validation loss lost to pruning: {lost}), "
        f"median {np.median([*regrets.values()]):.1%}, worst {regrets[worst]:.1%} ({worst}), at "
        f"{most:.1%} of the compute (allowed: {MOST_COMPUTE:.0%})."
    )


def _draw_regret(found: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> Figure:
    """A row for each task: the pruned run's regret and the floor."""
    figure = Figure(figsize=(11, 0.27 * len(found) + 1.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    places = np.arange(len(found))
    for panel, kind in zip(panels, KINDS, strict=True):
        values = lambda m, kind=kind: (
            100 * np.array([_mean(each[kind], m) for each in found.values()])
        )
        panel.axvspan(-1, 100 * MOST_REGRET, color="#2e86c1", alpha=0.12, linewidth=0)
        panel.hlines(places, values("floor"), values("regret"), color="#bbbbbb", linewidth=1)
        panel.plot(values("floor"), places, "o", color="white", markeredgecolor="#555555",
                   label="64 full trainings, chosen by validation")  # fmt: skip
        panel.plot(values("regret"), places, "o", color="#154360", markersize=4, label="pruned")
        share = 100 * np.mean([_mean(each[kind], "compute") for each in found.values()])
        panel.set_title(f"{KINDS[kind]}: {share:.0f}% of the compute", fontsize=10)
        panel.set_xscale("symlog", linthresh=1.0)
        panel.set_xlim(-0.2, 100)
        panel.set_xticks([0, 1, 3, 10, 30, 100], ["0", "1%", "3%", "10%", "30%", "100%"])
        panel.set_xlabel("regret on test data, share of the spread of the 64")
        panel.grid(alpha=0.25, axis="x")
    panels[0].set_yticks(places, [*found], fontsize=8)
    panels[0].invert_yaxis()
    panels[1].legend(fontsize=8, loc="lower right")
    return figure


def _draw_curves(found: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> Figure:
    """Validation losses, each until its agent was pruned."""
    figure = Figure(figsize=(3.6 * max(len(found), 1) + 0.4, 6.4), layout="constrained")
    panels = figure.subplots(len(KINDS), max(len(found), 1), squeeze=False)
    for column, (name, kinds) in enumerate(found.items()):
        for row, kind in enumerate(KINDS):
            panel = panels[row, column]
            _draw_agents(panel, kinds[kind][0])
            panel.set_title(f"{name}, {KINDS[kind]}", fontsize=9)
            if row == len(KINDS) - 1:
                panel.set_xlabel("rung")
            if column == 0:
                panel.set_ylabel("validation loss")
    marks: dict[str, dict[str, Any]] = {
        "alive at the end": {"color": "#154360", "linewidth": 1.6},
        "pruned": {
            "color": "#999999",
            "linewidth": 0.6,
            "marker": "x",
            "markeredgecolor": "#b03a2e",
        },
        "the least validation loss of all 64, trained on": {"color": "#ca8a04", "linestyle": "--"},
    }
    lines = [Line2D([], [], label=label, **style) for label, style in marks.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _draw_agents(panel: Axes, outcome: Outcome) -> None:
    curves, rungs = outcome.curves, np.arange(1, len(outcome.curves) + 1)
    ends = outcome.alive.sum(0)  # the last rung that an agent survived
    for agent, curve in enumerate(curves.T):
        last = min(ends[agent] + 1, len(curves))
        survives = ends[agent] == len(curves)
        color = "#154360" if survives else "#999999"
        panel.plot(rungs[:last], curve[:last], color=color, linewidth=1.6 if survives else 0.6,
                   zorder=3 if survives else 1)  # fmt: skip
        if not survives:
            panel.plot(rungs[last - 1], curve[last - 1], "x", color="#b03a2e", markersize=3.5)
    best = np.argmin(outcome.validation)
    panel.plot(rungs, curves[:, best], color="#ca8a04", linewidth=1.1, linestyle="--", zorder=2)
    finite = curves[np.isfinite(curves)]
    low, high = finite.min(), np.quantile(finite, 0.98)
    panel.set(yscale="log", ylim=(0.93 * low, 1.05 * high))
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.2)
