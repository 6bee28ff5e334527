"""Pruned training against 64 full ones: 20 small tasks, regret on held-out data, compute.

Each task is trained from 64 starts, once to the end and once with a rule that removes agents by
their loss on held-out examples (`jd.fit`). Regret is the loss of the pruned run's winner above
that of the best of the 64, as a share of the spread from their best to their worst:

- on the held-out examples, by which agents are removed and the winner is chosen. Without pruning
  it is 0: this is what pruning costs.
- on test examples that nothing is chosen by. There it is not 0 even for the winner by held-out
  loss of all 64: that is the floor, and stands beside it.

Training is as usual: Adam with a rate that falls to 0 as a cosine, networks valued at a running
mean of their parameters. Values in the middle of a training then say more of its end than under
a constant rate, whose noise hides it: that is a column of its own. Pruned and full trainings are
the same in all this. Agents differ in their starts alone, or in their learning rates too.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

import jaxdescent as jd
from experiments import runner
from experiments.studies.shallow_nets import tasks as shallow

AGENTS = 64
TASKS = {"smoke": ("iris", "diabetes"), "small": shallow.NAMES, "full": shallow.NAMES}
SEEDS = {"smoke": 1, "small": 4, "full": 10}
RUNGS, RUNG = {"smoke": 8, "small": 40, "full": 40}, {"smoke": 8, "small": 50, "full": 50}
BATCH = 32
RATES = (-4.0, -1.0)  # of agents' own, drawn log-uniformly: powers of ten
MEMORY = 0.95  # of the running mean


class Kind(NamedTuple):
    """How agents are trained.

    Attributes:
      title: in tables and pictures.
      rate: of all; None for one of each agent's own.
      falls: whether it falls to 0, and networks are valued at the running mean.
    """

    title: str
    rate: float | None
    falls: bool = True


KINDS = {
    "starts": Kind("starts alone", 3e-2),
    "rates": Kind("starts and rates", None),
    "constant": Kind("starts alone, constant rate", 1e-2, falls=False),
}
POINTS = {"smoke": 5, "small": 41, "full": 81}  # along each side of a plane
# All go on for an eighth of 40 rungs; then the gentlest halving, to a hundredth, with which all 40
# take less than a quarter of the compute.
ALL, ETA = 5, 1.37
RULE = jd.pruning.delay(ALL, jd.pruning.successive_halving(ETA))
MOST_REGRET, MOST_COMPUTE = 0.01, 0.25
SHOWN = ("digits", "shells", "diabetes", "Swiss roll")  # in the picture of curves


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the study of shallow networks."""


class Outcome(NamedTuple):
    """A pruned run beside the full one; losses are those at the least held-out loss.

    Attributes:
      validation, test: f64[agents], of the full trainings, on held-out and on test examples.
      won_validation, won_test: f64[], of the pruned run's winner.
      compute: f64[], the pruned run's gradients, as a share of the full one's.
      curves: f64[rungs, agents], held-out losses of the full trainings.
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
        """Of the pruned run's winner, on held-out examples."""
        return self._regret(self.won_validation, self.validation)

    @property
    def test_regret(self) -> float:
        """The same on test examples."""
        return self._regret(self.won_test, self.test)

    @property
    def floor(self) -> float:
        """On test examples, of the one with the least held-out loss of all full trainings."""
        return self._regret(self.test[np.argmin(self.validation)], self.test)

    @property
    def early(self) -> bool:
        """Whether the best of all on held-out examples got there before any agent was pruned."""
        uncut = np.all(self.alive, axis=1).sum() + 1  # the rung that is cut first is seen by all
        return bool(np.min(self.curves[:uncut]) == np.min(self.curves))

    @staticmethod
    def _regret(won: np.ndarray, losses: np.ndarray) -> float:
        """Above the best, as a share of the way from there to the worst that is finite."""
        best, worst = np.min(losses), np.max(losses[np.isfinite(losses)])
        return float((won - best) / (worst - best))


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
                    line = f"{name}, {KINDS[kind].title}, seed {settings.seed + seed}"
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
    fit = partial(_fit, task, scale, seed, kind, rule=RULE)
    full, pruned = fit(prune=False), fit()
    values, seen = np.asarray(full.history.values), np.asarray(pruned.history.values)
    descended = ~np.isnan(seen)
    test = _losses(task.loss, full.population.best_model_state.mean, task.test)
    return {
        "validation": np.asarray(full.population.best_values, float),
        "test": np.where(np.isfinite(test), test, np.inf),
        "won_validation": float(pruned.value),
        "won_test": float(task.loss(pruned.model_state.mean, task.test)),
        "compute": pruned.gradients / full.gradients,
        "curves": values,
        "alive": np.asarray(pruned.history.alive),
        "same": np.array_equal(values[descended], seen[descended]),
    }


