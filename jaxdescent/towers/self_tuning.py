"""Training without choosing a learning rate.

    S      = <g, x - y>                       signal
    log a  <- log a - k (t(S) - tau) / n      learning rate; t(S) is mean(S) / rms(S)
    x      <- x + u                           u = a d, where the factory makes u from g
    y      <- y + c (x - y)                   average of the last part of the path

The average y of the parameters x serves three purposes: the model is evaluated there, restarts
return to it, and the signal is measured against it. It is the only buffer of the parameters' size.

- Signal. x - y is a discounted sum of the last updates, so that S is, to first order, the change of
  the loss if all updates since about the horizon of the average were longer: a hypergradient of the
  log learning rate over that horizon. If S < 0, the loss still falls in the direction of the last
  updates, and the learning rate should grow. If S > 0, noise or oscillation dominates, and the
  learning rate should fall, unless the harm is too small to be seen in the loss
  (`tuning/losses.py`): on a plateau S > 0 even at learning rates that are far too low. The signal
  of one step, <g, u>, falls for as long as the loss is noisy (short-horizon bias: Wu et al. 2018);
  over the horizon of the average this bias is small. S sees momentum. It needs neither the last
  update nor a derivative of the factory. It uses parameters as they are, so that it also sees
  transformations after this one in a chain. But these change a return, too: it ends elsewhere than
  at the average. Put them inside the factory.
- Growth is blocked while the last update is longer than a share of the parameters, unless these
  have grown to more than `GROWN` times their first length: many models start at zero.
- Start. A range test finds the initial learning rate (`tuning/range_test.py`): it starts far too
  low and grows until a step does harm. Then the parameters return to the start, and training begins
  with a small part of the harmful learning rate.
- Horizon. If the average lags behind a moving target, its horizon shrinks; if it lags even then,
  the model is evaluated at the parameters (`tuning/horizon.py`).
- Probes. After every 100 steps, the loss of one batch is measured at the average. The model is
  evaluated where the loss is significantly lower (`tuning/probe.py`).
- Jumps. If the target jumps, the average and the statistics begin again (`tuning/trend.py`).
- Restarts. If the loss shows that training has diverged (`tuning/losses.py`), the parameters return
  to the average, and the learning rate is divided by `DIVERGED`; if numbers are not finite, by
  `NOT_FINITE`. Then it stays below the learning rate that failed (`tuning/trend.py`). The optimizer
  is initialized again. A restart takes two updates: the second removes
  the rounding error of the first.

Source: the average is O. Shamir, T. Zhang 2013, arXiv:1212.1824; hypergradients A. G. Baydin et al.
2018, arXiv:1703.04782; their bias Y. Wu et al. 2018, arXiv:1803.02021. The signal is ours. The
constants were chosen on tasks like the development tasks of `python -m experiments sensitivity`.
`tuning/THEORY.md` says what is proven.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescent import validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.towers import factory as factories
from jaxdescent.towers import spaces
from jaxdescent.towers.replay.conditional import either
from jaxdescent.towers.spec import check_factory
from jaxdescent.towers.tower import Tower, innermost
from jaxdescent.towers.tuning import plans
from jaxdescent.towers.tuning.buffers import (
    Buffers,
    averaged,
    checked_params,
    stay,
    to_average_or_exchanged,
)
from jaxdescent.towers.tuning.measurement import length
from jaxdescent.towers.tuning.plans import SelfTuningState

FIRST, HIGHEST_FIRST = 0.1, 1e-9  # of the guess, and absolute: where the range test begins


class SelfTuning(optax.GradientTransformationExtraArgs):
    """The transformation that `self_tuning` returns.

    Attributes:
      factory: makes the transformation whose learning rate is tuned.
      start: coordinate at which the range test begins.
    """

    factory: factories.Factory
    start: spaces.Positive

    def _replace(self, **functions: Any) -> "SelfTuning":
        replaced = super()._replace(**functions)
        replaced.factory, replaced.start = self.factory, self.start
        return replaced


def first_rate(guess: Any) -> Any:
    """Returns the learning rate at which the range test begins, for a guess of the best one."""
    return jnp.minimum(FIRST * guess, HIGHEST_FIRST)


def self_tuning(
    factory: factories.Factory,
    /,
    *,
    learning_rate: Any = 1e-3,
    extra_args: Mapping[str, Any] | None = None,
) -> SelfTuning:
    """Returns an optimizer that needs no choice of learning rate.

    Args:
      factory: takes `learning_rate` as a keyword and returns an optax transformation: `optax.adam`,
        `functools.partial(optax.sgd, momentum=0.9)`, or a function that builds a chain. Put
        clipping and other transformations into it: after the result in a chain, they would also
        change the updates by which the parameters return to their average.
      learning_rate: a guess, in (0, inf). The range test at the start begins at a tenth of it, but
        not above 1e-9. So all guesses above 1e-8 are equal. Guess lower if 1e-9 is too high.
        `jd.set_hyperparams` before the first update sets the learning rate itself, and there is no
        range test.
      extra_args: examples of arrays that the factory's update reads, in addition to `value`; the
        factory is checked with them.

    Returns:
      A transformation with a `jd.SelfTuningState`. `update(grads, state, params, *, value=None,
      skip=None, **extra)` needs the parameters. `value` is the loss whose gradients are `grads`.
      Without it, training that diverges restarts only if numbers are not finite, the range test
      judges steps by their gradients alone, and the loss at the average is not known. A batch is
      skipped if its loss or its gradient is not finite, or if `skip` is True; two non-finite
      batches in a row cause a restart. Evaluate the model at `jd.averaged_params(state, params)`.
      After every 100 steps, the parameters are exchanged with their average for one batch, to
      compare the losses; this takes two updates that do not train. The end of the range test,
      restarts and exchanges move the parameters, but not other state of the model: with BatchNorm,
      evaluate with `jd.reestimate_statistics`, which computes statistics at the averaged
      parameters. In addition to the factory's state, the state holds the average, one buffer of the
      parameters' size.

    Raises:
      TypeError: `factory` is not a callable that returns a transformation.
      ValueError: `learning_rate` is out of range, or not a keyword of the factory; or the factory
        cannot be called with it alone, branches in Python on its value, or ignores it.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.self_tuning(optax.adam)
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> def step(carry, _):
      ...     x, state = carry
      ...     value, grads = jax.value_and_grad(loss)(x)
      ...     updates, state = tx.update(grads, state, x, value=value)
      ...     return (optax.apply_updates(x, updates), state), None
      >>> x = jnp.zeros(4)
      >>> (x, state), _ = jax.lax.scan(step, (x, tx.init(x)), length=300)
      >>> bool(loss(jd.averaged_params(state, x)) < 1e-3)
      True
    """
    if np.ndim(learning_rate):
        raise ValueError(f"learning_rate must be a number, got {learning_rate!r}")
    if isinstance(innermost(factory), Tower):
        raise TypeError(
            "factory must be a callable that returns a transformation, got a tower, whose learning "
            "rate is not an argument; pass a function of learning_rate that returns the tower, or "
            "keep the learning rate that the tower learns and wrap it in jd.restart_on_divergence"
        )
    factory = validation.factory("factory", factory)
    guess = spaces.Positive.at("learning_rate", learning_rate)
    start = spaces.Positive(jnp.log(first_rate(jnp.exp(guess.log))))
    check_factory(factory, {"learning_rate": guess}, extra_args)

    def init(params: Any) -> SelfTuningState:
        validation.check_arrays("params", params)
        return plans.first_state(factory, start, params)

    @compile_eager_calls
    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        skip: Any = None,
        **extra: Any,
    ) -> tuple[Any, SelfTuningState]:
        params = checked_params(params, updates, value)
        requested = validation.scalar_boolean("skip", skip)
        if value is not None:
            extra = {**extra, "value": value}
            value = jnp.asarray(value, state.update_length.dtype)
        # The loss of a batch that is skipped by request says nothing.
        measured = None if value is None else jnp.where(requested, jnp.nan, value)
        plan = plans.plan(state, updates, params, measured)
        outcome = plans.outcome(state, plan, requested)
        buffers = either(
            outcome.steps,
            partial(_step, factory, plan, updates, state, params, extra),
            partial(stay, outcome.steps, updates, state),
        )
        moved = buffers.update_length
        numbers = either(
            outcome.steps,
            partial(plans.with_step, plan, moved),
            partial(plans.without_step, plan, state, outcome),
        )
        back = outcome.restarts | outcome.returns | ~jnp.isfinite(moved)
        first_state = factories.build(factory, numbers.hyperparams).init
        updates, inner_state, average = either(
            back | outcome.exchanges,
            partial(to_average_or_exchanged, first_state, outcome.exchanges, buffers, params),
            lambda: (buffers.updates, buffers.inner_state, buffers.average),
        )
        return updates, numbers._replace(inner_state=inner_state, average=average)

    tx = SelfTuning(init, update)
    tx.factory, tx.start = factory, start
    return tx


def _step(
    factory: factories.Factory,
    plan: plans.Plan,
    grads: Any,
    state: SelfTuningState,
    params: Any,
    extra: dict[str, Any],
) -> Buffers:
    tx = factories.build(factory, plan.numbers.hyperparams)
    updates, inner_state = tx.update(grads, state.inner_state, params, **extra)
    averages = ~state.range_test.running
    average = jax.tree.map(partial(averaged, averages, plan.weight), state.average, params)
    return Buffers(updates, inner_state, average, length(updates, params))
