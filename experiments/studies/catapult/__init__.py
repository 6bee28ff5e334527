"""Catapults: steps of more than 2 / sharpness that converge, to where it is flatter.

    f = <u, v> / sqrt(m)    loss f^2 / 2    u, v standard normal

For a wide network, gradient descent with rate x sharpness below 2 hardly moves the sharpness,
between 2 and 4 lets the loss grow until the sharpness has fallen, and above 4 diverges
(A. Lewkowycz, Y. Bahri, E. Dyer, J. Sohl-Dickstein, G. Gur-Ari 2020, arXiv:2003.02218). Beside
it a ReLU network, whose limit is higher, and `jd.step_sizes.catapult_warmup`, which finds a
start by the first loss that rises. Sharpness is exact: the top eigenvalue of the Hessian.
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

import jaxdescent as jd
from experiments import runner

MULTIPLES = (1.5, 2.2, 3.0, 3.8, 4.5)
CONVERGES = {1.5: True, 2.2: True, 3.0: True, 3.8: True, 4.5: False}
WIDTH = {"smoke": 500, "small": 2_000, "full": 2_000}
SEEDS = {"smoke": 4, "small": 20, "full": 100}
STEPS = {"smoke": 500, "small": 10_000, "full": 20_000}  # after a catapult it may be flat
WARMED = (3.8, 8.0, 16.0)  # targets of the warm-up, times 1 / sharpness
WARMUP_STEPS = 100
DONE = 1e-6  # of the loss at the start: converged


class Relu(NamedTuple):
    """The ReLU networks: two hidden layers.

    Attributes:
      width: of both.
      seeds: how many.
      steps: of descent.
      multiples: of 1 / sharpness, the rates.
    """

    width: int
    seeds: int
    steps: int
    multiples: Sequence[float]


RELU = {
    "smoke": Relu(16, 2, 20, (2.0, 40.0)),
    "small": Relu(200, 10, 500, range(2, 17)),
    "full": Relu(1_000, 20, 2_000, tuple(np.arange(2.0, 16.5, 0.5))),
}
EXAMPLES, FEATURES = 32, 16  # of theirs
RELU_DONE = 1e-2


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings of the catapult study."""


def loss(params: Any) -> jax.Array:
    """Half the square of the two-layer linear network's output."""
    u, v = params
    return 0.5 * (u @ v) ** 2 / u.size


def sharpness(params: Any) -> jax.Array:
    """The top eigenvalue of the loss's Hessian.

    In the coordinates (u + v) / sqrt(2) and (u - v) / sqrt(2) the Hessian acts in a plane, with
    trace k = (|u|^2 + |v|^2) / m and determinant -3 f^2 / m, and is +-f / sqrt(m) elsewhere.
    """
    u, v = params
    kernel = (u @ u + v @ v) / u.size
    return kernel / 2 + jnp.sqrt(kernel**2 / 4 + 3 * (u @ v) ** 2 / u.size**2)


class Outcome(NamedTuple):
    """What a line came to, of each seed.

    Attributes:
      losses: f64[seeds, steps + 1].
      sharpnesses: f64[seeds, steps + 1].
      rates: f64[seeds], the step size at the end.
      found: f64[seeds], the start that a warm-up found; nan without one.
    """

    losses: np.ndarray
    sharpnesses: np.ndarray
    rates: np.ndarray
    found: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """bool[seeds], whether the last loss is far below the first; false for NaN."""
        return self.losses[:, -1] < DONE * self.losses[:, 0]

    @property
    def steps(self) -> np.ndarray:
        """f64[seeds], the first step after which it stays there; infinite if there is none."""
        above = ~(self.losses < DONE * self.losses[:, :1])
        last = above.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
        return np.where(self.converged, last + 1.0, np.inf)


