"""Instances take any seed, and groups of agents report their best value and their total cost."""

import jax
import numpy as np

import jaxdescent as jd
from experiments.instances import Instances
from experiments.studies.functions import methods
from experiments.studies.functions.instances import draw_instances


def test_any_seed_draws_instances():
    (instances,) = draw_instances(["rastrigin"], 2, [2**32 - 1, 2**32])
    keys = [jax.random.fold_in(jax.random.key(seed), 7) for seed in (2**32 - 1, 0)]
    assert all(key == expected for key, expected in zip(instances.keys, keys, strict=True))


def test_groups_of_agents_return_the_best_value_and_the_total_cost(monkeypatch):
    def descend(_problem, keys, hyperparams, steps, _optimizer, agents):
        assert hyperparams["rate"].shape == (1, agents)
        drawn.append(np.asarray(jax.random.key_data(keys)).tolist())
        return hyperparams["rate"].min(1), np.full(1, agents * (steps + 1)), np.full(1, 100)

    drawn = []
    monkeypatch.setattr(methods, "_descend", descend)
    problem = jd.Problem(abs, np.zeros(1), np.ones(1), minimum=np.array([0.25]))
    instances = Instances("f", problem, jax.random.split(jax.random.key(0), 1))
    rates = np.linspace(3.0, 1.0, 32)[None]
    rates[0, 5] = 0.5  # in the first of two groups
    result = methods._descend_in_groups(instances, 640, 32, None, {"rate": rates})
    assert (result.excess, result.gradients, result.evaluations) == (0.25, 640, 200)
    assert drawn[0] != drawn[1]