def _fit(task: shallow.Task, scale: str, seed: int, kind: str, **options: Any) -> jd.FitResult:
    key, how = jax.random.key(seed), KINDS[kind]
    starts, rates = _agents(key, task.train["x"].shape[1], task.outputs)
    steps = RUNGS[scale] * RUNG[scale]
    each = lambda x: jnp.full(AGENTS, x, jnp.float32)
    objective = shallow.averaging(task.loss)
    return jd.fit(
        objective.train,
        shallow.adam,
        task.train,
        init_params=starts,
        model_state=shallow.Averaged.of(starts, MEMORY if how.falls else 0.0),
        hyperparams={
            "learning_rate": rates if how.rate is None else each(how.rate),
            "steps": each(steps),
            "falls": each(how.falls),
        },
        key=key,
        steps=steps,
        rung=RUNG[scale],
        batch_size=min(BATCH, len(task.train["y"])),
        validation_data=task.validation,
        value_fn=objective.value,
        **options,
    )


def _draw_winners(task: shallow.Task, settings: Settings) -> Figure:
    """The paths of a pruned run's agents, projected on the plane through its three best."""
    scale = settings.scale
    result = _fit(task, scale, settings.seed, "starts", rule=RULE, record_params=True)
    starts, _ = _agents(jax.random.key(settings.seed), task.train["x"].shape[1], task.outputs)
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
        labels=("from the best to the second", "across, toward the third"),
    )


@partial(jax.jit, static_argnums=(1, 2))
def _agents(key: jax.Array, inputs: int, outputs: int) -> tuple[Any, jax.Array]:
    """Starts, and learning rates of their own."""
    starts = shallow.starts(jax.random.fold_in(key, 0), inputs, outputs, AGENTS)
    drawn = jax.random.uniform(
        jax.random.fold_in(key, 1), (AGENTS,), minval=RATES[0], maxval=RATES[1]
    )
    return starts, 10.0**drawn


@partial(jax.jit, static_argnums=0)
def _losses(loss: Callable[..., jax.Array], params: Any, examples: Any) -> jax.Array:
    return jax.vmap(loss, (0, None))(params, examples)


def _mean(outcomes: Sequence[Outcome], name: str) -> float:
    return float(np.mean([getattr(outcome, name) for outcome in outcomes]))


MEASURES = {"regret": "held-out", "test_regret": "test", "floor": "floor"}


def _results(found: Mapping[str, Mapping[str, Sequence[Outcome]]], steps: int) -> runner.Results:
    means = {
        name: {kind: {m: _mean(kinds[kind], m) for m in (*MEASURES, "compute")} for kind in KINDS}
        for name, kinds in found.items()
    }
    rows = [(name, *_cells([means[name]])) for name in found]
    of_all = [*means.values()]
    rows.append(("median", *_cells(of_all, np.median)))
    rows.append(("worst", *_cells(of_all, np.max)))
    every = [each for kinds in found.values() for outcomes in kinds.values() for each in outcomes]
    (first, *_), seeds = every, len(next(iter(found.values()))["starts"])
    rungs = len(first.curves)
    notes = [
        *(_verdict(kind, means) for kind in KINDS),
        "held-out: loss of the winner above the best of the 64, as a share of their spread from "
        "best to worst, on the examples that agents are pruned and chosen by; without pruning it "
        "is 0. test: the same on examples that nothing is chosen by. floor: the same of the winner "
        "by held-out loss of all 64, without any pruning: no rule that sees only held-out losses "
        "can be expected to pass it.",
        f"{AGENTS} agents, {steps} steps of Adam on batches of {BATCH} or less, networks of "
        f"{shallow.HIDDEN} hidden units. One rule for all tasks: after {ALL} rungs of {rungs} each "
        f"keeps 1 / {ETA:g}, rounded up. Cells are means over {seeds} seeds.",
        f"Starts: the rate falls from {KINDS['starts'].rate:g} to 0 as a cosine. Rates: from an "
        "agent's own, drawn log-uniformly from 1e-4 to 1e-1. Networks are valued at a running mean "
        f"of their parameters. Constant: {KINDS['constant'].rate:g} throughout, no mean. The best "
        f"of 64 has {_relative(found, 'starts'):.3f} times the test loss there with starts, "
        f"{_relative(found, 'rates'):.3f} times with rates (geometric means over tasks).",
        f"Single runs with a regret on held-out examples of at most {MOST_REGRET:.0%}: "
        f"{'; '.join(_singles(found, kind) for kind in KINDS)}. Late: the best of the 64 got there "
        "after the first cut. Before it, on small sets that are soon learnt by heart, nothing can "
        "be lost. The rule, the rate that falls and the mean's memory were chosen on other seeds, "
        "from 100 on.",
        f"Those not pruned have the losses of the full run to the bit in "
        f"{sum(bool(each.same) for each in every)} of {len(every)} runs.",
    ]
    columns = ("task", *(f"{shown}, {kind}" for kind in KINDS for shown in MEASURES.values()))
    return runner.Results("Pruned training of shallow networks", columns, rows, notes, means)


def _cells(means: Sequence[Any], of: Callable[[Any], Any] = np.mean) -> list[str]:
    return [
        f"{round(100 * of([each[kind][measure] for each in means]), 1) + 0.0:.1f}%"  # no -0.0
        for kind in KINDS
        for measure in MEASURES
    ]


