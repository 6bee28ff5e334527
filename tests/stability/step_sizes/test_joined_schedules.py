"""OBS-F and anytime steps: published values, exact worst cases, random functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdescent as jd
from experiments.studies.step_sizes import worst_cases
from jaxdescent.stability.step_sizes.joined_schedules import _best_steps
from tests.stability.step_sizes.test_silver_schedules import needs_pep, silver_of, steps_of


@pytest.fixture(scope="module")
def optimal():
    """Returns the steps of OBS-F for each horizon up to 31."""
    return {n: _best_steps(n) for n in range(1, 32)}


@pytest.fixture(scope="module")
def anytime():
    with jax.enable_x64(True):
        return steps_of(jd.step_sizes.anytime(1.0), 4096)


def guarantee(steps):
    return 1 / (2 + 4 * np.sum(steps))


@pytest.mark.parametrize(("n", "gap"), [(1, 0.125), (2, 0.065946), (10, 0.0106223)])
def test_obs_f_has_the_published_gaps(optimal, n, gap):
    assert guarantee(optimal[n]) == pytest.approx(gap, rel=1e-5)


def test_obs_f_has_the_published_constant(x64):
    steps = steps_of(jd.step_sizes.obs_f(1.0, 1023), 1023)
    gap = guarantee(steps)
    assert gap == pytest.approx(3.147e-5, rel=1e-4)
    assert gap * 1023 ** np.log2(1 + np.sqrt(2)) == pytest.approx(0.2114, abs=2e-4)


def test_a_huber_function_attains_the_guarantee_of_obs_f(optimal):
    for steps in optimal.values():
        assert worst_cases.gap_lower_bound(steps) == pytest.approx(guarantee(steps), abs=1e-9)


@needs_pep
@pytest.mark.parametrize("n", [1, 2, 6, 15])
def test_the_guarantee_of_obs_f_is_the_exact_worst_case(optimal, n):
    assert worst_cases.gap(optimal[n]) == pytest.approx(guarantee(optimal[n]), abs=1e-6)


def test_obs_f_is_better_than_silver_and_improves_with_the_horizon(optimal):
    gaps = [guarantee(steps) for steps in optimal.values()]
    assert np.all(np.diff(gaps) < 0)
    for n in (1, 3, 7, 15, 31):
        assert guarantee(optimal[n]) < guarantee(silver_of(n))


def test_steps_after_the_horizon_are_short():
    steps = steps_of(jd.step_sizes.obs_f(2.0, 3), 6)
    np.testing.assert_allclose(2 * steps, [*_best_steps(3), 1, 1, 1], rtol=1e-6)
    assert jd.step_sizes.obs_f(2.0, 3)(jnp.array(2**31 - 1)) == 0.5


def smooth_convex(draw):
    """Draws a function of x > 0 with curvatures in [0, 1]; returns its value and slope."""
    points = draw(st.lists(st.floats(0.02, 2.0), min_size=1, max_size=5, unique=True))
    slopes = draw(st.lists(st.floats(0, 1), min_size=len(points) + 1, max_size=len(points) + 1))
    edges = np.concatenate([[0], np.sort(points), [1e9]])
    heights = np.concatenate([[0], np.cumsum(np.diff(edges) * slopes)])
    areas = np.concatenate([[0], np.cumsum(np.diff(edges) * (heights[1:] + heights[:-1]) / 2)])

    def grad(x):
        return np.interp(x, edges, heights)

    def value(x):
        i = np.searchsorted(edges, x, side="right") - 1
        return areas[i] + (x - edges[i]) * (heights[i] + grad(x)) / 2

    return value, grad


@st.composite
def two_sided(draw):
    """Draws a function of the line, separately for each side."""
    right, left = smooth_convex(draw), smooth_convex(draw)

    def value(x):
        return right[0](x) if x >= 0 else left[0](-x)

    def grad(x):
        return right[1](x) if x >= 0 else -left[1](-x)

    return value, grad


@settings(max_examples=60, deadline=None)
@given(function=two_sided(), n=st.integers(1, 31))
def test_random_functions_on_the_line_satisfy_the_guarantees(optimal, anytime, function, n):
    value, grad = function
    horizon = 2 ** n.bit_length() - 1
    for steps, bound in (
        (optimal[n], guarantee(optimal[n])),
        (silver_of(horizon), guarantee(silver_of(horizon))),
        (anytime[:n], 1 / (4 * n + 2)),
    ):
        x = 1.0
        for h in steps:
            x -= h * grad(x)
        assert value(x) <= bound + 1e-9


def test_anytime_steps_are_joined_silver_blocks(anytime):
    """The reference follows the rule of the source, block by block."""
    ends = np.cumsum([2 * 1, 4 * 2, 11 * 4, 28 * 8, 67 * 16, 163 * 32])  # floor(2 rho^j) 2^j
    steps, total, level = [], 0.0, 0
    while len(steps) < 4096:
        block = silver_of(2**level - 1)
        x, y = total, block.sum()
        join = (np.sqrt((x + y + 2) ** 2 + 4 * (x + 1) * (y + 1)) - x - y) / 2
        steps += [join, *block]
        total += join + y
        level += len(steps) in ends
    np.testing.assert_allclose(anytime, steps[:4096], rtol=1e-12)


def test_anytime_steps_keep_their_rate_on_huber_functions(anytime):
    n = np.array([*range(1, 65), 100, 277, 278, 500, 1350, 1351, 2000, 4096])
    gaps = np.array([worst_cases.gap_lower_bound(anytime[:i], 512) for i in n])
    assert np.all(gaps * n**1.1195 < 0.35)
    assert np.all(gaps < 1 / (4 * n + 2))


@needs_pep
@pytest.mark.parametrize("n", [3, 8, 11, 24])
def test_anytime_steps_keep_their_rate_in_the_exact_worst_case(anytime, n):
    gap = worst_cases.gap(anytime[:n])
    assert gap * n**1.1195 < 0.28
    assert gap < 1 / (4 * n + 2)
    if n == 11:  # just after a long step
        assert gap == pytest.approx(0.01893, abs=1e-5)


def test_anytime_steps_after_the_last_join_are_short():
    end = 17_371_526
    schedule = jax.jit(jax.vmap(jd.step_sizes.anytime(2.0)))
    steps = schedule(jnp.array([end - 1, end, end + 1, 2**31 - 1]))
    np.testing.assert_allclose(steps, [np.sqrt(2) / 2, 0.5, 0.5, 0.5], rtol=1e-6)
