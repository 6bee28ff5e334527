"""Gradient descent on the logistic loss with eight step sizes, in float64.

Losses are computed from their logarithms, which stay exact where the loss itself is smaller
than the smallest float64.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.logistic.data_sets import SeparableData
from experiments.studies.logistic.settings import CLASSICAL_STEP, TWO_POINTS_MARGIN

CLASSICAL = f"step {CLASSICAL_STEP:g}"
STEP_MARGIN, STEP_100_MARGIN, STEP_HORIZON = "step margin² T", "step 100 margin² T", "step T"
OVER_LOSS = "64 / loss"
OVER_LOSS_FACTOR = 64.0


class StepSize(NamedTuple):
    """A rule for the step size.

    Attributes:
      make: called with the margin of a data set; returns the transformation.
      averaged: True if the average of the iterates is evaluated instead of the last one.
    """

    make: Callable[[Any], optax.GradientTransformationExtraArgs]
    averaged: bool = False


def step_sizes(steps: int) -> dict[str, StepSize]:
    """Returns the step sizes by name; `steps` is the number of steps T."""
    return {
        CLASSICAL: StepSize(lambda _: _sgd(CLASSICAL_STEP)),
        STEP_MARGIN: StepSize(partial(_large_constant, steps, 1.0)),
        STEP_100_MARGIN: StepSize(partial(_large_constant, steps, 100.0)),
        STEP_HORIZON: StepSize(lambda _: _sgd(float(steps))),
        OVER_LOSS: StepSize(lambda _: jd.step_sizes.step_over_loss(OVER_LOSS_FACTOR), True),
        "0.5 / loss": StepSize(lambda _: jd.step_sizes.step_over_loss(0.5)),
        "growing, proven bound": StepSize(lambda margin: _sgd(jd.step_sizes.growing(margin))),
        "growing, asymptotic bound": StepSize(
            lambda margin: _sgd(jd.step_sizes.growing(margin, bound="asymptotic"))
        ),
    }


def _sgd(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return optax.with_extra_args_support(optax.sgd(learning_rate))


def _large_constant(
    steps: int, multiple: float, margin: Any
) -> optax.GradientTransformationExtraArgs:
    return _sgd(jd.step_sizes.large_constant(margin, steps, multiple=multiple))


class LossCurves(NamedTuple):
    """Losses of one step size on all data sets.

    Attributes:
      last: f64[sets, steps + 1], the logarithm of the loss at the iterates.
      average: f64[sets, steps + 1], the logarithm of the loss at the average of the iterates,
        or `last` if the step size has no average.
    """

    last: np.ndarray
    average: np.ndarray

    @property
    def increases(self) -> np.ndarray:
        """bool[sets, steps], True where a step increased the loss by more than rounding."""
        return np.diff(self.last) > 1e-9

    @property
    def last_increase(self) -> np.ndarray:
        """i64[sets], the number of the last step that increased the loss; 0 if none did."""
        steps = np.arange(1, self.last.shape[1])
        return np.max(np.where(self.increases, steps, 0), axis=1)


class TwoPoints(NamedTuple):
    """Result of the classical step on two points.

    Attributes:
      product: loss x margin^2 x step x T, which tends to 1.
    """

    product: float


def loss(w: jax.Array, x: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the mean logistic loss; padding rows have weight 0."""
    return weights @ jax.nn.softplus(-(x @ w))


def log_loss(w: jax.Array, x: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the logarithm of the loss; finite where the loss is below the smallest float64."""
    margins = x @ w
    # log(log(1 + e^-z)) is -z to rounding where e^-z is below 1e-17.
    log_losses = jnp.log(jax.nn.softplus(-jnp.minimum(margins, 40.0)))
    return jax.nn.logsumexp(jnp.where(margins > 40, -margins, log_losses), b=weights)


def train_all(
    step_size: StepSize, steps: int, x: np.ndarray, weights: np.ndarray, margins: np.ndarray
) -> LossCurves:
    """Trains on all data sets at once."""
    train = jax.jit(jax.vmap(partial(descend, step_size.make, steps)))
    return LossCurves(*map(np.asarray, train(x, weights, margins)))


def descend(make: Any, steps: int, x: jax.Array, weights: jax.Array, margin: jax.Array) -> Any:
    """Runs gradient descent from 0 and records the logarithm of the loss.

    Args:
      make: called with the margin; returns the transformation.
      steps: the number of steps.
      x: f64[n, features], examples times their labels.
      weights: f64[n], the weights of the examples.
      margin: f64[], the margin of the data set.

    Returns:
      f64[steps + 1] twice, before each step and after the last one: at the iterates, and at
      their average. The second equals the first if the state has no average.
    """
    tx = make(margin)

    def log_losses(w: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
        last = log_loss(w, x, weights)
        average = getattr(state, "average", None)
        return last, last if average is None else log_loss(average, x, weights)

    def step(carry: Any, _: None) -> Any:
        w, state = carry
        value, grads = jax.value_and_grad(loss)(w, x, weights)
        updates, new_state = tx.update(grads, state, w, value=value)
        return (optax.apply_updates(w, updates), new_state), log_losses(w, state)

    w = jnp.zeros(x.shape[-1], x.dtype)
    (w, state), curves = jax.lax.scan(step, (w, tx.init(w)), length=steps)
    return jax.tree.map(jnp.append, curves, log_losses(w, state))


def train_two_points(steps: int) -> TwoPoints:
    """Trains on two points whose iterates lie on a line, with the classical step."""
    margin, step = TWO_POINTS_MARGIN, CLASSICAL_STEP
    x = np.array([[margin, np.sqrt(1 - margin**2)], [margin, -np.sqrt(1 - margin**2)]])
    train = jax.jit(partial(descend, lambda _: _sgd(step), steps))
    last, _ = train(x, np.full(2, 0.5), np.array(margin))
    return TwoPoints(np.exp(last[-1]) * margin**2 * step * steps)


def pad(sets: Sequence[SeparableData]) -> tuple[np.ndarray, np.ndarray]:
    """Pads all data sets to one shape; returns f64[sets, n, features] and weights f64[sets, n]."""
    shapes = np.array([each.examples.shape for each in sets])
    x = np.zeros((len(sets), *shapes.max(0)))
    weights = np.zeros(x.shape[:2])
    for i, (n, features) in enumerate(shapes):
        x[i, :n, :features] = sets[i].examples
        weights[i, :n] = 1 / n
    return x, weights


def log_bound(factor: float, margin: Any, t: Any) -> np.ndarray:
    """Returns the logarithm of log(1 + exp(-(factor / 2) (margin^2 t - 1))).

    This bounds the loss of the step size factor / loss at the average of t iterates.
    """
    exponent = -factor / 2 * (margin**2 * t - 1)
    is_small = exponent < -30  # log(1 + e) is e to rounding
    return np.where(is_small, exponent, np.log(np.logaddexp(0, np.where(is_small, 0, exponent))))


def bound_violations(curves: LossCurves, margins: np.ndarray, factor: float) -> int:
    """Returns the number of steps at which the average's loss exceeds `log_bound`."""
    t = np.arange(1, curves.average.shape[1])
    # The proof needs moving parameters: they stop when an example's loss underflows.
    is_moving = curves.last[:, :-1] > np.log(1e-300)
    above = curves.average[:, 1:] > log_bound(factor, margins[:, None], t) + 1e-9
    return int(np.sum(above & is_moving))
