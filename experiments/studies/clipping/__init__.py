"""Clipping under heavy-tailed noise: where clipped descent converges, how fast, and where not.

    F(x) = |x - 1|^2 / 2    gradients x - 1 + noise    P(|noise| > s) ~ s^-p    steps 4 / (t + 1)

Noise has moments below the p-th only. The norm clipped at t^(1/p) gives a mean loss of the
weighted average of O(T^(-2 (p - 1) / p)), which is optimal, while without clipping the mean is
infinite (J. Zhang et al. 2020, arXiv:1912.03194). A constant threshold is better for symmetric
noise and wrong for skewed noise. Below, without noise, a function whose curvature grows with
its slope: clipping against the best constant step (J. Zhang, T. He, S. Sra, A. Jadbabaie 2020,
arXiv:1905.11881).
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import runner

DIMENSIONS = 4
GRIDS = {"smoke": (4, 7), "small": (8, 14), "full": (8, 18)}  # powers of 2, of steps
SEEDS = {"smoke": 50, "small": 1_000, "full": 4_000}
STARTS = {"smoke": (2.0, 4.0), "small": (2.0, 5.0, 8.0, 11.0), "full": (2.0, 5.0, 8.0, 11.0, 14.0)}
THRESHOLD = 3.0  # of a coordinate; of the norm times 2, the root of the dimensions
GRADIENT = 1e-3  # at which the descent without noise has arrived
RESAMPLES = 300


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the clipping study."""


class Noise(NamedTuple):
    """Heavy-tailed noise: a Pareto variable with a random sign, or less its mean.

    Attributes:
      p: the tail index.
      skewed: whether it has no random sign.
    """

    p: Any
    skewed: bool = False

    @property
    def name(self) -> str:
        """What is printed."""
        return f"{'skewed' if self.skewed else 'symmetric'} p = {self.p:g}"

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Independent numbers; 1 + |noise| has P(. > s) = s^-p."""
        sizes, signs = jax.random.split(key)
        uniform = 1 - jax.random.uniform(sizes, shape, float)  # in (0, 1]
        pareto = uniform ** (-1 / self.p) - 1
        if self.skewed:
            return pareto - 1 / (self.p - 1)
        return pareto * jax.random.rademacher(signs, shape, float)


NOISES = (Noise(1.0), Noise(1.2), Noise(1.5), Noise(1.8), Noise(1.5, skewed=True))


def clips(p: Any) -> dict[str, optax.GradientTransformation]:
    """The transformations before the step, by name; the first two are theory's."""
    norm = THRESHOLD * np.sqrt(DIMENSIONS)
    growing = optax.inject_hyperparams(optax.clip_by_global_norm)
    return {
        "none": optax.identity(),
        "norm at t^(1/p)": growing(max_norm=lambda count: (count + 1.0) ** (1 / p)),
        "clip_by_global_norm": optax.clip_by_global_norm(norm),
        "clip": optax.clip(THRESHOLD),
        "clip_by_block_rms": optax.clip_by_block_rms(THRESHOLD),
        "adaptive_grad_clip": optax.adaptive_grad_clip(THRESHOLD),
    }


@partial(jax.jit, static_argnums=(2, 3, 4))
def losses(
    key: jax.Array, p: jax.Array, skewed: bool, grid: tuple[int, ...], seeds: int
) -> jax.Array:
    """Losses of the weighted average after each number of steps in the grid.

    All methods are given the same noise.

    Args:
      key: for the noise.
      p: f64[], its tail index.
      skewed: as in `Noise`.
      grid: numbers of steps, rising.
      seeds: how many runs.

    Returns:
      f64[methods, grid, seeds].
    """
    noise = Noise(p, skewed)
    step_size = lambda count: 4.0 / (count + 2.0)
    methods = [optax.chain(clip, optax.sgd(step_size)) for clip in clips(noise.p).values()]

    def step(t: jax.Array, carry: Any) -> Any:
        drawn = noise.draw(jax.random.fold_in(key, t), (seeds, DIMENSIONS))

        def one(tx: Any, x: jax.Array, average: jax.Array, state: Any) -> Any:
            average += 2 / (t + 2) * (x - average)  # x_t weighs t + 1

            def move(x: jax.Array, state: Any, drawn: jax.Array) -> Any:
                updates, state = tx.update(x - 1 + drawn, state, x)
                return optax.apply_updates(x, updates), state

            x, state = jax.vmap(move)(x, state, drawn)
            return x, average, state

        return [one(tx, *each) for tx, each in zip(methods, carry, strict=True)]

    def stretch(carry: Any, ends: Any) -> Any:
        carry = jax.lax.fori_loop(ends[0], ends[1], step, carry)
        return carry, jnp.stack([jnp.sum((y - 1) ** 2, -1) / 2 for _, y, _ in carry])

    start = jnp.full((seeds, DIMENSIONS), 1 + 1 / np.sqrt(DIMENSIONS))
    carry = [(start, start, jax.vmap(tx.init)(start)) for tx in methods]
    ends = jnp.asarray([0, *grid[:-1]]), jnp.asarray(grid)
    return jnp.moveaxis(jax.lax.scan(stretch, carry, ends)[1], 0, 1)


