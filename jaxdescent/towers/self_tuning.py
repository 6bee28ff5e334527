"""Training without choosing a learning rate.

    log a  <- log a + step(<g, u>)      a tower: one-step signal, log space
    x      <- x + u                     u = a d, where the factory makes d from g
    y      <- y + c_n (x - y)           the average of the last part of the path

It is `restart_on_divergence(tower)`:

- The tower has height 1 and a scale-invariant hyper-optimizer (`sign_agreement`). The one-step
  signal alone lowers the learning rate for as long as the loss is noisy (short-horizon bias: Wu et
  al. 2018). Slower steps of the hyper-optimizer and the average compensate for this bias.
- `restart_on_divergence` restarts with a lower learning rate if the initial one was too high.
- `with_average`, inside the restart, keeps the average of the parameters for evaluation. Restarts
  return to this average, so that one buffer of the parameters' size serves both purposes.

Source: the signal is K. Chandra et al. 2022, arXiv:1909.13371 (for one rate, A. G. Baydin
et al. 2018, arXiv:1703.04782); its bias Y. Wu et al. 2018, arXiv:1803.02021; the average
O. Shamir, T. Zhang 2013, arXiv:1212.1824. The trial and the acceleration of the steps are ours.
Their constants were chosen on two tasks of `python -m experiments sensitivity`, digits and MNIST;
results on characters of War and Peace, which is not one of its tasks, were also considered.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optax

from jaxdescent.towers import spaces
from jaxdescent.towers.factory import Factory
from jaxdescent.towers.restart import restart_on_divergence
from jaxdescent.towers.sign_agreement import scale_by_sign_agreement
from jaxdescent.towers.tower import hypergradient


def self_tuning(
    factory: Factory,
    /,
    *,
    learning_rate: Any = 1e-3,
    extra_args: Mapping[str, Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that needs no choice of learning rate.

    `jd.restart_on_divergence` around a `jd.hypergradient` tower whose steps do not depend on
    the scale of the loss.

    Args:
      factory: takes `learning_rate` as a keyword and returns an optax transformation, as
        for `jd.hypergradient`: `optax.adam`, `functools.partial(optax.sgd, momentum=0.9)`. Put
        clipping, momentum and decay inside the factory, not after the result in a chain: restarts
        and the learning rate depend on updates that are applied as they are returned.
      learning_rate: initial learning rate, in (0, inf), which the first update uses. Between
        1e-8 and 1e2 it matters little on ordinary minibatch training. It does matter at a batch
        size of 1, in reinforcement learning, on plateaus and where the target moves
        (`python -m experiments sensitivity`).
      extra_args: examples of arrays that the factory's update reads; see `jd.hypergradient`.

    Returns:
      A transformation with a `jd.RestartState`. `update(grads, state, params, *, value,
      **extra)` needs the parameters and `value`, the loss whose gradients are `grads`. Evaluate the
      model at `jd.averaged_params(state, params)`. A restart returns the parameters, but not other
      state of the model: with BatchNorm, evaluate with `jd.reestimate_statistics`, which computes
      statistics at the averaged parameters. In addition to the state of the
      tower, the state holds the average, one buffer of the parameters' size.

    Raises:
      TypeError, ValueError: as `jd.hypergradient` does.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.self_tuning(optax.adam, learning_rate=1e-8)
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
    start = spaces.Positive.at("learning_rate", learning_rate)
    tower = hypergradient(
        factory,
        scale_by_sign_agreement(),
        tune={"learning_rate": start},
        extra_args=extra_args,
    )
    return restart_on_divergence(tower)
