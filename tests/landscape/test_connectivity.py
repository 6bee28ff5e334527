"""Barriers match their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescent as jd
from tests.landscape import networks


def wells(w, tilt):
    """Two wells at -1 and 1, of different depths if `tilt` is not zero."""
    return jnp.mean((w**2 - 1) ** 2 + tilt * w)


def test_the_barrier_is_above_the_line_and_the_instability_above_the_mean():
    tilt, a = 0.5, np.linspace(0, 1, 201)
    w = 2 * a - 1
    loss = (w**2 - 1) ** 2 + tilt * w
    found = jd.landscape.connectivity(wells, -jnp.ones(4), jnp.ones(4), tilt, x=a)
    np.testing.assert_allclose(found.values, loss, atol=1e-6)
    np.testing.assert_allclose(found.ends, [-0.5, 0.5], atol=1e-6)
    assert float(found.barrier) == pytest.approx(1, abs=1e-6)  # at 0, for any tilt
    assert float(found.instability) == pytest.approx(loss.max(), abs=1e-6)
    assert float(found.instability) > 1.02
    assert found.metrics is None
    assert found.metric_barrier is None


def test_a_monotone_loss_has_barrier_zero_and_instability_half_of_its_decrease():
    def bowl(w, _):
        return jnp.sum(w**2)

    found = jd.landscape.connectivity(bowl, jnp.zeros(1), jnp.full(1, 2.0))
    assert float(found.barrier) == 0
    assert float(found.instability) == 2


def test_points_beyond_the_ends_are_evaluated_but_do_not_count():
    found = jd.landscape.connectivity(wells, -jnp.ones(2), jnp.ones(2), 0.0, x=[-1.0, 0.25, 2.0])
    assert found.values[0] == found.values[2] == 64
    assert float(found.barrier) == pytest.approx((0.25 - 1) ** 2)


def test_the_end_losses_equal_direct_evaluation_to_the_bit():
    first, second, batch = networks.params(0), networks.params(1), networks.batch()
    found = jd.landscape.connectivity(networks.loss, first, second, batch, x=[0.0, 1.0])
    path = [
        jd.landscape.path_losses(networks.loss, _stack(each), batch)[0] for each in (first, second)
    ]
    np.testing.assert_array_equal(found.values, path)
    np.testing.assert_array_equal(found.ends, path)


def _stack(params):
    return [{name: leaf[None] for name, leaf in layer.items()} for layer in params]


def test_a_network_and_its_permuted_copy_compute_the_same_and_have_a_barrier():
    params, batch = networks.params(), networks.batch()
    order = np.roll(np.arange(8), 3)
    copy = [
        {"kernel": params[0]["kernel"][:, order], "bias": params[0]["bias"][order]},
        {**params[1], "kernel": params[1]["kernel"][order]},
        params[2],
    ]
    found = jd.landscape.connectivity(networks.loss, params, copy, batch)
    assert float(found.ends[0]) == pytest.approx(float(found.ends[1]), rel=1e-5)
    assert float(jnp.max(jnp.abs(found.values - found.ends[0]))) > 0.01


def test_the_barrier_of_a_metric_is_its_largest_loss():
    def accuracy(w, _):
        return 100 * jnp.mean(w**2)

    found = jd.landscape.connectivity(
        wells, -jnp.ones(2), jnp.full(2, 0.5), 0.0, metric_fn=accuracy, x=np.linspace(0, 1, 101)
    )
    w = np.linspace(-1, 0.5, 101)
    straight = 100 + np.linspace(0, 1, 101) * (25 - 100)
    np.testing.assert_allclose(found.metrics, 100 * w**2, atol=1e-4)
    assert float(found.metric_barrier) == pytest.approx(np.max(straight - 100 * w**2), abs=1e-4)


def test_a_nan_loss_gives_a_nan_barrier():
    def hole(w, _):
        return jnp.where(jnp.abs(w[0]) < 0.5, jnp.nan, w[0] ** 2)

    found = jd.landscape.connectivity(hole, -jnp.ones(1), jnp.ones(1), x=[0.0, 0.5, 1.0])
    assert np.isnan(found.barrier)
    assert int(found.not_finite) == 1


@pytest.mark.parametrize(
    ("second", "options", "words"),
    [
        (np.ones(3), {}, "second must differ from first"),
        (np.zeros(1), {}, r"second must have the shapes of first, got \(1,\) for \(3,\)"),
        (np.zeros(3, int), {}, "second must have real floating-point leaves"),
        (np.zeros(3), {"x": [np.inf]}, "x must be finite"),
        (np.zeros(3), {"metric_fn": lambda w, _: w}, "metric_fn must return a real scalar"),
        (np.zeros(3), {"memory": -1}, "memory must be an integer at least 1"),
    ],
)
def test_bad_arguments_are_named(second, options, words):
    with pytest.raises(ValueError, match=words):
        jd.landscape.connectivity(wells, np.ones(3), second, 0.0, **options)


def test_bfloat16_losses_are_interpolated_in_float32():
    first, second = jnp.zeros(3), jnp.full(3, 100.0)

    def narrow(w, _):
        return jnp.sum(w).astype(jnp.bfloat16)

    found = jd.landscape.connectivity(narrow, first, second, x=np.array([0.25, 0.5]))
    assert found.x.dtype == jnp.float32
    assert found.barrier == 0  # 75 and 150 are exact, and so is the line between 0 and 300


def test_a_non_finite_end_does_not_change_the_other_end():
    second = jnp.array([1.0, jnp.nan, 1.0])
    found = jd.landscape.connectivity(lambda w, _: jnp.sum(w), jnp.ones(3), second)
    assert found.ends[0] == 3
    assert np.isnan(found.ends[1])