def run(settings: Settings, run: runner.Run) -> runner.Results:
    """Trains every line, all seeds of one together, and draws the picture."""
    scale = settings.scale
    steps, seeds, width = STEPS[scale], SEEDS[scale], WIDTH[scale]
    key, relu_key = jax.random.split(jax.random.key(settings.seed))
    total = len(MULTIPLES) + len(WARMED)
    with jax.enable_x64(True), runner.Progress(total=total * steps) as progress:
        params = jax.random.normal(key, (2, seeds, width), float)
        first = jax.vmap(sharpness)(tuple(params))

        def line(name: str, multiple: float, warmup: int = 0) -> Outcome:
            began = time.monotonic()
            train = partial(_train, tuple(params), multiple / first, steps, warmup)
            found = Outcome(**run.once(f"{name} {multiple:g}", train))
            taken = time.monotonic() - began
            last = float(np.median(found.losses[:, -1]))
            progress.advance(name, steps=steps, loss=last, steps_per_second=steps / taken)
            return found

        plain = {multiple: line("constant", multiple) for multiple in MULTIPLES}
        warmed = {target: line("warm-up", target, WARMUP_STEPS) for target in WARMED}
        relu = run.once("ReLU", partial(_relu, relu_key, RELU[scale]))
    run.save_figure("catapult", _draw(plain, relu))
    return _results(plain, warmed, relu, width, steps)


def _train(params: Any, rates: Any, steps: int, warmup: int = 0) -> dict[str, Any]:
    """All seeds at their rates, or warmed up to them."""
    return Outcome(*map(np.asarray, _descend(params, rates, steps, warmup)))._asdict()


@partial(jax.jit, static_argnums=(2, 3))
@partial(jax.vmap, in_axes=(0, 0, None, None))
def _descend(params: Any, rate: jax.Array, steps: int, warmup: int) -> Any:
    tx = optax.with_extra_args_support(optax.sgd(rate))
    if warmup:
        options = {"steps": warmup, "halvings": 6}
        tx = jd.step_sizes.catapult_warmup(optax.sgd(1.0), rate, **options)

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        after = optax.apply_updates(params, updates)
        return (after, state), (value, sharpness(params))

    carry, curves = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    last, state = carry
    low = state.low if isinstance(state, jd.step_sizes.CatapultWarmupState) else jnp.nan
    curves = jax.tree.map(jnp.append, curves, (loss(last), sharpness(last)))
    return *curves, rate, low


def relu_outputs(params: Any, x: jax.Array) -> jax.Array:
    """Outputs f64[n] of a ReLU network without biases for inputs f64[n, features]."""
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(x @ layer.T * np.sqrt(2 / layer.shape[1]))
    return x @ last / np.sqrt(len(last))


def relu_sharpness(params: Any, x: jax.Array) -> jax.Array:
    """The top eigenvalue of the Gauss-Newton matrix of the mean loss, by its kernel."""
    slopes = jax.jacobian(relu_outputs)(params, x)
    flat = jnp.concatenate([leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(slopes)], axis=1)
    return jnp.linalg.eigvalsh(flat @ flat.T)[-1] / len(x)


def _relu(key: Any, setting: Relu) -> dict[str, Any]:
    """Losses at the start and the end, and sharpness, of each multiple and seed."""
    width = setting.width
    shapes = ((width, FEATURES), (width, width), (width,), (EXAMPLES, FEATURES))

    def one(key: Any, multiple: jax.Array) -> Any:
        keys = jax.random.split(key, len(shapes))
        *layers, x = (jax.random.normal(*e, dtype=float) for e in zip(keys, shapes, strict=True))
        params, y = tuple(layers), jnp.sign(x[:, 0])
        cost = lambda params: 0.5 * jnp.mean((relu_outputs(params, x) - y) ** 2)
        before = relu_sharpness(params, x)
        descend = lambda _, params: jax.tree.map(
            lambda p, g: p - multiple / before * g, params, jax.grad(cost)(params)
        )
        after = jax.lax.fori_loop(0, setting.steps, descend, params)
        return cost(params), cost(after), before, relu_sharpness(after, x)

    program = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))
    multiples = np.asarray(setting.multiples, float)
    found = program(jax.random.split(key, setting.seeds), multiples)
    names = ("first", "last", "before", "after")
    return {"multiples": multiples, **dict(zip(names, map(np.asarray, found), strict=True))}


