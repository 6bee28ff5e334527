"""The Page-Hinkley test has river's alarms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from river import drift

from jaxdescent.streaming import page_hinkley
from tests.streaming.detectors.streams import alarms, documented, drawn, river_alarms

STREAMS = np.stack([drawn(seed) for seed in range(30)])


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    ("threshold", "alpha", "direction"),
    [(50.0, 0.9999, "both"), (8.0, 1.0, "up"), (8.0, 0.9, "down")],
)
def test_the_alarms_are_rivers_on_drawn_streams(threshold, alpha, direction, x64):
    options = {"delta": 0.005, "threshold": threshold, "alpha": alpha}
    with jax.enable_x64(x64):
        ours = page_hinkley(direction=direction, **options)
        scan = jax.jit(jax.vmap(lambda values: ours.scan(ours.init(), values)))
        _, found = scan(jnp.asarray(STREAMS))
    expected = [
        river_alarms(drift.PageHinkley(mode=direction, **options), values)[0] for values in STREAMS
    ]
    assert [np.flatnonzero(row).tolist() for row in found.drift] == expected
    assert sum(map(len, expected)) > 10


def test_rivers_documented_stream_has_its_first_alarm_at_1006():
    ours = page_hinkley()
    _, found = ours.scan(ours.init(), documented())
    assert alarms(found)[0][0] == 1006


def test_the_least_number_of_values_includes_the_present_one():
    ours = page_hinkley(min_count=5, threshold=0.5)
    values = np.array([0, 0, 1, 1, 1, 1, 1], np.float32)
    _, found = ours.scan(ours.init(), values)
    peer = drift.PageHinkley(min_instances=5, threshold=0.5)
    assert alarms(found)[0] == river_alarms(peer, values)[0] == [4]
