"""Values per second of the drift detectors, beside river's.

    python -m experiments.benchmarks.detectors

64 streams go through each of our detectors at once, in chunks, as one compiled program on one
device. River's detector gets the values of the first stream one by one. Both take turns in one
process; the table has medians over the turns, and of the ratios within a turn. Values per second
of processor time are less disturbed by other processes on the machine.

"stationary" are zeros and ones with equal chances, "drifting" ones with a chance that jumps every
2,000 values, at times of each stream's own. The column "equal" compares the alarms of the first
stream. KSWIN draws other samples than river, so its alarms are counted instead.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from river import drift

import jaxdescent as jd
from experiments.runner.report import table

STREAMS, VALUES, TURNS = 64, 2**15, 7
SEGMENT = 2_000  # values between changes


class Case(NamedTuple):
    """A detector and river's.

    Attributes:
      ours: our detector.
      make_peer: returns a new detector of river.
      values: number of values of a stream for ours.
      peer_values: number of values for river's.
      random: True if the detectors draw.
    """

    ours: jd.streaming.Detector
    make_peer: Callable[[], Any]
    values: int = VALUES
    peer_values: int = VALUES
    random: bool = False


CASES = {
    "adwin": Case(jd.streaming.adwin(), drift.ADWIN),
    "page_hinkley": Case(jd.streaming.page_hinkley(), drift.PageHinkley),
    "ddm": Case(jd.streaming.ddm(), drift.binary.DDM),
    "kswin": Case(
        jd.streaming.kswin(),
        lambda: drift.KSWIN(seed=0),
        values=2**11,
        peer_values=2**9,
        random=True,
    ),
}


def make_streams(kind: str) -> np.ndarray:
    """Draws zeros and ones, f32[streams, values]."""
    random = np.random.default_rng(0)
    chance: Any = 0.5
    if kind == "drifting":
        jumps = random.uniform(size=(STREAMS, VALUES // SEGMENT + 2))
        segment = (np.arange(VALUES) + random.integers(SEGMENT, size=(STREAMS, 1))) // SEGMENT
        chance = np.take_along_axis(jumps, segment, axis=1)
    return (random.random((STREAMS, VALUES)) < chance).astype(np.float32)


def run_ours(detector: jd.streaming.Detector) -> Callable[[jax.Array], jax.Array]:
    """Returns a function of streams to their drifts, bool[streams, values]."""

    @jax.jit
    @jax.vmap
    def run(values: jax.Array) -> jax.Array:
        return detector.scan(detector.init(), values)[1].drift

    return run


def run_peer(detector: Any, values: list[float]) -> list[int]:
    """Returns the indices of river's drifts."""
    found = []
    for i, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected:
            found.append(i)
    return found


def measure(function: Callable[..., Any], *args: Any) -> tuple[Any, float, float]:
    """Returns a result, and the wall and processor seconds that it took."""
    wall, processor = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(function(*args))
    return result, time.perf_counter() - wall, time.process_time() - processor


def compare(name: str, kind: str) -> list[str]:
    """Returns a row of the table."""
    case, streams = CASES[name], make_streams(kind)
    ours, inputs = run_ours(case.ours), jnp.asarray(streams[:, : case.values])
    values = streams[0, : case.peer_values].tolist()
    jax.block_until_ready(ours(inputs))
    speeds: list[list[float]] = []
    found: Any = None
    expected: list[int] = []
    for _ in range(TURNS):
        found, wall, processor = measure(ours, inputs)
        expected, peer_wall, peer_processor = measure(run_peer, case.make_peer(), values)
        speeds.append(
            [
                *(inputs.size / seconds for seconds in (wall, processor)),
                *(len(values) / seconds for seconds in (peer_wall, peer_processor)),
            ]
        )
    ratios = [row[0] / row[2] for row in speeds]
    medians = [statistics.median(column) for column in zip(*speeds, strict=True)]
    first = np.flatnonzero(np.asarray(found)[0]).tolist()
    equal = f"{len(first)}, {len(expected)} alarms" if case.random else str(first == expected)
    return [
        name,
        kind,
        *(f"{speed:.2e}" for speed in medians),
        f"{statistics.median(ratios):.0f} ({min(ratios):.0f} to {max(ratios):.0f})",
        f"{int(jnp.sum(found))}",
        equal,
    ]


def main() -> None:
    """Prints the table."""
    rows = [compare(name, kind) for name in CASES for kind in ("stationary", "drifting")]
    head = ("detector", "streams", "values/s", "per CPU s", "river's", "per CPU s", "ratio")
    print(table((*head, "alarms", "equal"), rows))
    print(f"Medians of {TURNS} turns; ratio of values/s (least to most); {STREAMS} streams.")


if __name__ == "__main__":
    main()