def relu_converged(relu: Mapping[str, np.ndarray]) -> np.ndarray:
    """bool[multiples, seeds], whether the last loss is far below the first; false for NaN."""
    return relu["last"] < RELU_DONE * relu["first"]


COLUMNS = (
    "line",
    "rate x sharpness",
    "converged",
    "steps",
    "highest loss",
    "sharpness before",
    "after",
    "rate x sharpness after",
)


def _results(
    plain: Mapping[float, Outcome],
    warmed: Mapping[float, Outcome],
    relu: Mapping[str, np.ndarray],
    width: int,
    steps: int,
) -> runner.Results:
    rows = [_cells("constant", multiple, found) for multiple, found in plain.items()]
    rows += [_cells("catapult warm-up", target, found) for target, found in warmed.items()]
    share, multiples = relu_converged(relu), relu["multiples"]
    rows += [_relu_cells({name: x[i] for name, x in relu.items()}, share[i]) for i in _shown(share)]
    wrong = [
        f"{multiple:g} ({found.converged.sum()} of {len(found.converged)})"
        for multiple, found in plain.items()
        if not np.all(found.converged == CONVERGES[multiple])
    ]
    start = np.concatenate(
        [np.asarray(found.found * found.sharpnesses[:, 0]) for found in warmed.values()]
    )
    everywhere, somewhere = multiples[: _prefix(share.all(1))], multiples[share.any(1)]
    taken = np.concatenate([found.steps for found in plain.values()])
    slowest = taken[np.isfinite(taken)].max(initial=0)
    notes = [
        f"Width {width:,}, {steps:,} steps; converged: the loss is below {DONE:g} of the first, "
        f"which took {slowest:,.0f} steps at most (a catapult may land where it is flat). Other "
        "columns are medians over the seeds that converged, of all if none did.",
        "All seeds converge at 1.5, 2.2, 3.0 and 3.8 and none at 4.5, as predicted."
        if not wrong
        else f"Against the prediction (all at 1.5, 2.2, 3.0 and 3.8, none at 4.5): "
        f"{', '.join(wrong)}.",
        f"The warm-up's search finds a start of {start.min():.3f} to {start.max():.3f} over the "
        "sharpness: 2 over it is where, to second order, a step raises the loss, and 4 over it "
        "where constants fail. From that start the warm-up goes to the rate of the table with the "
        f"slope of {WARMUP_STEPS} steps from 0.",
        f"ReLU: two hidden layers, {EXAMPLES} examples; converged: the loss is below {RELU_DONE:g} "
        "of the first; sharpness is the Gauss-Newton matrix's. All seeds converge at all multiples "
        f"from {multiples.min():g} up to {everywhere.max(initial=0):g}, and some up to "
        f"{somewhere.max(initial=0):g}; {multiples.max():g} is the last that was tried. The "
        "source's limit for its ReLU networks is about 12.",
    ]
    values = {
        f"{name} {multiple:g}": {
            "converged": found.converged,
            "steps": found.steps,
            "before": found.sharpnesses[:, 0],
            "after": found.sharpnesses[:, -1],
            "rates": found.rates,
            "found": found.found,
        }
        for name, lines in (("constant", plain), ("warm-up", warmed))
        for multiple, found in lines.items()
    }
    values["ReLU"] = {"multiples": multiples, "converged": share.sum(1)}
    return runner.Results("Catapults", COLUMNS, rows, notes, values)


def _prefix(flags: Any) -> int:
    """How many flags are true before the first that is not."""
    return int(np.cumprod(flags).sum())