class Fit(NamedTuple):
    """A power of T that a statistic of the losses goes with.

    Attributes:
      exponent: by least squares of logarithms.
      low, high: its 95% interval, by resampling seeds.
    """

    exponent: float
    low: float
    high: float


def fitted(found: np.ndarray, grid: np.ndarray, statistic: Any, seed: int = 0) -> Fit:
    """The exponent of a statistic over seeds.

    Args:
      found: f64[grid, seeds].
      grid: the numbers of steps.
      statistic: a function with `axis`, such as `numpy.mean`.
      seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    seeds = found.shape[1]
    resampled = [
        slope(grid, statistic(found[:, rng.integers(seeds, size=seeds)], axis=1))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Fit(slope(grid, statistic(found, axis=1)), float(low), float(high))


def biased_minimum(noise: Noise, threshold: float) -> float:
    """Where the mean of a clipped coordinate's gradient is 0, less the minimum, by bisection.

    The mean is one over the noise's quantiles.
    """
    parts = (np.arange(100_000) + 0.5) / 100_000
    drawn = parts ** (-1 / noise.p) - 1
    drawn = drawn - 1 / (noise.p - 1) if noise.skewed else np.concatenate([drawn, -drawn])
    low, high = -threshold, threshold
    for _ in range(60):
        middle = (low + high) / 2
        above = np.mean(np.clip(middle + drawn, -threshold, threshold)) > 0
        low, high = (low, middle) if above else (middle, high)
    return (low + high) / 2


class Descent(NamedTuple):
    """Steps without noise to a small slope, the most from any of ten places.

    Attributes:
      start: the furthest place; the others are within half of it.
      clipped: steps with min(1, 1 / |slope|), by optax.
      constant: steps with the best constant of a grid.
      best: that constant.
    """

    start: float
    clipped: int
    constant: int
    best: float


def descent(start: float) -> Descent:
    """Clipped descent on cosh, whose curvature is at most 1 + |slope|, and the best constant.

    A constant tuned for one place could jump from there to the minimum in a step.
    """
    places = jnp.linspace(start / 2, start, 10)
    limit = 2 * start / np.sinh(start)  # above it the first step goes further out than it was
    constants = limit * np.linspace(0.05, 0.99, 20)
    taken = np.asarray(_steps(optax.sgd, places, jnp.asarray(constants))).max(0)
    clipped = lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate))
    ours = int(jnp.max(_steps(clipped, places, jnp.ones(1))))
    best = int(np.argmin(taken))
    return Descent(start, ours, int(taken[best]), float(constants[best]))


@partial(jax.jit, static_argnums=0)
@partial(jax.vmap, in_axes=(None, 0, None))
@partial(jax.vmap, in_axes=(None, None, 0))
def _steps(make: Any, start: Any, rate: Any) -> Any:
    """Steps until the slope of cosh is small, at most ten million."""
    tx = make(rate)

    def going(carry: Any) -> jax.Array:
        x, _, count = carry
        return ~(jnp.abs(jnp.sinh(x)) <= GRADIENT) & (count < 10_000_000)

    def step(carry: Any) -> Any:
        x, state, count = carry
        updates, state = tx.update(jnp.sinh(x), state, x)
        return optax.apply_updates(x, updates), state, count + 1

    return jax.lax.while_loop(going, step, (start, tx.init(start), 0))[2]


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Descends under each noise, all methods and seeds together, and draws the picture."""
    low, high = GRIDS[settings.scale]
    grid = tuple(2**k for k in range(low, high + 1))
    keys = jax.random.split(jax.random.key(settings.seed), len(NOISES))
    found = {}
    with jax.enable_x64(True), runner.Progress(total=len(NOISES) * grid[-1]) as progress:
        for noise, key in zip(NOISES, keys, strict=True):
            began = time.monotonic()
            compute = partial(_compute, key, noise, grid, SEEDS[settings.scale])
            found[noise] = run.once(noise.name, compute)["losses"]
            speed = grid[-1] / (time.monotonic() - began)
            middle = float(np.median(found[noise][1, -1]))
            progress.advance(noise.name, steps=grid[-1], loss=middle, steps_per_second=speed)
        exploding = [
            Descent(
                **{k: v.item() for k, v in run.once(f"cosh {x:g}", partial(_descent, x)).items()}
            )
            for x in STARTS[settings.scale]
        ]
    run.save_figure("clipping", _draw(found, np.array(grid)))
    return _results(found, np.array(grid), exploding)