def _verdict(kind: str, means: Mapping[str, Any]) -> str:
    def said(measure: str) -> str:
        values = {name: each[kind][measure] for name, each in means.items()}
        worst = max(values, key=lambda name: values[name])
        few = sum(value <= MOST_REGRET for value in values.values())
        return (
            f"median {np.median([*values.values()]):.1%}, worst {values[worst]:.1%} ({worst}), "
            f"at most {MOST_REGRET:.0%} on {few} of {len(values)} tasks"
        )

    most = max(each[kind]["compute"] for each in means.values())
    return (
        f"{KINDS[kind].title}, at {most:.1%} of the compute (allowed: {MOST_COMPUTE:.0%}). Regret "
        f"on held-out examples (target: {MOST_REGRET:.0%}): {said('regret')}. On test examples: "
        f"{said('test_regret')}; the floor: {said('floor')}."
    )


def _singles(found: Mapping[str, Mapping[str, Sequence[Outcome]]], kind: str) -> str:
    every = [each for kinds in found.values() for each in kinds[kind]]
    late = [each for each in every if not each.early]
    few = lambda some: sum(each.regret <= MOST_REGRET for each in some)
    worst = max(each.regret for each in every)
    return (
        f"{KINDS[kind].title} {few(every)} of {len(every)}, {few(late)} of the {len(late)} decided "
        f"late, worst {worst:.1%}"
    )


def _relative(found: Mapping[str, Mapping[str, Sequence[Outcome]]], kind: str) -> float:
    """Test loss of the best of 64 by held-out loss, over that at a constant rate."""
    chosen = lambda each: each.test[np.argmin(each.validation)]
    loss = lambda kinds, kind: np.mean([chosen(each) for each in kinds[kind]])
    ratios = [loss(kinds, kind) / loss(kinds, "constant") for kinds in found.values()]
    return float(np.exp(np.mean(np.log(ratios))))


def _draw_regret(found: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> Figure:
    """A row for each task: regret on held-out examples, and on test ones beside the floor."""
    figure = Figure(figsize=(13, 0.27 * len(found) + 2.1), layout="constrained")
    panels = figure.subplots(1, len(KINDS), sharey=True, sharex=True)
    places = np.arange(len(found))
    for panel, kind in zip(panels, KINDS, strict=True):
        values = lambda m, kind=kind: (
            100 * np.array([_mean(each[kind], m) for each in found.values()])
        )
        panel.axvspan(-1, 100 * MOST_REGRET, color="#2e86c1", alpha=0.12, linewidth=0)
        panel.hlines(places, values("floor"), values("test_regret"), color="#bbbbbb", linewidth=1)
        panel.plot(values("floor"), places, "o", color="white", markeredgecolor="#777777",
                   label="all 64 on test examples: the floor")  # fmt: skip
        panel.plot(values("test_regret"), places, "o", color="#777777", markersize=3.5,
                   label="pruned, on test examples")  # fmt: skip
        panel.plot(values("regret"), places, "D", color="#c0392b", markersize=4.5,
                   label="pruned, on the held-out examples it is chosen by")  # fmt: skip
        panel.set_title(KINDS[kind].title, fontsize=10)
        panel.set_xscale("symlog", linthresh=1.0)
        panel.set_xlim(-0.2, 100)
        panel.set_xticks([0, 1, 3, 10, 30, 100], ["0", "1%", "3%", "10%", "30%", "100%"])
        panel.grid(alpha=0.25, axis="x")
    share = 100 * np.mean([_mean(kinds["starts"], "compute") for kinds in found.values()])
    panels[1].set_xlabel(
        f"regret to the best of 64 full trainings at {share:.0f}% of their compute, "
        "share of their spread"
    )
    panels[0].set_yticks(places, [*found], fontsize=8)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _draw_curves(found: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> Figure:
    """Held-out losses, each until its agent was pruned."""
    figure = Figure(figsize=(max(3.6 * len(found) + 0.4, 9.0), 6.4), layout="constrained")
    panels = figure.subplots(len(KINDS), max(len(found), 1), squeeze=False)
    for column, (name, kinds) in enumerate(found.items()):
        for row, kind in enumerate(KINDS):
            panel = panels[row, column]
            _draw_agents(panel, kinds[kind][0])
            panel.set_title(f"{name}, {KINDS[kind].title}", fontsize=9)
            if row == len(KINDS) - 1:
                panel.set_xlabel("rung")
            if column == 0:
                panel.set_ylabel("held-out loss")
    marks: dict[str, dict[str, Any]] = {
        "alive at the end": {"color": "#154360", "linewidth": 1.6},
        "pruned": {
            "color": "#999999",
            "linewidth": 0.6,
            "marker": "x",
            "markeredgecolor": "#b03a2e",
        },
        "the least held-out loss of all 64, trained on": {"color": "#ca8a04", "linestyle": "--"},
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