def _shown(share: np.ndarray) -> Sequence[int]:
    """The last multiple up to which all seeds converge, the last of which any does, the next."""
    every = _prefix(share.all(1))
    some = np.flatnonzero(share.any(1))
    last = int(some[-1]) if len(some) else 0
    return sorted({max(every - 1, 0), last, min(last + 1, len(share) - 1)})


def _cells(name: str, multiple: float, found: Outcome) -> tuple[str, ...]:
    kept = found.converged if found.converged.any() else np.ones(len(found.rates), bool)
    median = lambda x: float(np.median(x[kept]))
    after = found.sharpnesses[:, -1]
    return (
        name,
        f"{multiple:.1f}",
        f"{found.converged.sum()} of {len(found.converged)}",
        _shown_number(median(found.steps), ".0f"),
        _shown_number(median(found.losses.max(1)), ".3g"),
        _shown_number(median(found.sharpnesses[:, 0]), ".3f"),
        _shown_number(median(after), ".3f"),
        _shown_number(median(found.rates * after), ".2f"),
    )


def _relu_cells(found: Mapping[str, np.ndarray], converged: np.ndarray) -> tuple[str, ...]:
    multiple = float(found["multiples"])
    kept = converged if converged.any() else np.ones(len(converged), bool)
    before, after = (float(np.median(found[name][kept])) for name in ("before", "after"))
    return (
        "ReLU",
        f"{multiple:.1f}",
        f"{converged.sum()} of {len(converged)}",
        "",
        "",
        _shown_number(before, ".3f"),
        _shown_number(after, ".3f"),
        _shown_number(float(np.median((multiple * found["after"] / found["before"])[kept])), ".2f"),
    )


def _shown_number(x: float, form: str) -> str:
    return format(x, form) if np.isfinite(x) else "-"


def _draw(plain: Mapping[float, Outcome], relu: Mapping[str, np.ndarray]) -> Figure:
    """Loss, rate x sharpness, and the share of seeds that converge as a ReLU network."""
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    losses, sharp, share = figure.subplots(1, 3)
    colors = ("#2e86c1", "#1e8449", "#ca8a04", "#ca6f1e", "#922b21")
    for color, (multiple, found) in zip(colors, plain.items(), strict=True):
        _curves(losses, np.clip(found.losses, 1e-12, 1e9), color, f"{multiple:g}")
        _curves(sharp, found.rates[:, None] * found.sharpnesses, color, None)
    losses.set(yscale="log", ylim=(1e-10, 1e6), xlabel="step", ylabel="loss", xlim=(0, 80))
    losses.set_title("linear network: loss, each seed", fontsize=10)
    legend = losses.legend(title="rate x sharpness", fontsize=8, title_fontsize=8)
    for handle in legend.get_lines():
        handle.set(alpha=1, linewidth=2)
    for height in (2, 4):
        sharp.axhline(height, color="#888888", linestyle=":", linewidth=1)
    sharp.set(ylim=(0, 5), xlim=(0, 80), xlabel="step", ylabel="rate x sharpness")
    sharp.set_title("linear network: sharpness, each seed", fontsize=10)
    share.plot(relu["multiples"], relu_converged(relu).mean(1), "o-", color="#222222", markersize=4)
    for place, label in ((4, "4: linear"), (12, "12: ReLU, published")):
        share.axvline(place, color="#888888", linestyle=":", linewidth=1)
        share.annotate(label, (place, 0.5), rotation=90, fontsize=8, ha="right", va="center")
    share.set(xlabel="rate x sharpness at the start", ylabel="share of seeds that converge")
    share.set_title("ReLU network", fontsize=10)
    for panel in (losses, sharp, share):
        panel.grid(alpha=0.25)
    return figure


def _curves(panel: Axes, values: np.ndarray, color: str, label: str | None) -> None:
    for i, curve in enumerate(values[:10, :100]):
        shown = np.where(np.isfinite(curve), curve, np.nan)
        panel.plot(shown, color=color, linewidth=0.9, alpha=0.6, label=label if i == 0 else None)
