"""The clipping study runs from end to end, and its theory is worked out by another way."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.__main__ import main
from experiments.studies import clipping
from experiments.studies.clipping import Noise

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["clipping", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "clipping").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_noise_has_every_method_and_the_picture_is_a_png(folder):
    rows = description(folder)["table"]["rows"]
    names = [*clipping.clips(1.5)]
    assert [tuple(row[:2]) for row in rows] == [
        (noise.name, name) for noise in clipping.NOISES for name in names
    ]
    assert (folder / "clipping.png").read_bytes().startswith(b"\x89PNG")


def test_clipping_wins_under_heavy_tails_and_a_constant_loses_under_skewed_ones(folder):
    results = description(folder)["results"]
    heavy, skewed = results["symmetric p = 1"], results["skewed p = 1.5"]
    assert heavy["clip"]["median"][-1] < 0.1 * heavy["none"]["median"][-1]
    assert heavy["clip"]["exponent"][0] < -0.7
    assert skewed["clip"]["median"][-1] > skewed["none"]["median"][-1]
    assert skewed["clip"]["exponent"][0] > -0.2
    for each in results["cosh"][1:]:
        assert each["clipped"] < each["constant"]


@pytest.mark.parametrize("noise", [Noise(1.2), Noise(1.8), Noise(1.5, skewed=True)])
def test_noise_has_its_tail_and_its_middle(noise):
    with jax.enable_x64(True):
        drawn = np.asarray(noise.draw(jax.random.key(0), (400_000,)))
    shift = 1 / (noise.p - 1) if noise.skewed else 0
    sizes = 1 + np.abs(drawn + shift)
    for s in (2.0, 10.0, 100.0):
        count = np.mean(sizes > s)
        assert count == pytest.approx(s**-noise.p, abs=5 * np.sqrt(s**-noise.p / 400_000))
    if not noise.skewed:
        assert np.mean(drawn > 0) == pytest.approx(0.5, abs=0.005)


def test_the_predicted_loss_is_that_of_the_recursion():
    """The average's coefficients by pushing each unit of noise through the steps themselves."""
    p, T = 1.5, 400
    x, average = np.zeros((2, T))  # a unit of noise at step s, for all s at once
    for t in range(T):
        average = average + 2 / (t + 2) * (x - average)
        x = x - 4 / (t + 2) * (x + np.eye(T)[t])
    uniform = np.random.default_rng(0).uniform(size=200_000)
    sizes = uniform ** (-1 / p) - 1
    ends = np.arange(1, T + 1) ** (1 / p)
    variance = [np.mean(np.minimum(sizes, end) ** 2) for end in ends[::20]]
    variance = np.interp(ends, ends[::20], variance)
    exact = clipping.DIMENSIONS / 2 * np.sum(average**2 * variance)
    assert clipping.growing_clip(p, np.array([T]))[0] == pytest.approx(exact, rel=0.03)


def test_predicted_exponents_tend_to_the_limit_of_theory():
    far = np.array([10**6, 2 * 10**6])
    noise = Noise(1.3)
    theory = clipping.expected(noise, "norm at t^(1/p)", far)
    assert theory.mean == pytest.approx(-2 * 0.3 / 1.3)
    assert theory.here == pytest.approx(theory.mean, abs=0.02)
    assert clipping.expected(noise, "none", far).mean == np.inf


def test_the_biased_minimum_is_where_the_clipped_gradient_vanishes():
    assert clipping.biased_minimum(Noise(1.5), 3.0) == pytest.approx(0, abs=1e-6)
    noise = Noise(1.5, skewed=True)
    bias = clipping.biased_minimum(noise, 3.0)
    with jax.enable_x64(True):
        drawn = np.asarray(noise.draw(jax.random.key(1), (1_000_000,)))
    assert np.mean(np.clip(bias + drawn, -3, 3)) == pytest.approx(0, abs=0.01)
    assert bias > 0.5


def test_an_exponent_is_found_with_an_interval_around_it():
    grid = 2 ** np.arange(4, 10)
    rng = np.random.default_rng(0)
    found = 3 * grid[:, None] ** -0.7 * rng.exponential(size=(6, 500))
    fit = clipping.fitted(found, grid, np.mean)
    assert fit.low < -0.7 < fit.high
    assert fit.low < fit.exponent < fit.high
    assert clipping.slope(grid, 3.0 * grid**-0.7) == pytest.approx(-0.7)


def test_all_methods_see_the_same_noise_and_one_vector_is_one_block():
    with jax.enable_x64(True):
        found = np.asarray(clipping.losses(jax.random.key(0), 1.5, False, (2, 5), 3))
    names = [*clipping.clips(1.5)]
    assert found.shape == (len(names), 2, 3)
    norm, rms = (found[names.index(name)] for name in ("clip_by_global_norm", "clip_by_block_rms"))
    np.testing.assert_allclose(norm, rms, rtol=1e-12)
    assert len(np.unique(found[:, -1, 0].round(12))) >= 4


def test_descent_on_cosh_takes_as_many_steps_as_by_hand():
    x, steps = 4.0, 0
    while abs(np.sinh(x)) > clipping.GRADIENT:
        x, steps = x - np.clip(np.sinh(x), -1, 1), steps + 1
    clipped = lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate))
    assert int(clipping._steps(clipped, jnp.array([4.0]), jnp.ones(1))[0, 0]) == steps
