"""Large steps on separable logistic regression: 16,000 steps on 20 data sets, eight step sizes.

The classical step 8 against large constants (J. Wu, P. L. Bartlett, M. Telgarsky, B. Yu, COLT
2024, arXiv:2402.15926), steps over the loss (R. Zhang, J. Wu, L. Lin, P. L. Bartlett 2025,
arXiv:2504.04105) and growing steps that never let the loss rise (the possibility is that of
S. Kale et al. 2026, arXiv:2602.18946): are large steps good because they are unstable?

All in float64. Losses are printed as powers of ten, from their logarithms, which hold where
the losses themselves are below the smallest number.
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
from matplotlib.ticker import LogLocator, NullFormatter

import jaxdescent as jd
from experiments import runner
from experiments.studies.logistic import data_sets as separable
from experiments.studies.logistic.data_sets import Separable

STEPS = {"smoke": 400, "small": 16_000, "full": 64_000}
SETS = {"smoke": 3, "small": 20, "full": 20}
CLASSICAL = 8.0  # 2 over the greatest curvature, for examples of length 1
TARGET = 6.0  # powers of ten
TOY = {"margin": 0.1, "step": 8.0}


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the logistic study."""


class Method(NamedTuple):
    """A step size.

    Attributes:
      make: from the margin to the transformation.
      averaged: whether the average of its path is what is judged.
      color, style: of its curve.
    """

    make: Callable[[Any], optax.GradientTransformationExtraArgs]
    averaged: bool = False
    color: str = "black"
    style: str = "-"


def methods(steps: int) -> dict[str, Method]:
    """The step sizes by name; `steps` is the horizon."""
    over_loss = lambda rate: lambda _: jd.step_sizes.step_over_loss(rate)
    scheduled = lambda schedule: optax.with_extra_args_support(optax.sgd(schedule))
    constant = lambda multiple: (
        lambda margin: scheduled(jd.step_sizes.large_constant(margin, steps, multiple=multiple))
    )
    return {
        f"step {CLASSICAL:g}": Method(lambda _: scheduled(CLASSICAL), color="#222222"),
        "step margin² T": Method(constant(1.0), color="#f5b041"),
        "step 100 margin² T": Method(constant(100.0), color="#ca6f1e"),
        "step T": Method(lambda _: scheduled(float(steps)), color="#922b21"),
        "64 / loss": Method(over_loss(64.0), True, "#8e44ad"),
        "0.5 / loss": Method(over_loss(0.5), False, "#5dade2", "--"),
        "growing, proven bound": Method(
            lambda margin: scheduled(jd.step_sizes.growing(margin)), False, "#58d68d", "--"
        ),
        "growing, asymptotic bound": Method(
            lambda margin: scheduled(jd.step_sizes.growing(margin, bound="asymptotic")),
            False,
            "#1e8449",
            "--",
        ),
    }


def loss(w: jax.Array, x: jax.Array, weights: jax.Array) -> jax.Array:
    """The mean logistic loss; the weights of rows that are padding are 0."""
    return weights @ jax.nn.softplus(-(x @ w))


def log_loss(w: jax.Array, x: jax.Array, weights: jax.Array) -> jax.Array:
    """Its logarithm, which is finite where the loss is below the smallest number."""
    margins = x @ w
    # log(log(1 + e^-z)) is -z to rounding where e^-z is below 1e-17.
    near = jnp.log(jax.nn.softplus(-jnp.minimum(margins, 40.0)))
    return jax.nn.logsumexp(jnp.where(margins > 40, -margins, near), b=weights)