def _compute(key: Any, noise: Noise, grid: tuple[int, ...], seeds: int) -> dict[str, Any]:
    return {"losses": np.asarray(losses(key, noise.p, noise.skewed, grid, seeds))}


def _descent(start: float) -> dict[str, Any]:
    return descent(start)._asdict()


def growing_clip(p: float, grid: np.ndarray) -> np.ndarray:
    """The mean loss with the norm of symmetric noise clipped at t^(1/p), f64[grid].

    The average is (4 / T^2) sum_s s (1 - (s / T)^2) noise_s, to first order in 1 / T, and the
    variance of a clipped coordinate is the integral of 2 s P(|noise| > s) up to the threshold,
    since one coordinate alone makes a large norm.
    """
    found = []
    for T in grid:
        s = np.arange(1, T + 1.0)
        end = 1 + s ** (1 / p)
        variance = 2 * ((end ** (2 - p) - 1) / (2 - p) - (end ** (1 - p) - 1) / (1 - p))
        weights = 4 / T**2 * s * (1 - (s / T) ** 2)
        found.append(DIMENSIONS / 2 * np.sum(weights**2 * variance))
    return np.array(found)


def slope(grid: np.ndarray, values: np.ndarray) -> float:
    """The exponent of T that the values go with, by least squares of logarithms."""
    x = np.log(grid) - np.mean(np.log(grid))
    return float(x @ np.log(values) / (x @ x))


class Expected(NamedTuple):
    """Theory's exponents; None where there is none.

    Attributes:
      mean: of the mean loss, in the limit; infinite if there is no mean.
      median: of the median loss, in the limit.
      here: of the mean loss, over the steps that were taken.
    """

    mean: float | None
    median: float | None
    here: float | None = None


def expected(noise: Noise, name: str, grid: np.ndarray) -> Expected:
    """What theory says of a method under a noise.

    Without clipping the average is one of noise: it has no variance, and spreads like
    T^(1/p - 1). A constant threshold leaves noise of finite variance and, if the noise is
    symmetric, the minimum where it is; if not, the loss stays at that of another point.
    """
    heavy = 2 * (1 - noise.p) / noise.p
    if name == "none":
        return Expected(np.inf, heavy)
    if name == "norm at t^(1/p)":
        if noise.skewed or noise.p <= 1:
            return Expected(heavy if noise.p > 1 else None, None)
        return Expected(heavy, None, slope(grid, growing_clip(noise.p, grid)))
    return Expected(0.0, 0.0) if noise.skewed else Expected(-1.0, -1.0)


COLUMNS = (
    "noise",
    "clipping",
    "mean loss",
    "median",
    "largest",
    "exponent of the mean (95%)",
    "theory",
    "of the median (95%)",
    "theory",
)


def _results(
    found: Mapping[Noise, np.ndarray], grid: np.ndarray, exploding: Sequence[Descent]
) -> runner.Results:
    rows, values, outside = [], {}, []
    for noise, losses in found.items():
        values[noise.name] = {}
        for name, each in zip(clips(noise.p), losses, strict=True):
            mean, median = fitted(each, grid, np.mean), fitted(each, grid, np.median)
            theory = expected(noise, name, grid)
            values[noise.name][name] = {
                "mean": each.mean(1),
                "median": np.median(each, 1),
                "exponent": mean,
                "median_exponent": median,
            }
            rows.append(
                (
                    noise.name,
                    name,
                    f"{each[-1].mean():.2e}",
                    f"{np.median(each[-1]):.2e}",
                    f"{each[-1].max():.1e}",
                    _interval(mean) if name != "none" else "no mean",
                    _exponent(theory.mean, theory.here),
                    _interval(median),
                    _exponent(theory.median),
                )
            )
            if theory.mean is not None and np.isfinite(theory.mean):
                for said, what in ((theory.mean, "the limit"), (theory.here, "these T")):
                    if said is not None and not mean.low - 0.05 <= said <= mean.high + 0.05:
                        off = f"{mean.exponent - said:+.2f} to {what}"
                        outside.append(f"{noise.name}, {name} ({off})")
    values["cosh"] = [each._asdict() for each in exploding]
    return runner.Results(
        "Clipping", COLUMNS, rows, _notes(found, grid, exploding, outside), values
    )


