"""Range test: finds the initial learning rate by steps that grow until one does harm.

The learning rate begins far too low and grows by the factor `GROWTH` in each step. The steps are
sums of the update directions, so that the signal divided by the sum of all rates,

    z = <g, x - y> / (sum of rates)

is the slope of the loss along them; y are the initial parameters. While the steps are harmless, z
is the slope at y on different batches, and the first steps tell its mean and its noise. A step is
suspected of harm if one of these is true:

- z is positive, and above its mean by `SLOPE_DEVIATIONS` standard deviations: the loss rises along
  the steps.
- The loss is above its mean by `LOSS_DEVIATIONS` standard deviations while z is positive.
- The gradient has vanished: its log norm is below its mean by max(`VANISHED`,
  `GRADIENT_DEVIATIONS` standard deviations). A step has killed all units, for example.

After a suspected step the learning rate waits for one step. If that one is suspected too, or if a
slope is extreme, there was harm. Otherwise it was a false alarm, and the thresholds grow.

The test also ends, as if there was harm, where the steps have moved the parameters by more than
`FARTHEST` times their initial length. A loss can stay low that far out: it does not change with the
scale of layers that are normalized, and tanh units saturate. The learning rate after the test then
still begins with updates of about a hundredth of the parameters.

Steps that were lost in the rounding of the parameters are not counted. If the parameters move much
less than by the update without that excuse, another transformation limits the steps, and the test
ends as if there was harm.

Source: the range test is L. N. Smith 2017, arXiv:1506.01186; the statistics are ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent.towers.replay.conditional import computed_once
from jaxdescent.towers.tuning.measurement import Measurement
from jaxdescent.towers.tuning.statistics import Spread

GROWTH = 4.0  # of the learning rate in each step
CALIBRATION = 6.0  # steps that only measure
SLOPE_DEVIATIONS, LOSS_DEVIATIONS, GRADIENT_DEVIATIONS = 4.0, 6.0, 6.0
VANISHED = 3.0  # of the log norm of the gradient
EXTREME_DEVIATIONS, EXTREME_MEANS = 30.0, 10.0  # of a slope that needs no second step
FEW_SAMPLES = 4.0  # thresholds are 1 + FEW_SAMPLES / count times as wide
FALSE_ALARM = 0.5  # and wider by this part for each false alarm
LEAST_SHARE = 1 / 30  # of an update by which the parameters must move
FARTHEST = 10.0  # times the initial length of the parameters, unless that is zero
ROUNDINGS = 100.0  # of the parameters, below which updates may be lost


class RangeTestState(NamedTuple):
    """State of the range test.

    Attributes:
      running: bool[], True until a step has done harm.
      count: f32[], number of counted steps.
      total: f32[], sum of the learning rates of all steps.
      slope: of z.
      loss: of the loss.
      log_gradient: of the log norm of the gradient.
      suspected: bool[], True if the last step was suspected of harm.
      false_alarms: f32[], number of suspicions that were not confirmed.
    """

    running: jax.Array
    count: jax.Array
    total: jax.Array
    slope: Spread
    loss: Spread
    log_gradient: Spread
    suspected: jax.Array
    false_alarms: jax.Array

    def including(
        self,
        seen: Measurement,
        value: jax.Array | None,
        update_length: jax.Array,
        visible: jax.Array,
        first_length: jax.Array,
    ) -> "RangeTestState":
        """Returns the state after the effect of the last step was measured.

        `running` is False if there was harm.

        Args:
          seen: the measurement of the present step.
          value: the loss, or None.
          update_length: the length of the last update.
          visible: the length from which updates are not lost in rounding.
          first_length: the length of the initial parameters.
        """
        short = seen.distance < LEAST_SHARE * update_length
        limited = short & (update_length > visible)
        moved = ~short & ((seen.distance > 0) | (self.count == 0))
        slope = seen.signal / jnp.maximum(self.total, jnp.finfo(seen.signal.dtype).tiny)
        log_gradient = jnp.log(seen.gradient_length + 1e-30)
        suspected, extreme = self._suspicions(seen.signal, slope, log_gradient, value)
        far = (first_length > 0) & (seen.distance > FARTHEST * first_length)
        harm = limited | moved & (far | extreme | suspected & self.suspected)
        fine, count = moved & ~suspected, self.count + 1

        def included(spread: Spread, x: jax.Array | None, ok: jax.Array) -> Spread:
            if x is None:
                return spread
            new = spread.including(x, count)
            return Spread(*(jnp.where(ok, n, o) for n, o in zip(new, spread, strict=True)))

        return RangeTestState(
            running=self.running & ~harm,
            count=jnp.where(moved, count, self.count),
            total=self.total,
            slope=included(self.slope, slope, fine & (self.count > 0)),
            loss=included(self.loss, value, fine),
            log_gradient=included(self.log_gradient, log_gradient, fine),
            suspected=moved & suspected & ~harm,
            false_alarms=self.false_alarms + (self.suspected & fine),
        )

    def _suspicions(
        self,
        signal: jax.Array,
        slope: jax.Array,
        log_gradient: jax.Array,
        value: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns two bool[]: True if a step is suspected of harm, and if its slope is extreme."""
        few = 1 + FEW_SAMPLES / jnp.maximum(self.count, 1)
        wide = few * (1 + FALSE_ALARM * self.false_alarms)
        deviation = wide * self.slope.deviation(self.count)
        rises = signal > 0
        drop = jnp.maximum(VANISHED, GRADIENT_DEVIATIONS * self.log_gradient.deviation(self.count))
        suspected = rises & (slope > self.slope.mean + SLOPE_DEVIATIONS * deviation)
        suspected |= log_gradient < self.log_gradient.mean - drop
        if value is not None:
            noise = LOSS_DEVIATIONS * wide * self.loss.deviation(self.count)
            suspected |= rises & (value > self.loss.mean + noise)
        extreme = self.slope.mean + EXTREME_DEVIATIONS * deviation
        extreme += EXTREME_MEANS * jnp.abs(self.slope.mean)
        calibrated = self.count >= CALIBRATION
        extreme = calibrated & rises & (slope > extreme)
        return computed_once(calibrated & suspected), computed_once(extreme)
