"""A training run with agents: networks with their own hyperparameters, pruned on the way.

    log learning rate, log weight decay ~ uniform, stratified over the agents
    every rung:  each alive agent descends, its validation loss is its value, the rule prunes

The population is a `jd.fit_loop` in the runner's loop, so that the run resumes to the bit. Pruned
agents use no further compute. The winner is the agent with the lowest validation loss at the end of
any rung, at its parameters there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxdescent as jd
from experiments import runner, tasks
from experiments.studies.train.optimizers import OPTIMIZERS
from experiments.studies.train.rules import make_rule
from experiments.studies.train.settings import SERIES, Settings
from experiments.studies.train.training import (
    Evaluator,
    batch_size,
    load_task,
    optimizer_factory,
    save_description,
    scheduled,
)

RATE_SPAN = 100.0
"""Learning rates are from `--learning-rate` divided by this to `--learning-rate` times this."""
WEIGHT_DECAYS = 1e-4, 1.0
EVALUATION_BATCH = 500


class TrainedAgents(NamedTuple):
    """A population after its last rung.

    Attributes:
      task: the task.
      loop: the loop; its carry is a `jd.PopulationLoopState`.
      evaluator: evaluates the winner.
    """

    task: tasks.Task
    loop: runner.Loop
    evaluator: Evaluator


def hyperparameters(settings: Settings) -> dict[str, np.ndarray]:
    """Returns the learning rates and weight decays of the agents, f32[agents] by name."""
    assert settings.agents  # noqa: S101
    ranges = {"learning_rate": (settings.rate / RATE_SPAN, settings.rate * RATE_SPAN)}
    if OPTIMIZERS[settings.optimizer].takes("weight_decay") and settings.weight_decay is None:
        ranges["weight_decay"] = WEIGHT_DECAYS
    draws = {}
    for number, (name, (low, high)) in enumerate(ranges.items()):
        random = np.random.default_rng([settings.seed, number])
        strata = random.permutation(settings.agents)
        share = (strata + random.uniform(size=settings.agents)) / settings.agents
        draws[name] = (low * (high / low) ** share).astype(np.float32)
    return draws


def train_agents(settings: Settings, run: runner.Run) -> TrainedAgents:
    """Trains the population; each chunk of the loop is a rung."""
    task = load_task(settings)
    run.pin("data", task.digest())
    save_description(task, run.folder)
    factory = optimizer_factory(settings)
    trainer = runner.trainer(task.build, task.batch_of, task.scores, factory(settings.rate))
    every, steps = settings.steps_per_chunk, settings.total_steps
    population = _Population(settings, task)
    carry = population.first_state(trainer)
    program = _Rungs(
        population.rung,
        carry,
        steps_per_chunk=every,
        constants=(task.train.arrays, task.validation.arrays),
    )
    program.flops_of_a_step = _flops_of_a_step(trainer, task, settings)
    evaluator = Evaluator(trainer, task, settings)
    with runner.Progress(total=steps) as progress:
        loop = runner.Loop(
            run,
            SERIES,
            program,
            carry,
            chunks=steps // every,
            progress=progress,
            save_final=True,
        )
        for chunk in loop:
            losses, values = (chunk.metrics[f"agents_{name}"] for name in ("loss", "value"))
            leader = np.argmin(np.where(np.isfinite(values), values, np.inf))
            metrics = {"validation_loss": values[leader], **chunk.metrics}
            if task.dataset and task.dataset.classes:  # the rung has the losses only
                model = _network(chunk.carry.population, leader, task)
                metrics["validation_accuracy"] = evaluator(task.validation, **model)["accuracy"][0]
            loop.log(loss=losses[leader], **metrics)
            loop.update_best(float(chunk.carry.best_value), keep=winner(chunk.carry, task))
    return TrainedAgents(task, loop, evaluator)


def winner(state: jd.PopulationLoopState, task: tasks.Task) -> dict[str, Any]:
    """Returns "params" and "model_state" of the best agent, with a leading axis of length 1."""
    return _model(state.best_params, state.best_model_state, task)


def _network(population: jd.Population, agent: Any, task: tasks.Task) -> dict[str, Any]:
    """Returns the same of an agent."""
    trees = population.params, population.model_state
    params, model_state = (jax.tree.map(lambda leaf: leaf[agent], tree) for tree in trees)
    return _model(params, model_state, task)


def _model(params: Any, model_state: Any, task: tasks.Task) -> dict[str, Any]:
    if not jax.tree.leaves(model_state):
        model_state = _split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))[2]
    return jax.tree.map(lambda leaf: leaf[None], {"params": params, "model_state": model_state})


class _Rungs(runner.Program):
    """The compiled rung, with the FLOPs of those agents that descend.

    Their number is known only when it runs, so that FLOPs cannot be counted from the program.
    """

    flops_of_a_step: jd.footprint.Flops
    descended: float = 0.0
    rungs: int = 0

    def __call__(self, carry: Any, feed: Any) -> tuple[Any, Any, float]:
        carry, metrics, seconds = super().__call__(carry, feed)
        self.descended += float(metrics["descended"])
        self.rungs += 1
        return carry, metrics, seconds

    @property
    def flops(self) -> jd.footprint.Flops:
        """FLOPs of a rung, on average over the rungs up to now."""
        steps = self.steps_per_chunk * self.descended / max(self.rungs, 1)
        return jax.tree.map(lambda n: n if isinstance(n, str) else n * steps, self.flops_of_a_step)


def _flops_of_a_step(
    trainer: runner.Trainer, task: tasks.Task, settings: Settings
) -> jd.footprint.Flops:
    """Returns the FLOPs of a gradient step of one agent."""
    state = jax.eval_shape(lambda: trainer.start(jax.random.split(jax.random.key(0), 1)))
    feed = np.zeros((1, 1, batch_size(settings, task)), np.int32)
    return jd.footprint.flops(trainer.chunk, state, feed, task.train.arrays)


def _split(model: Any) -> Any:
    return nnx.split(model, nnx.Param, ...)


class _Population:
    """The agents of a run as a `jd.fit_loop`.

    The loop's data are indices of examples. The arrays are arguments of the compiled rung instead,
    so that windows of a text need not be copied.
    """

    def __init__(self, settings: Settings, task: tasks.Task):
        self._settings, self._task = settings, task
        self._graph, _, model_state = _split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))
        self._has_state = bool(jax.tree.leaves(model_state))
        self._empty_state = model_state
        self._hyperparams = hyperparameters(settings)
        self._num_agents = len(self._hyperparams["learning_rate"])
        max_count = settings.evaluate_on or (500 if settings.scale == "smoke" else None)
        indices = tasks.subsample(task.validation.evaluation_indices, max_count)
        size = min(EVALUATION_BATCH, len(indices))
        batches = np.resize(indices, -(-len(indices) // size) * size).astype(np.int32)
        valid = np.arange(len(batches)) < len(indices)
        self._validation = batches.reshape(-1, size), valid.reshape(-1, size)

    def first_state(self, trainer: runner.Trainer) -> jd.PopulationLoopState:
        """Returns the state before the first rung; parameters are drawn as with `--seeds`."""
        loop = self._loop(self._task.train.arrays, self._task.validation.arrays)

        @jax.jit
        def first(key: jax.Array, hyperparams: Any) -> jd.PopulationLoopState:
            start = trainer.start(jax.random.split(key, self._num_agents))
            model_state = start.model_state if self._has_state else None
            return loop.init(jax.random.fold_in(key, 0), start.params, hyperparams, model_state)

        return first(jax.random.key(self._settings.seed), self._hyperparams)

    def rung(self, state: Any, number: Any, train: Any, validation: Any) -> Any:
        """Returns the state after a rung, and the metrics of each agent."""
        del number
        state, info = self._loop(train, validation).step(
            state,
            np.arange(self._task.train.examples, dtype=np.int32),
            self._validation,
            self._settings.steps_per_chunk,
        )
        metrics = {
            "agents_loss": info.aux["loss"],
            "agents_value": info.values,
            "descended": info.descended,
        }
        return state, metrics

    def _loop(self, train: Any, validation: Any) -> jd.PopulationLoop:
        settings, task = self._settings, self._task
        factory = optimizer_factory(settings)

        def optimizer(learning_rate: Any, **others: Any) -> Any:
            return factory(scheduled(settings, learning_rate, settings.total_steps), **others)

        def loss(params: Any, indices: Any, *, key: Any, model_state: Any = None) -> Any:
            model = self._model(params, model_state)
            value = task.scores(model, task.batch_of(train, indices), key)["loss"].mean()
            return (value, {"model_state": _split(model)[2]}) if self._has_state else value

        def value(params: Any, batches: Any, *, model_state: Any = None) -> jax.Array:
            model = self._model(params, model_state)
            model.eval()
            graph, weights = nnx.split(model)

            def sum_losses(batch: Any) -> jax.Array:
                indices, valid = batch
                copy = nnx.merge(graph, weights, copy=True)
                losses = task.scores(copy, task.batch_of(validation, indices), None)["loss"]
                return jnp.where(valid, losses, 0).sum()

            return jax.lax.map(sum_losses, batches).sum() / batches[1].sum()

        return jd.fit_loop(
            loss,
            optimizer,
            num_agents=self._num_agents,
            batch_size=batch_size(settings, task),
            value_fn=value,
            rule=make_rule(settings.rule, settings.total_steps // settings.steps_per_chunk),
            data_order="per_agent",
            needs_rng=True,
            # A batch of convolutions with different filters is slower than one after another.
            chunk_size=1 if task.convolutional else None,
        )

    def _model(self, params: Any, model_state: Any) -> Any:
        state = self._empty_state if model_state is None else model_state
        return nnx.merge(self._graph, params, state, copy=True)
