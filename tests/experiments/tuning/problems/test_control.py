"""Simulations follow their equations, and targets and scores follow their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.tuning.generated import Moment
from experiments.tuning.problems import control

MOMENT = Moment(jnp.int32(0), jnp.float32(0.0))


def test_the_cart_and_the_pole_obey_the_equations_of_motion():
    """Checks Lagrange's equations of a cart of 1 kg and a pole of 0.1 kg and half length 0.5 m."""
    state = np.array([0.3, -0.2, 0.15, 0.4])
    after = np.asarray(control._push(jnp.asarray(state), jnp.int32(1)), np.float64)
    _, acceleration, _, spinning = (after - state) / 0.02
    _, _, angle, spin = state
    cos, sin = np.cos(angle), np.sin(angle)
    assert 4 / 3 * 0.5 * spinning + cos * acceleration == pytest.approx(9.8 * sin, rel=1e-3)
    force = 1.1 * acceleration + 0.1 * 0.5 * (spinning * cos - spin**2 * sin)
    assert force == pytest.approx(10.0, rel=1e-3)
    np.testing.assert_allclose(after[[0, 2]], state[[0, 2]] + 0.02 * state[[1, 3]], rtol=1e-5)


def test_targets_are_discounted_rewards_of_1_up_to_the_fall_or_the_critics_value():
    problem = control.cart_pole(steps=64)
    params = problem.init(jax.random.key(0))
    env = problem.start_env(jax.random.key(1))
    (states, actions, targets), (_, ages) = jax.jit(problem.observe)(
        params, env, jax.random.key(2), MOMENT
    )
    after = jax.vmap(jax.vmap(control._push))(states, actions)
    fell = np.asarray(~((abs(after[..., 0]) <= 2.4) & (abs(after[..., 2]) <= 0.2095)))
    assert fell.any()
    value = control._network(params["critic"], after)[..., 0]
    expected = np.array(value[-1], np.float64)
    for step in reversed(range(64)):
        expected = 1 + 0.99 * np.where(fell[step], 0, expected)
        np.testing.assert_allclose(targets[step], expected, rtol=1e-3)
    last_fall = np.where(fell.any(0), 63 - fell[::-1].argmax(0), -1)
    np.testing.assert_array_equal(ages, 63 - last_fall)


def test_a_policy_that_always_pushes_right_falls_at_once_and_a_balancing_one_does_not():
    problem = control.cart_pole()
    still = jax.tree.map(jnp.zeros_like, problem.init(jax.random.key(0)))
    (first, _), (last, _) = still["actor"]
    right = {**still, "actor": [(first, jnp.zeros(32)), (last, jnp.array([0.0, 100.0]))]}
    score = jax.jit(problem.score)
    assert 1.0 < score(right, MOMENT) < 1.07  # falls within 15 of 200 steps
    # The sign of angle + angular speed / 2, and a little of the cart's position and speed.
    sensor = first.at[:, 0].set(jnp.array([0.05, 0.1, 1.0, 0.5]))
    balancing = {**still, "actor": [(sensor, jnp.zeros(32)), (last.at[0, 1].set(1e4), last[0])]}
    assert score(balancing, MOMENT) == pytest.approx(0.1, abs=1e-6)
    assert 0.8 < score(still, MOMENT) < 1.05  # random pushes


def test_parameters_that_are_not_numbers_have_the_worst_score():
    problem = control.cart_pole()
    params = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), problem.init(jax.random.key(0)))
    assert problem.score(params, MOMENT) > 1.0


def test_the_mass_costs_its_squared_distance_when_it_is_not_pushed():
    problem = control.point_mass()
    still = jax.tree.map(jnp.zeros_like, problem.init(jax.random.key(0)))
    still["log_std"] = jnp.full(2, -20.0)
    # Starts are uniform in [-1, 1] squared; the wind moves the mass little.
    assert problem.score(still, MOMENT) == pytest.approx(2 / 3, abs=0.15)


def test_advantages_are_of_the_remaining_cost_and_favor_cheap_episodes():
    problem = control.point_mass(episodes=8, steps=5)
    params = problem.init(jax.random.key(0))
    (states, forces, advantages), _ = problem.observe(params, (), jax.random.key(1), MOMENT)
    assert states.shape == (5, 8, 4)
    position, speed = states[..., :2], states[..., 2:]
    following = np.asarray(position[1:], np.float64)
    np.testing.assert_allclose(following, position[:-1] + 0.1 * speed[1:], rtol=1e-4, atol=1e-6)
    last_speed = speed[-1] + 0.1 * (np.clip(forces[-1], -3, 3) - 0.5 * speed[-1])
    ends = np.concatenate([following, [position[-1] + 0.1 * last_speed]])  # without the last wind
    costs = np.sum(ends**2, -1) + 0.1 * np.sum(np.clip(forces, -3, 3) ** 2, -1)
    remaining = np.cumsum(costs[::-1], 0)[::-1]
    found = remaining.mean(1, keepdims=True) - remaining
    found = (found - found.mean()) / found.std()
    np.testing.assert_allclose(advantages, found, atol=0.1)
