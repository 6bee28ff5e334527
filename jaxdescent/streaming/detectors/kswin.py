"""KSWIN: the newest values of a window have another distribution than the older ones.

    D = max_x |F_old(x) - F_new(x)|,     drift if P(D or more, without a change) <= alpha

F_new is the distribution function of the newest r = `sample_size` values, and F_old of r values
that are drawn from the others in the window, without replacement. With r values in both, D is one
of 0, 1/r, 2/r, ..., 1 and its exact distribution is known:

    P(D >= h / r) = 2 sum_{j >= 1} (-1)^(j + 1) C(2 r, r - j h) / C(2 r, r)

so that the drift is D >= h / r for a fixed h: 14 / 30 with the defaults. As in river, D must also
be above 0.1.

Source: C. Raab, M. Heusinger, F.-M. Schleif, "Reactive soft prototype computing for concept drift
streams", Neurocomputing 416, 2020, doi:10.1016/j.neucom.2019.11.111. The distribution: B. V.
Gnedenko, V. S. Korolyuk, Doklady Akademii Nauk SSSR 80, 1951.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import validation
from jaxdescent.streaming.detectors.detector import (
    Detection,
    Detector,
    floating,
    increment,
    run_if,
    usable,
)


class KSWINState(NamedTuple):
    """State of `kswin`.

    Attributes:
      window: f[window_size], from the oldest to the newest value, which is last.
      count: i32[], number of values in it.
      distance: f[], D of the last test; 0 at first.
      key: random key of the draws.
      tests: u32[], number of tests.
      drifted: bool[], True if the last value raised the alarm.
      alarms: i32[], number of alarms.
      ignored: i32[], number of values that were not usable.
    """

    window: jax.Array
    count: jax.Array
    distance: jax.Array
    key: jax.Array
    tests: jax.Array
    drifted: jax.Array
    alarms: jax.Array
    ignored: jax.Array


def kswin(
    alpha: float = 0.005,
    *,
    window_size: int = 100,
    sample_size: int = 30,
    key: jax.Array | None = None,
) -> Detector:
    """Returns KSWIN, which detects any change of the distribution, not of the mean alone.

    D and the decision are river's for the same draws. Every value is tested, so that there are
    false alarms: about one in 650 values with the defaults, as for river. After an alarm the
    window begins empty.

    Args:
      alpha: the risk of a false alarm at a test, in (0, 1).
      window_size: number of values in the window.
      sample_size: r, at most half of the window.
      key: random key of the draws; by default `jax.random.key(0)`.

    Returns:
      A `Detector` with a `KSWINState`, which has the `distance` D.

    Raises:
      TypeError: `key` is not a random key.
      ValueError: an argument is out of range, or the sample is too small for such an alpha.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> detector = jd.streaming.kswin(1e-6)
      >>> values = jax.random.normal(jax.random.key(1), (400,)).at[200:].add(3)
      >>> state, found = detector.scan(detector.init(), values)
      >>> jnp.flatnonzero(found.drift).tolist()
      [224]
    """
    alpha = validation.number_between("alpha", alpha, 0, 1)
    size = validation.integer_in("window_size", window_size, 2, 2**20)
    r = validation.integer_in("sample_size", sample_size, 1, size // 2)
    start = validation.random_key("key", jax.random.key(0) if key is None else key)
    least = smallest_distance(alpha, r)

    def init() -> KSWINState:
        def count() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return KSWINState(
            window=jnp.zeros(size),
            count=count(),
            distance=jnp.zeros(()),
            key=jax.random.clone(start),
            tests=jnp.zeros((), jnp.uint32),
            drifted=jnp.zeros((), bool),
            alarms=count(),
            ignored=count(),
        )

    def test(distance: jax.Array, window: jax.Array, key: jax.Array, tests: jax.Array) -> jax.Array:
        drawn = draw(jax.random.fold_in(key, tests), size - r, r)
        found = most_apart(window[:-r][drawn], window[-r:])
        return (found / r).astype(distance.dtype)

    def update(state: KSWINState, value: Any) -> tuple[KSWINState, Detection]:
        x = floating(value, state.window)
        used = usable(x)
        count = jnp.minimum(jnp.where(state.drifted, 0, state.count) + 1, size)
        window = jnp.append(state.window[1:], x)
        tested = used & (count == size)
        distance = run_if(tested, test, state.distance, window, state.key, state.tests)
        drift = tested & (jnp.round(distance * r) >= least)
        new = state._replace(
            window=window,
            count=count,
            distance=distance,
            tests=state.tests + tested.astype(jnp.uint32),
            drifted=drift,
            alarms=increment(state.alarms, drift),
        )
        skipped = state._replace(ignored=increment(state.ignored, 1))
        return optax.tree.where(used, new, skipped), Detection(drift, jnp.zeros_like(drift))

    return Detector(init, jax.jit(update))


def draw(key: jax.Array, number: int, size: int) -> jax.Array:
    """Returns `size` of the integers below `number`, without replacement, i32[size]."""
    return jnp.argsort(jax.random.bits(key, (number,), jnp.uint32))[:size]


def most_apart(sample: jax.Array, other: jax.Array) -> jax.Array:
    """Returns r times the largest distance of two distribution functions, i32[].

    Args:
      sample: f[r].
      other: f[r].
    """
    points = jnp.concatenate([sample, other])[:, None]
    apart = jnp.sum(sample <= points, 1, jnp.int32) - jnp.sum(other <= points, 1, jnp.int32)
    return jnp.max(jnp.abs(apart))


def smallest_distance(alpha: float, r: int) -> int:
    """Returns the least h such that P(D >= h / r) <= alpha and h / r > 0.1.

    Raises:
      ValueError: even h = r has a larger probability, or r is too small for h / r > 0.1.
    """
    for h in range(1, r + 1):
        signed = ((-1) ** (j + 1) * math.comb(2 * r, r - j * h) for j in range(1, r // h + 1))
        if 2 * sum(signed) / math.comb(2 * r, r) <= alpha and 10 * h > r:
            return h
    least = 2 / math.comb(2 * r, r)
    raise ValueError(
        f"alpha must be at least {least:.3g} with sample_size={r}, got {alpha}; use more samples"
    )
