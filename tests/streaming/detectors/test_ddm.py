"""DDM has river's warnings and drifts, and a floor under its spread."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from river.drift import binary

from jaxdescent.streaming import ddm
from tests.streaming.detectors.streams import alarms, drawn, river_alarms

STREAMS = np.stack([drawn(seed) for seed in range(0, 150, 3)])  # Bernoulli


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"warning_threshold": 1.0, "drift_threshold": 2.0}],
    ids=str,
)
def test_warnings_and_drifts_are_rivers_on_drawn_streams(options, x64):
    with jax.enable_x64(x64):
        ours = ddm(**options)
        scan = jax.jit(jax.vmap(lambda values: ours.scan(ours.init(), values)))
        _, found = scan(jnp.asarray(STREAMS))
    expected = [river_alarms(binary.DDM(**options), values) for values in STREAMS]
    assert [np.flatnonzero(row).tolist() for row in found.drift] == [
        drifts for drifts, _ in expected
    ]
    assert np.sum(found.drift) > 40
    warned = np.zeros(STREAMS.shape, bool)
    for row, (_, warnings) in zip(warned, expected, strict=True):
        row[warnings] = True
    # One threshold is exceeded by 5e-10 of a rate, which float32 cannot tell.
    assert np.sum(warned != found.warning) <= (0 if x64 else 1)


def test_the_stream_that_river_documents():
    rng = random.Random(42)  # noqa: S311  river's stream
    values = rng.choices([0, 1], k=1000) + rng.choices([0, 1], k=1000, weights=[0.3, 0.7])
    ours = ddm()
    drifts, warnings = alarms(ours.scan(ours.init(), np.array(values, np.float32))[1])
    assert (drifts, warnings[0], next(i for i in warnings if i > 1334)) == ([1334], 1084, 1492)


def test_an_error_after_none_is_a_drift_unless_the_spread_has_a_floor():
    values = np.zeros(200, np.float32)
    values[100] = 1
    for min_spread, expected in ((0.0, [100]), (0.01, [])):
        ours = ddm(min_spread=min_spread)
        assert alarms(ours.scan(ours.init(), values)[1])[0] == expected
    assert river_alarms(binary.DDM(), values)[0] == [100]


def test_the_floor_is_the_unit_of_the_thresholds():
    """After 99 zeros, k ones give p + s > 3 min_spread at the k that is found."""
    values, floor = np.repeat([0.0, 1.0], [99, 40]).astype(np.float32), 0.05
    ours = ddm(min_spread=floor)
    found = ours.scan(ours.init(), values)[1]
    k = np.arange(1, 41)
    rate = k / (99 + k)
    height = rate + np.sqrt(rate * (1 - rate) / (99 + k))
    drifts, warnings = alarms(found)
    assert drifts[0] == 98 + k[np.argmax(height > 3 * floor)]
    assert warnings[0] == 98 + k[np.argmax(height > 2 * floor)]
