"""A self-tuning run evaluates BatchNorm at the average of the parameters, with its statistics."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import runner, tasks
from experiments.data.dataset import Dataset, Split
from experiments.studies.train import Settings
from experiments.studies.train.training import averages_of, make_evaluator, optimizer

SEEDS = 2


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


def small_task():
    inputs = np.random.default_rng(0).normal(2.0, 3.0, (512, 3)).astype(np.float32)
    split = Split(inputs, (inputs[:, 0] > 2).astype(np.int32))
    data = Dataset.from_parts("small", (split, split, split), 2, "made for this test")
    task = tasks.supervised(data, tasks.ModelConfig("mlp"))
    return task._replace(build=lambda rngs: Normed(rngs))


def test_statistics_are_re_estimated_at_the_average_of_each_network():
    task, settings = small_task(), Settings(self_tuning=True, optimizer="sgd", seeds=SEEDS)
    tx = optimizer(settings, 1)
    trainer = runner.trainer(task.build, task.batch_of, task.scores, tx)
    state = trainer.start(jax.random.split(jax.random.key(0), SEEDS))
    begin = state.params
    spoiled = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.model_state)
    moved = jax.tree.map(lambda x: 3 * x + 1, begin)
    state = state._replace(params=moved, model_state=spoiled)
    model = make_evaluator(trainer, task, settings).model_of(state, averages_of(settings))
    jax.tree.map(np.testing.assert_array_equal, model["params"], begin)
    inputs = task.prepare(task.train.arrays).inputs
    kernel, bias = begin["linear"]["kernel"][...], begin["linear"]["bias"][...]
    for i in range(SEEDS):
        batches = np.split(np.asarray(inputs @ kernel[i] + bias[i], np.float64), 2)
        norm = jax.tree.map(lambda x, i=i: x[i], model["model_state"]["norm"])
        mean = np.mean([batch.mean(0) for batch in batches], 0)
        variance = np.mean([batch.var(0) for batch in batches], 0)
        np.testing.assert_allclose(norm["mean"][...], mean, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(norm["var"][...], variance, rtol=1e-3)