def descend(make: Any, steps: int, x: jax.Array, weights: jax.Array, margin: jax.Array) -> Any:
    """The logarithm of the loss before each step and after the last, and the average's.

    Args:
      make: from the margin to a transformation.
      steps: how many.
      x: f64[n, features].
      weights: f64[n].
      margin: f64[].

    Returns:
      f64[steps + 1] twice; the second is the first where the state has no average.
    """
    tx = make(margin)

    def seen(w: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
        last = log_loss(w, x, weights)
        average = getattr(state, "average", None)
        return last, last if average is None else log_loss(average, x, weights)

    def step(carry: Any, _: None) -> Any:
        w, state = carry
        value, grads = jax.value_and_grad(loss)(w, x, weights)
        updates, after = tx.update(grads, state, w, value=value)
        return (optax.apply_updates(w, updates), after), seen(w, state)

    w = jnp.zeros(x.shape[-1], x.dtype)
    (w, state), curves = jax.lax.scan(step, (w, tx.init(w)), length=steps)
    return jax.tree.map(jnp.append, curves, seen(w, state))


def padded(sets: Sequence[Separable]) -> tuple[np.ndarray, np.ndarray]:
    """All examples in one f64[sets, n, features] and their weights f64[sets, n]."""
    shapes = np.array([each.examples.shape for each in sets])
    x = np.zeros((len(sets), *shapes.max(0)))
    weights = np.zeros(x.shape[:2])
    for i, (n, features) in enumerate(shapes):
        x[i, :n, :features] = sets[i].examples
        weights[i, :n] = 1 / n
    return x, weights


class Outcome(NamedTuple):
    """What a step size came to; of each data set.

    Attributes:
      last: f64[sets, steps + 1], logarithms of the loss.
      average: f64[sets, steps + 1], of the average of the path.
    """

    last: np.ndarray
    average: np.ndarray

    @property
    def rises(self) -> np.ndarray:
        """bool[sets, steps], whether a step raised the loss by more than rounding."""
        return np.diff(self.last) > 1e-9

    @property
    def settled(self) -> np.ndarray:
        """i64[sets], how many steps were taken when the loss had risen for the last time."""
        steps = np.arange(1, self.last.shape[1])
        return np.max(np.where(self.rises, steps, 0), axis=1)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Descends on all data sets, a method at a time, and draws the picture."""
    steps = STEPS[settings.scale]
    sets = separable.data_sets(SETS[settings.scale], settings.seed)
    outcomes = {}
    lines = methods(steps)
    with jax.enable_x64(True), runner.Progress(total=len(lines) * steps) as progress:
        arguments = *padded(sets), np.array([each.margin for each in sets])
        for name, method in lines.items():
            began = time.monotonic()
            outcomes[name] = Outcome(**run.once(name, partial(_compute, method, steps, arguments)))
            taken = time.monotonic() - began
            middle = float(np.exp(np.median(outcomes[name].last[:, -1])))
            progress.advance(name, steps=steps, loss=middle, steps_per_second=steps / taken)
        toy = float(run.once("two points", partial(_toy, 4 * steps))["product"])
    run.save_figure("logistic", _draw(sets, outcomes, steps))
    return _results(sets, outcomes, toy, steps)


def _compute(method: Method, steps: int, arguments: Any) -> dict[str, Any]:
    last, average = jax.jit(jax.vmap(partial(descend, method.make, steps)))(*arguments)
    return Outcome(np.asarray(last), np.asarray(average))._asdict()


def _toy(steps: int) -> dict[str, Any]:
    """Two points whose path is a line: loss times margin^2 step T tends to 1."""
    margin, step = TOY["margin"], TOY["step"]
    x = np.array([[margin, np.sqrt(1 - margin**2)], [margin, -np.sqrt(1 - margin**2)]])
    make = lambda _: optax.with_extra_args_support(optax.sgd(step))
    last, _ = jax.jit(partial(descend, make, steps))(x, np.full(2, 0.5), np.array(margin))
    return {"product": np.exp(last[-1]) * margin**2 * step * steps}


def judged(outcomes: Mapping[str, Outcome], steps: int) -> dict[str, np.ndarray]:
    """The final loss of each data set as a power of ten, f64[sets]."""
    ways = methods(steps)
    return {
        name: (found.average if ways[name].averaged else found.last)[:, -1] / np.log(10)
        for name, found in outcomes.items()
    }


def broken_bounds(outcome: Outcome, margins: np.ndarray, rate: float) -> int:
    """At how many steps the average of a step over the loss is above its bound."""
    t = np.arange(1, outcome.average.shape[1])
    # The proof ends where an example's loss is below the smallest number and parameters stay.
    moving = outcome.last[:, :-1] > np.log(1e-300)
    above = outcome.average[:, 1:] > log_bound(rate, margins[:, None], t) + 1e-9
    return int(np.sum(above & moving))


def log_bound(rate: float, margin: Any, t: Any) -> np.ndarray:
    """The logarithm of log(1 + exp(-(rate / 2) (margin^2 t - 1)))."""
    exponent = -rate / 2 * (margin**2 * t - 1)
    small = exponent < -30  # log(1 + e) is e to rounding
    return np.where(small, exponent, np.log(np.logaddexp(0, np.where(small, 0, exponent))))


def _results(
    sets: Sequence[Separable], outcomes: Mapping[str, Outcome], toy: float, steps: int
) -> runner.Results:
    final = judged(outcomes, steps)
    margins = np.array([each.margin for each in sets])
    classical, *others = final
    rows = [
        (
            each.name,
            str(each.examples.shape[0]),
            f"{each.margin:.4f}",
            *(f"{powers[i]:.1f}" for powers in final.values()),
        )
        for i, each in enumerate(sets)
    ]
    medians = {name: np.median(powers) for name, powers in final.items()}
    rows.append(
        ("median", "", f"{np.median(margins):.4f}", *(f"{x:.1f}" for x in medians.values()))
    )
    gains = {name: float(np.median(final[classical] - final[name])) for name in others}
    reached = [f"{name} (1e{gain:.1f})" for name, gain in gains.items() if gain >= TARGET]
    missed = [f"{name} (1e{gain:.1f})" for name, gain in gains.items() if gain < TARGET]
    sizes = np.array([len(each.examples) for each in sets])
    notes = [
        f"log10 of the loss after {steps:,} steps; margins are certified to "
        f"{max(each.above - each.margin for each in sets):.0e}.",
        f"Median over {len(sets)} data sets of how many times lower than with {classical} the loss "
        f"is: 1e{TARGET:g} or more with {'; '.join(reached) or 'none'}. Less with "
        f"{'; '.join(missed) or 'none'}.",
        _stability(outcomes),
        *_predictions(outcomes, margins, sizes, toy, steps),
    ]
    values: dict[str, Any] = {
        name: {
            "log10_loss": final[name],
            "rises": found.rises.sum(1),
            "settled": found.settled,
            "gain": gains.get(name, 0.0),
        }
        for name, found in outcomes.items()
    }
    values["data"] = {each.name: each.margin for each in sets}
    values["two_points"] = toy
    return runner.Results(
        "Separable logistic regression",
        ("data", "n", "margin", *final),
        rows,
        notes,
        values,
    )


def _stability(outcomes: Mapping[str, Outcome]) -> str:
    """Which methods ever let the loss rise."""
    rises = {name: int(found.rises.sum()) for name, found in outcomes.items()}
    never = [name for name, count in rises.items() if not count]
    some = [f"{name} {count:,}" for name, count in rises.items() if count]
    return (
        f"Steps that raised the loss, of all data sets: none with {'; '.join(never) or 'any'}. "
        f"Otherwise: {'; '.join(some) or 'none'}."
    )


def _predictions(
    outcomes: Mapping[str, Outcome],
    margins: np.ndarray,
    sizes: np.ndarray,
    toy: float,
    steps: int,
) -> list[str]:
    """What theory says of the constants and of the step over the loss, beside what was found."""
    said = []
    constant = lambda multiple: np.asarray(
        jd.step_sizes.large_constant(margins, steps, multiple=multiple)(0)
    )
    rates = {
        "step margin² T": constant(1.0),
        "step 100 margin² T": constant(100.0),
        "step T": np.full(len(margins), float(steps)),
    }
    for name, eta in rates.items():
        settled = outcomes[name].settled
        order = np.maximum(eta, sizes) / margins**2
        late = np.exp(outcomes[name].last[:, -1]) * margins**2 * eta * steps
        said.append(
            f"{name}: the last step that raised the loss was number {np.median(settled):,.0f} in "
            f"the median (0: none did) and {settled.max():,} at most, "
            f"{(settled / order).max():.2g} times max(step, n) / margin² at most (theory: of order "
            "1 at most); at the end loss "
            f"x margin² x step x T is {np.median(late):.1e} in the median and {late.max():.2g} at "
            "most (theory: of order 1 at most)."
        )
    product = np.exp(outcomes[f"step {CLASSICAL:g}"].last[:, -1]) * margins**2 * CLASSICAL * steps
    said.append(
        f"Step {CLASSICAL:g}: loss x margin² x step x T is {np.median(product):.2f} in the median "
        f"({product.min():.2f} to {product.max():.2f}; 1 in the limit); of two points with margin "
        f"{TOY['margin']:g}, after {4 * steps:,} steps, {toy:.3f}."
    )
    broken = broken_bounds(outcomes["64 / loss"], margins, 64.0)
    at = np.minimum(np.ceil(2 / margins**2).astype(int), steps)
    then = outcomes["64 / loss"].average[np.arange(len(at)), at] / np.log(10)
    said.append(
        "64 / loss, judged at the average of its path: its bound, exp(-32 (margin² t - 1)), is "
        f"broken at {broken} steps; after 2 / margin² steps (or all {steps:,}) the loss is "
        f"1e{np.median(then):.1f} in the median, where the bound is 1e{-32 / np.log(10):.1f}."
    )
    return said


def _draw(sets: Sequence[Separable], outcomes: Mapping[str, Outcome], steps: int) -> Figure:
    """Curves of the data set with the median margin, and all final losses against the margin."""
    margins = np.array([each.margin for each in sets])
    middle = int(np.argsort(margins)[len(margins) // 2])
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    curves, finals = figure.subplots(1, 2)
    _draw_curves(curves, sets[middle], middle, outcomes, steps)
    ways = methods(steps)
    order = np.argsort(margins)
    for name, powers in judged(outcomes, steps).items():
        style = {"color": ways[name].color, "linestyle": ways[name].style}
        finals.plot(margins[order], -powers[order], "o", markersize=4, linewidth=1, **style)
    finals.set(xscale="log", yscale="log", xlabel="margin", ylabel="- log10 of the final loss")
    finals.set_title(f"{len(sets)} data sets after {steps:,} steps: higher is better")
    finals.xaxis.set_minor_formatter(NullFormatter())
    finals.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    finals.xaxis.set_major_formatter("{x:g}")
    finals.grid(alpha=0.25)
    return figure


def _draw_curves(
    panel: Axes, each: Separable, i: int, outcomes: Mapping[str, Outcome], steps: int
) -> None:
    at = np.unique(np.geomspace(1, steps, 800).astype(int))
    ways = methods(steps)
    for name, found in outcomes.items():
        curve = (found.average if ways[name].averaged else found.last)[i, at] / np.log(10)
        label = f"{name}, averaged" if ways[name].averaged else name
        style = {"color": ways[name].color, "linestyle": ways[name].style}
        panel.plot(at, curve, linewidth=1.6, label=label, **style)
    for eta in (CLASSICAL, float(steps)):
        theory = -np.log10(each.margin**2 * eta * at)
        label = "1 / (margin² step t)" if eta == CLASSICAL else None
        panel.plot(at, theory, color="#999999", linestyle=":", linewidth=1.2, label=label)
    bound = log_bound(64.0, each.margin, at) / np.log(10)
    panel.plot(at, bound, color="#8e44ad", linestyle=":", linewidth=1.2, label="bound of 64 / loss")
    panel.set(xscale="log", xlabel="step", ylabel="log10 of the loss", ylim=(-40, 5))
    panel.set_title(f"{each.name}, margin {each.margin:.3f}; dashed: steps meant to be stable")
    panel.legend(fontsize=8, loc="lower left")
    panel.grid(alpha=0.25)
