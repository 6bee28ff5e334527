"""Reinforcement learning on simulations: the policy that is trained produces its own batches.

Scores are of the policy in episodes of its own, with actions drawn from it, from the same starts
and with the same random numbers at each measurement. So the average of the parameters is judged
as a policy that acts, although the policy of the last parameters collects the batches.

Sources: A. Barto, R. Sutton, C. Anderson, "Neuronlike adaptive elements that can solve difficult
learning control problems", IEEE Trans. SMC 13(5), 1983 (cart-pole); V. Mnih et al. 2016,
arXiv:1602.01783 (advantage actor-critic); R. Williams, "Simple statistical gradient-following
algorithms for connectionist reinforcement learning", Machine Learning 8, 1992 (REINFORCE).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tuning.generated import Moment, Problem
from experiments.tuning.problems.networks import apply_layers, init_layers

ENVIRONMENTS = 16  # side by side
CAP = 200  # longest episode of cart-pole
DISCOUNT = 0.99
ADDED = 0.1  # to the mean shortfall of cart-pole, which is in [0, 1]

_network = partial(apply_layers, activation=jnp.tanh)


def cart_pole(steps: int = 32) -> Problem:
    """Returns advantage actor-critic on cart-pole, with 16 environments of 32 steps per batch.

    Targets are discounted rewards, with the critic's value where a batch or an episode of 200 steps
    is cut. The score is 1.1 minus the mean length of 16 episodes over 200: at least 0.1, so that
    the ratio of two scores is near 1 where both policies balance the pole.
    """

    def init(key: jax.Array) -> Any:
        actor, critic = jax.random.split(key)
        *hidden, (weight, bias) = init_layers(actor, (4, 32, 2), gain=2.0)
        return {
            "actor": [*hidden, (0.1 * weight, bias)],
            "critic": init_layers(critic, (4, 32, 1), gain=2.0),
        }

    def act(params: Any, states: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        actions = jnp.argmax(_network(params["actor"], states) + noise, -1)
        return actions, jax.vmap(_push)(states, actions)

    def value(params: Any, states: jax.Array) -> jax.Array:
        return _network(params["critic"], states)[..., 0]

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del moment

        def step(env: Any, inputs: Any) -> Any:
            states, ages = env
            noise, starts = inputs
            actions, after = act(params, states, noise)
            fell = jax.vmap(_has_fallen)(after)
            cut = (ages + 1 >= CAP) & ~fell
            ended = fell | cut
            env = (
                jnp.where(ended[:, None], starts, after),
                jnp.where(ended, 0, ages + 1),
            )
            return env, (states, actions, fell, cut, value(params, after))

        # Random numbers are drawn before the loop, which is faster and compiles faster.
        for_actions, for_starts = jax.random.split(key)
        inputs = _action_noise(for_actions, steps), _starts(for_starts, steps)
        env, (states, actions, fell, cut, values) = jax.lax.scan(step, env, inputs)

        def discounted(following: jax.Array, inputs: Any) -> Any:
            fell, cut, value = inputs
            target = 1.0 + DISCOUNT * jnp.where(fell, 0.0, jnp.where(cut, value, following))
            return target, target

        targets = jax.lax.scan(discounted, values[-1], (fell, cut, values), reverse=True)[1]
        return (states, actions, targets), env

    def loss(params: Any, batch: Any) -> jax.Array:
        states, actions, targets = batch
        values = value(params, states)
        log_probabilities = jax.nn.log_softmax(_network(params["actor"], states))
        chosen = jnp.take_along_axis(log_probabilities, actions[..., None], -1)[..., 0]
        advantages = _standardized(jax.lax.stop_gradient(targets - values))
        entropy = -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, -1)
        return (
            -jnp.mean(chosen * advantages)
            + 0.005 * jnp.mean((values - targets) ** 2)
            - 0.01 * jnp.mean(entropy)
        )

    def score(params: Any, moment: Moment) -> jax.Array:
        del moment

        def step(carry: Any, noise: jax.Array) -> Any:
            states, is_up = carry
            _, states = act(params, states, noise)
            is_up = is_up & ~jax.vmap(_has_fallen)(states)
            return (states, is_up), is_up

        first, key = jax.random.split(jax.random.key(10))
        start = _starts(first), jnp.ones(ENVIRONMENTS, bool)
        _, is_up = jax.lax.scan(step, start, _action_noise(key, CAP))
        return 1.0 - is_up.mean() + ADDED

    def start_env(key: jax.Array) -> Any:
        return _starts(key), jnp.zeros(ENVIRONMENTS, jnp.int32)

    return Problem(init, observe, loss, score, start_env)


def _starts(key: jax.Array, *steps: int) -> jax.Array:
    return jax.random.uniform(key, (*steps, ENVIRONMENTS, 4), minval=-0.05, maxval=0.05)


def _action_noise(key: jax.Array, steps: int) -> jax.Array:
    """Returns Gumbel noise; the action with the largest sum of logit and noise is a draw."""
    return jax.random.gumbel(key, (steps, ENVIRONMENTS, 2))


def _push(state: jax.Array, action: jax.Array) -> jax.Array:
    """Returns the state 0.02 s later: position, speed, angle and angular speed of the pole."""
    _, v, angle, spin = state
    force = jnp.where(action == 1, 10.0, -10.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    push = (force + 0.05 * spin**2 * sin) / 1.1
    torque = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    acceleration = push - 0.05 * torque * cos / 1.1
    return state + 0.02 * jnp.stack([v, acceleration, spin, torque])


def _has_fallen(state: jax.Array) -> jax.Array:
    # Not a number counts as fallen.
    return ~((jnp.abs(state[0]) <= 2.4) & (jnp.abs(state[2]) <= 0.2095))


def point_mass(episodes: int = 32, steps: int = 40) -> Problem:
    """Returns REINFORCE on a mass in the plane that has to reach the origin and stay there.

    The policy is normal, with a mean of a network 4-32-2 and a learned standard deviation; forces
    are clipped to [-3, 3]. The cost of a step is the squared distance plus a tenth of the squared
    force. The baseline of a return is the mean over the 32 episodes of a batch at that step. The
    score is the mean cost per step of 32 episodes.
    """

    def init(key: jax.Array) -> Any:
        *hidden, (weight, bias) = init_layers(key, (4, 32, 2), gain=2.0)
        return {"mean": [*hidden, (0.1 * weight, bias)], "log_std": jnp.full(2, -0.5)}

    def episodes_of(params: Any, key: jax.Array) -> Any:
        """Returns states [steps, episodes, 4], forces [steps, episodes, 2] and costs."""

        def step(state: jax.Array, inputs: Any) -> Any:
            noise, wind = inputs
            force = _network(params["mean"], state) + jnp.exp(params["log_std"]) * noise
            applied = jnp.clip(force, -3.0, 3.0)
            position, speed = state[:, :2], state[:, 2:]
            speed = speed + 0.1 * (applied + 0.1 * wind - 0.5 * speed)
            position = position + 0.1 * speed
            cost = jnp.sum(position**2, -1) + 0.1 * jnp.sum(applied**2, -1)
            return jnp.concatenate([position, speed], 1), (state, force, cost)

        first, key = jax.random.split(key)
        position = jax.random.uniform(first, (episodes, 2), minval=-1.0, maxval=1.0)
        start = jnp.concatenate([position, jnp.zeros((episodes, 2))], 1)
        noise, wind = jax.random.normal(key, (2, steps, episodes, 2))
        return jax.lax.scan(step, start, (noise, wind))[1]

    def observe(params: Any, env: Any, key: jax.Array, moment: Moment) -> Any:
        del moment
        states, forces, costs = episodes_of(params, key)
        remaining = jnp.cumsum(costs[::-1], 0)[::-1]
        return (states, forces, _standardized(remaining.mean(1, keepdims=True) - remaining)), env

    def loss(params: Any, batch: Any) -> jax.Array:
        states, forces, advantages = batch
        deviations = (forces - _network(params["mean"], states)) / jnp.exp(params["log_std"])
        log_density = -jnp.sum(deviations**2 / 2 + params["log_std"], -1)
        return -jnp.mean(log_density * advantages)

    def score(params: Any, moment: Moment) -> jax.Array:
        del moment
        return episodes_of(params, jax.random.key(11))[2].mean()

    return Problem(init, observe, loss, score)


def _standardized(values: jax.Array) -> jax.Array:
    return (values - values.mean()) / (values.std() + 1e-6)
