"""ADWIN: a window of past values that is cut where the means of its two parts differ.

    |mean_0 - mean_1| > sqrt(2 m s^2 d) + 2/3 m d        the older and the newer part differ
    m = 1 / (n_0 - l + 1) + 1 / (n_1 - l + 1)            l = min_window_length
    d = log(2 log(n) / delta)                            n = n_0 + n_1, the width of the window
    s^2 = V / n                                          V = sum of squared deviations in it

The window is stored as buckets of 1, 2, 4, ... values, at most M = `max_buckets` of each size:
their sums u and their sums of squared deviations v. If there is one more of a size, its two oldest
are merged into a bucket of n values:

    u = u_1 + u_2,     v = v_1 + v_2 + (u_1 - u_2)^2 / n

Every `clock` values, all boundaries between buckets are tested. If one of them cuts, there is an
alarm: the oldest bucket is dropped and the test is repeated, until no boundary cuts. The window
that remains is described by `AdwinState`, and computed when it is read: the next value begins a new
window in any case.

V is computed from the buckets at each test, as the sum of v + (u - size * c)^2 / size, where c is
close to the mean; nothing large cancels. The sums u have twice the precision, because the window is
long and a difference of means is small.

Values are inserted in blocks: of `clock` values, if it is a power of 2. Which buckets merge depends
on the number of values alone. Until now ceil((k + M) / 2^i) - M buckets of size 2^i have been made,
if this is positive, where k is the number of values. So the places of buckets smaller than a block
are the same after each block, and each larger size gets one bucket at most.

Source: A. Bifet, R. Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007,
doi:10.1137/1.9781611972771.42. The constants, and the boundaries that are tested, are river's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.streaming.detectors import compensated
from jaxdescent.streaming.detectors.compensated import Pair
from jaxdescent.streaming.detectors.detector import (
    Detection,
    Detector,
    floating,
    increment,
    number_between,
    run_if,
    usable,
)


class Buckets(NamedTuple):
    """Sums over buckets; the newest bucket of a size comes first.

    Attributes:
      total: sums of the values, a pair of arrays.
      deviation: sums of squared deviations.
    """

    total: Pair
    deviation: jax.Array


class AdwinState(NamedTuple):
    """State of `adwin`.

    Attributes:
      small: buckets of fewer values than a block, f[...], from the newest to the oldest.
      large: the other buckets, f[max_buckets, sizes].
      inserted: i32[], number of values of the window that are in buckets.
      recent: f[block], values that are not in a bucket yet, in its first `waiting` entries.
      waiting: i32[], number of these values.
      drifted: bool[], True if the last value raised the alarm, and the next one begins a window.
      alarms: i32[], number of alarms.
      ignored: i32[], number of values that were not usable.
      delta: f[], as in `adwin`.
      min_window_length: i32[], as in `adwin`.
    """

    small: Buckets
    large: Buckets
    inserted: jax.Array
    recent: jax.Array
    waiting: jax.Array
    drifted: jax.Array
    alarms: jax.Array
    ignored: jax.Array
    delta: jax.Array
    min_window_length: jax.Array

    @property
    def width(self) -> jax.Array:
        """Number of values in the window, i32[...]."""
        return self._of_each(_estimates)[0]

    @property
    def mean(self) -> jax.Array:
        """Mean of the window, f[...]; 0 if it is empty."""
        return self._of_each(_estimates)[1]

    @property
    def variance(self) -> jax.Array:
        """Mean squared deviation in the window, f[...]; 0 if it is empty."""
        return self._of_each(_estimates)[2]

    def _of_each(self, function: Callable[..., Any]) -> Any:
        """Applies a function to the state of each stream."""
        for _ in range(self.waiting.ndim):
            function = jax.vmap(function)
        return function(self)


def adwin(
    delta: float = 0.002,
    *,
    clock: int = 32,
    max_buckets: int = 5,
    min_window_length: int = 5,
    grace_period: int = 10,
    max_width: int = 2**24,
) -> Detector:
    """Returns ADWIN, which keeps the longest window whose parts have the same mean.

    Its alarms and the widths of its windows are river's. The size of its state is fixed.

    Args:
      delta: the risk of a false alarm at a test, in (0, 1).
      clock: number of values between tests; fastest if it is a power of 2.
      max_buckets: largest number of buckets of a size.
      min_window_length: least number of values in a part of the window.
      grace_period: number of values that the window must exceed for a test.
      max_width: number of values, in [4 * clock, 2**29], up to which the window can grow. Beyond
        it, or before twice as many, the window loses its oldest values.

    Returns:
      A `Detector` with an `AdwinState`, which has `width`, `mean` and `variance` of the window.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> detector = jd.streaming.adwin()
      >>> values = jnp.concatenate([jnp.zeros(500), jnp.ones(100)])
      >>> state, found = jax.jit(detector.scan)(detector.init(), values)
      >>> jnp.flatnonzero(found.drift).tolist()
      [511]
    """
    delta = number_between("delta", delta, 0, 1)
    clock = validation.integer_in("clock", clock, 1, 2**20)
    slots = validation.integer_in("max_buckets", max_buckets, 2, 1000)
    shortest = validation.integer_in("min_window_length", min_window_length, 1, 2**20)
    grace_period = validation.integer_in("grace_period", grace_period, 0, 2**29)
    max_width = validation.integer_in("max_width", max_width, 4 * clock, 2**29)
    block = clock & -clock  # the largest power of 2 that divides it
    kept = _places(block, slots)
    sizes = 1
    while block * slots * (2**sizes - 1) < max_width:
        sizes += 1

    def init() -> AdwinState:
        def zeros(*shape: int) -> Buckets:
            return Buckets(Pair(jnp.zeros(shape), jnp.zeros(shape)), jnp.zeros(shape))

        def count(value: int = 0) -> jax.Array:
            return jnp.full((), value, jnp.int32)

        return AdwinState(
            small=zeros(sum(kept)),
            large=zeros(slots, sizes),
            inserted=count(),
            recent=jnp.zeros(block),
            waiting=count(),
            drifted=jnp.zeros((), bool),
            alarms=count(),
            ignored=count(),
            delta=jnp.asarray(delta, jnp.zeros(()).dtype),
            min_window_length=count(shortest),
        )

    def insert(values: jax.Array, state: AdwinState) -> AdwinState:
        """Returns the state after a block of values, f[block]."""
        state = _insert(values, state, kept)

        def test(state: AdwinState) -> AdwinState:
            width = _width(state)
            drifted = (width > grace_period) & _any_cut(state, width)
            return state._replace(drifted=drifted, alarms=increment(state.alarms, drifted))

        if block == clock:
            return test(state)
        return run_if(state.inserted % clock == 0, test, state)

    def update(state: AdwinState, value: Any) -> tuple[AdwinState, Detection]:
        x = floating(value, state.recent)
        used = usable(x)
        place = jnp.arange(block)
        recent = jnp.where(place < state.waiting, state.recent, 0)
        recent = jnp.where((place == state.waiting) & used, x, recent)
        complete = used & (state.waiting == block - 1)
        begins = used & state.drifted
        new = state._replace(
            inserted=jnp.where(begins, 0, state.inserted),
            recent=jnp.where(complete, 0, recent),
            waiting=jnp.where(complete, 0, state.waiting + used),
            drifted=state.drifted & ~begins,
            ignored=increment(state.ignored, ~used),
        )
        new = run_if(complete, lambda state, x: insert(x, state), new, recent)
        drift = complete & new.drifted
        return new, Detection(drift, jnp.zeros_like(drift))

    def scan_values(state: AdwinState, values: Any) -> tuple[AdwinState, Detection]:
        x = floating(values, state.recent, axes=1)
        used = usable(x)
        number = x.shape[0]
        most = -(-number // block)  # blocks
        already, available = state.waiting, state.waiting + jnp.sum(used, dtype=jnp.int32)
        # A queue of the values that wait and the usable ones, and the place of each value in it.
        irregular = (already > 0) | ~jnp.all(used)
        length = (most + 1) * block

        def enqueue(_: Any, x: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
            place = already - 1 + jnp.cumsum(used, dtype=jnp.int32)
            packed = x[jnp.argsort(~used, stable=True)]
            at = jnp.arange(length)
            queue = packed[jnp.clip(at - already, 0, number - 1)]
            first = jnp.where(jnp.arange(block) < already, state.recent, queue[:block])
            return jnp.concatenate([first, queue[block:]]), place

        direct = jnp.pad(x, (0, length - number)), jnp.arange(number, dtype=jnp.int32)
        queue, place = run_if(irregular, enqueue, direct, x, used)
        complete = available // block
        waiting = available - complete * block
        recent = jax.lax.dynamic_slice(queue, (complete * block,), (block,))

        def step(carry: AdwinState, each: Any) -> tuple[AdwinState, jax.Array]:
            values, number = each
            filled = number < complete
            carry = run_if(filled, lambda carry, x: insert(x, _renewed(carry)), carry, values)
            return carry, filled & carry.drifted

        blocks = queue[: most * block].reshape(most, block)
        inserted, alarms = jax.lax.scan(step, state, (blocks, jnp.arange(most)))
        state = inserted._replace(
            recent=jnp.where(jnp.arange(block) < waiting, recent, 0),
            waiting=waiting,
            ignored=increment(state.ignored, jnp.sum(~used, dtype=jnp.int32)),
        )
        begins = state.drifted & (waiting > 0)
        state = jax.tree.map(lambda new, old: jnp.where(begins, new, old), _renewed(state), state)
        # The alarm of a block belongs to its last value.
        last = jnp.arange(block) == block - 1
        at_last = jnp.pad((alarms[:, None] & last).reshape(-1), (0, block))
        drift = run_if(
            irregular, lambda _, flags, place: used & flags[place], at_last[:number], at_last, place
        )
        return state, Detection(drift, jnp.zeros_like(drift))

    return Detector(init, jax.jit(update), jax.jit(scan_values))


def _renewed(state: AdwinState) -> AdwinState:
    """Returns the state with an empty window, if there was an alarm."""
    return state._replace(
        inserted=jnp.where(state.drifted, 0, state.inserted),
        drifted=jnp.zeros_like(state.drifted),
    )


def _places(block: int, slots: int) -> tuple[int, ...]:
    """Returns the numbers of buckets of 1, 2, 4, ..., block / 2 values, after each block."""
    made = block * 2 * slots
    places = []
    for _ in range(block.bit_length() - 1):
        merged = -((slots - made) // 2)
        places.append(made - 2 * merged)
        made = merged
    return tuple(places)


def _made(inserted: jax.Array, block: int, small: int, slots: int, sizes: int) -> jax.Array:
    """Returns how many large buckets of each size have been made until now, i32[sizes]."""
    blocks = jnp.maximum(inserted - small, 0) // block
    halvings = jnp.arange(sizes, dtype=jnp.int32)
    ceiling = -jnp.right_shift(-(blocks + slots), halvings)
    return jnp.maximum(ceiling - slots, 0)


def _insert(values: jax.Array, state: AdwinState, places: tuple[int, ...]) -> AdwinState:
    """Inserts a block of values, and merges buckets.

    Of the small buckets of a size, the newest ones keep their places, and the others are merged in
    pairs. Places that no value has reached hold arbitrary finite numbers.
    """
    zeros = jnp.zeros_like(values)
    arriving, rows, first, size = Buckets(Pair(values[::-1], zeros), zeros), [], 0, 1
    for count in places:
        row = jax.tree.map(lambda x, i=first, j=first + count: x[i:j], state.small)
        joined = jax.tree.map(lambda *x: jnp.concatenate(x), arriving, row)
        rows.append(jax.tree.map(lambda x, n=count: x[:n], joined))
        newer = jax.tree.map(lambda x, n=count: x[n::2], joined)
        older = jax.tree.map(lambda x, n=count: x[n + 1 :: 2], joined)
        arriving = jax.lax.optimization_barrier(_merge(older, newer, size))
        first, size = first + count, 2 * size
    small = jax.tree.map(lambda *x: jnp.concatenate(x), *rows) if rows else state.small

    slots, sizes = state.large.deviation.shape
    layout = len(values), _small_values(places), slots, sizes
    inserted = state.inserted + len(values)
    made = _made(inserted, *layout)
    arrives = made > _made(state.inserted, *layout)
    newer, older = (jax.tree.map(lambda x, i=i: x[i, :-1], state.large) for i in (-2, -1))
    merged = _merge(older, newer, _large_sizes(len(values), sizes)[:-1].astype(values.dtype))
    new = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), arriving, merged)
    large = jax.tree.map(
        lambda x, new: jnp.where(arrives, jnp.concatenate([new[None], x[:-1]]), x), state.large, new
    )
    # A window that is too long has lost the oldest of the largest buckets: count them again.
    largest = len(values) * 2 ** (sizes - 1)
    inserted = inserted - jnp.where(made[-1] > slots + 1, largest, 0)
    return state._replace(small=small, large=large, inserted=inserted.astype(jnp.int32))


def _merge(older: Buckets, newer: Buckets, size: Any) -> Buckets:
    """Merges buckets of `size` values each, in pairs."""
    difference = (older.total.high - newer.total.high) + (older.total.low - newer.total.low)
    deviation = older.deviation + newer.deviation + difference * (difference / (2 * size))
    return Buckets(compensated.add(older.total, newer.total), deviation)


def _small_values(places: tuple[int, ...]) -> int:
    return sum(count * 2**i for i, count in enumerate(places))


def _large_sizes(block: int, sizes: int) -> jax.Array:
    """Returns the number of values in a large bucket of each size, i32[sizes]."""
    return block * jnp.left_shift(1, jnp.arange(sizes, dtype=jnp.int32))


class Part(NamedTuple):
    """The small or the large buckets of a window.

    Attributes:
      size: number of values in each bucket, i32.
      newer: number of values in newer buckets, i32.
      exists: True if the place has a bucket in the window.
      total: sums relative to a number close to the mean, f.
      squares: sums of squares relative to it, f.
    """

    size: jax.Array
    newer: jax.Array
    exists: jax.Array
    total: jax.Array
    squares: jax.Array


def _layout(state: AdwinState, width: jax.Array) -> list[tuple[jax.Array, ...]]:
    """Returns sizes, numbers of newer values and existence of small and of large buckets.

    Args:
      state: the state, of which only the number of values is used.
      width: i32[], number of the newest values that are looked at.
    """
    slots, sizes = state.large.deviation.shape
    places = _places(state.recent.shape[0], slots)
    size = np.repeat(2 ** np.arange(len(places)), places)
    reach = np.cumsum(size)
    small = (
        jnp.asarray(size, jnp.int32),
        jnp.asarray(reach - size, jnp.int32),
        jnp.asarray(reach, jnp.int32) <= width,
    )

    block, below = state.recent.shape[0], _small_values(places)
    made = _made(state.inserted, block, below, slots, sizes)
    counts = made - 2 * jnp.append(made[1:], 0)
    size = _large_sizes(block, sizes)
    slot = jnp.arange(slots, dtype=jnp.int32)[:, None]
    newer = below + made[0] * block - made * size + slot * size
    exists = (slot < counts) & (newer + size <= width)
    return [small, (jnp.broadcast_to(size, newer.shape), newer, exists)]


def _width(state: AdwinState) -> jax.Array:
    """Returns the number of values in buckets; the oldest may have been lost."""
    slots, sizes = state.large.deviation.shape
    block = state.recent.shape[0]
    below = _small_values(_places(block, slots))
    last = _made(state.inserted, block, below, slots, sizes)[-1]
    return state.inserted - jnp.maximum(last - slots, 0) * (block * 2 ** (sizes - 1))


def _parts(state: AdwinState, width: jax.Array) -> tuple[jax.Array, Part, Part]:
    """Returns a number close to the mean of the newest values, and their buckets."""
    layouts = _layout(state, width)
    buckets = state.small, state.large
    n = jnp.maximum(width, 1).astype(state.recent.dtype)
    sums = [
        jnp.sum(jnp.where(exists, part.total.high, 0))
        for part, (_, _, exists) in zip(buckets, layouts, strict=True)
    ]
    center = (sums[0] + sums[1]) / n

    def relative(part: Buckets, size: jax.Array, newer: jax.Array, exists: jax.Array) -> Part:
        # The product is exact: the size is a power of 2.
        sizes = size.astype(center.dtype)
        total = jnp.where(exists, (part.total.high - sizes * center) + part.total.low, 0)
        squares = jnp.where(exists, part.deviation + total * (total / sizes), 0)
        return Part(size, newer, exists, total, squares)

    small, large = (relative(b, *layout) for b, layout in zip(buckets, layouts, strict=True))
    return center, small, large


def _any_cut(state: AdwinState, width: jax.Array) -> jax.Array:
    """True if, of the newest values, the parts before and after a boundary differ."""
    _, small, large = _parts(state, width)
    dtype = small.total.dtype
    n, shortest = width.astype(dtype), state.min_window_length
    sum_small, total = jnp.sum(small.total), jnp.sum(small.total) + jnp.sum(large.total)
    squares = jnp.sum(small.squares) + jnp.sum(large.squares)
    variance = jnp.maximum(squares - total * (total / n), 0) / n
    d = jnp.log(2 * jnp.log(n) / state.delta)

    def cuts(part: Part, sum_1: jax.Array) -> jax.Array:
        n_1 = part.newer
        n_0 = width - n_1
        tested = part.exists & (n_0 >= shortest) & (n_1 >= shortest)
        m = 1 / (n_0 - shortest + 1).astype(dtype) + 1 / (n_1 - shortest + 1).astype(dtype)
        limit = jnp.sqrt(2 * m * variance * d) + 2 / 3 * m * d
        difference = (total - sum_1) / n_0.astype(dtype) - sum_1 / n_1.astype(dtype)
        return jnp.any(tested & (jnp.abs(difference) > limit))

    in_size, sums = jnp.zeros_like(large.total[0]), []
    for each in large.total:
        sums.append(in_size)
        in_size = in_size + each
    before = sum_small + _sums_before(in_size)
    return cuts(small, _sums_before(small.total)) | cuts(large, before + jnp.stack(sums))


def _sums_before(x: jax.Array) -> jax.Array:
    """Returns the sums of all earlier entries."""
    return jnp.pad(jnp.cumsum(x), (1, 0))[:-1]


@jax.jit  # which compiles once, also outside of a compiled program
def _estimates(state: AdwinState) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns width, mean and variance of the window, as a test has left it."""

    def drop(carry: Any) -> Any:
        width = carry[1]
        oldest = [
            jnp.max(jnp.where(exists & (newer + size == width), size, 0), initial=0)
            for size, newer, exists in _layout(state, width)
        ]
        width = width - jnp.maximum(*oldest)
        return _any_cut(state, width), width

    start = state.drifted, _width(state)
    width = jax.lax.while_loop(lambda carry: carry[0], drop, start)[1]
    center, small, large = _parts(state, width)
    n = jnp.maximum(width + state.waiting, 1).astype(center.dtype)
    recent = jnp.where(jnp.arange(state.recent.shape[0]) < state.waiting, state.recent - center, 0)
    shift = (jnp.sum(small.total) + jnp.sum(large.total) + jnp.sum(recent)) / n
    squares = jnp.sum(small.squares) + jnp.sum(large.squares) + jnp.sum(recent**2)
    variance = jnp.maximum(squares / n - shift**2, 0)
    return width + state.waiting, center + shift, variance