def _notes(
    found: Mapping[Noise, np.ndarray],
    grid: np.ndarray,
    exploding: Sequence[Descent],
    outside: Sequence[str],
) -> list[str]:
    seeds = next(iter(found.values())).shape[-1]
    skewed = next(noise for noise in found if noise.skewed)
    place = list(clips(skewed.p)).index("clip")
    bias = biased_minimum(skewed, THRESHOLD)
    measured = np.median(found[skewed][place, -1])
    plain = np.median(found[skewed][0, -1])
    ratios = [
        f"{losses[1, -1].mean() / growing_clip(noise.p, grid)[-1]:.2f} at p = {noise.p:g}"
        for noise, losses in found.items()
        if noise.p > 1 and not noise.skewed
    ]
    faster = ", ".join(
        f"{each.constant:,} against {each.clipped:,} from {each.start:g}" for each in exploding
    )
    return [
        f"Losses after {grid[-1]:,} steps, of {seeds:,} seeds in {DIMENSIONS} dimensions; "
        f"exponents of T from {grid[0]:,} to {grid[-1]:,}, with intervals by resampling seeds. "
        "Without clipping the mean is infinite, and what is printed is the sample's. One vector "
        "is one block, for which clip_by_block_rms is clip_by_global_norm.",
        "The interval of the mean's exponent does not come within .05 of theory's in: "
        f"{'; '.join(outside) or 'no row'} (found less theory's).",
        f"Mean losses with the norm at t^(1/p), found over predicted: {', '.join(ratios)}; the "
        "prediction has the exact variance of clipped noise, whose growth is slow near p = 2. Its "
        "exponents at these T stand before their limits.",
        "Theory: norm at t^(1/p) of the source; a constant threshold and symmetric noise leave "
        "finite variance and no bias, hence 1 / T; without clipping the average spreads like "
        "T^(1/p - 1), so that the median falls as fast as the clipped mean, and not at all at "
        "p = 1. The bound at p = 1 is none: the source needs p > 1.",
        f"Where clipping loses: under skewed noise a constant threshold of {THRESHOLD:g} a "
        f"coordinate ends at a loss of {measured:.4f} in the median; theory says "
        f"{DIMENSIONS * bias**2 / 2:.4f}, that of where the clipped gradient's mean is 0. Without "
        f"clipping the median is {plain:.1e} and still falling.",
        f"Without noise, on cosh to a slope of {GRADIENT:g}: steps with the best of 20 constants "
        "against min(1, 1 / slope), which is optax's clip_by_global_norm(1), the most from ten "
        f"places: {faster}.",
    ]


def _interval(fit: Fit) -> str:
    return f"{fit.exponent:.2f} ({fit.low:.2f} .. {fit.high:.2f})"


def _exponent(x: float | None, here: float | None = None) -> str:
    if x is None:
        return "-"
    if here is not None:
        return f"{here:.2f} -> {x:.2f}"
    return f"{x:.2f}" if np.isfinite(x) else "no mean"


STYLES = {
    "none": ("#222222", "-"),
    "norm at t^(1/p)": ("#2e86c1", "-"),
    "clip_by_global_norm": ("#1e8449", "-"),
    "clip": ("#ca8a04", "-"),
    "adaptive_grad_clip": ("#922b21", "--"),
}


def _draw(found: Mapping[Noise, np.ndarray], grid: np.ndarray) -> Figure:
    """Mean losses against steps: a panel for each noise, with the slope of theory."""
    figure = Figure(figsize=(3.1 * len(found), 4.8), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True)
    for panel, (noise, losses) in zip(panels, found.items(), strict=True):
        for name, each in zip(clips(noise.p), losses, strict=True):
            if name not in STYLES:  # clip_by_block_rms is clip_by_global_norm here
                continue
            color, line = STYLES[name]
            panel.plot(grid, each.mean(1), line, color=color, linewidth=1.6, label=name)
            if name == "none":
                label = "none, median"
                panel.plot(grid, np.median(each, 1), ":", color=color, linewidth=1.6, label=label)
        _draw_theory(panel, noise, grid)
        panel.set(xscale="log", yscale="log", xlabel="steps T", ylim=(1e-5, 1e5))
        panel.set_title(f"{noise.name} noise", fontsize=10)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("mean loss over seeds")
    figure.legend(
        *panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8
    )
    return figure


def _draw_theory(panel: Axes, noise: Noise, grid: np.ndarray) -> None:
    if noise.skewed or noise.p <= 1:
        return
    mean = growing_clip(noise.p, grid)
    panel.plot(grid, mean, "o", color="#85c1e9", markersize=4, label="norm at t^(1/p), predicted")
