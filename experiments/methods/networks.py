"""A population of networks with their own hyperparameters, pruned on the way, as compiled rungs.

A rung is a stretch of steps: each alive agent descends, its validation loss becomes its value, and
the rule prunes. The loop's data are indices of examples. The arrays are arguments of the compiled
rung instead, so that windows of a text need not be copied.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdescent as jd
from experiments import runner, tasks

EVALUATION_BATCH = 500


class Networks:
    """The networks of a population as a `jd.fit_loop` over the examples of a task.

    Args:
      task: the task.
      optimizer: called as `optimizer(**hyperparams)` with the hyperparameters of one agent.
      num_agents: the number of networks.
      names: of the hyperparameters.
      batch_size: examples of a gradient step.
      steps: gradient steps of an agent in a rung.
      rule: acts after each rung.
      max_count: the most validation examples to evaluate on; by default all.
      mesh: divides agents, and the batch of each, among devices; by default one device has all.
    """

    def __init__(
        self,
        task: tasks.Task,
        optimizer: Callable[..., optax.GradientTransformation],
        num_agents: int,
        names: Sequence[str],
        *,
        batch_size: int,
        steps: int,
        rule: jd.Rule,
        max_count: int | None = None,
        mesh: runner.Mesh | None = None,
    ):
        self._task, self._optimizer, self._num_agents = task, optimizer, num_agents
        self._batch_size, self._steps, self._rule = batch_size, steps, rule
        self._mesh = mesh
        self._graph, _, self._empty_state = _split(nnx.eval_shape(lambda: task.build(nnx.Rngs(0))))
        self._has_state = bool(jax.tree.leaves(self._empty_state))
        self._example = dict.fromkeys(names, jnp.ones(num_agents))
        tx = optimizer(**dict.fromkeys(names, 1.0))
        self._trainer = runner.trainer(task.build, task.batch_of, task.scores, tx)
        indices = tasks.subsample(task.validation.evaluation_indices, max_count)
        size = min(EVALUATION_BATCH, len(indices))
        batches = np.resize(indices, -(-len(indices) // size) * size).astype(np.int32)
        valid = np.arange(len(batches)) < len(indices)
        self._validation = batches.reshape(-1, size), valid.reshape(-1, size)
        self._first = jax.jit(self._first_state)
        if mesh and mesh.size("agents") == 1:
            self._first = jax.jit(self._first_state, out_shardings=mesh.replicated)

    def first_state(self, key: jax.Array, hyperparams: Mapping[str, Any]) -> Any:
        """Returns the state before the first rung; parameters are drawn as by `runner.trainer`.

        Args:
          key: random key of the parameters and of all else.
          hyperparams: f32[agents] by name.

        Returns:
          A `jd.PopulationLoopState`.
        """
        return self._first(key, dict(hyperparams))

    def program(self) -> "Rungs":
        """Returns the compiled rung. Its metrics are arrays by agent."""
        task = self._task
        state = self._shapes()
        program = Rungs(
            self._rung,
            state,
            steps_per_chunk=self._steps,
            constants=(task.train.arrays, task.validation.arrays),
            mesh=self._mesh,
        )
        one = jax.eval_shape(lambda: self._trainer.start(jax.random.split(jax.random.key(0), 1)))
        feed = np.zeros((1, 1, self._batch_size), np.int32)
        program.flops_of_a_step = jd.footprint.flops(
            self._trainer.chunk, one, feed, task.train.arrays
        )
        return program

    def _shapes(self) -> Any:
        """Returns the shapes of the first state, with shardings on a mesh."""
        key = jax.random.key(0)
        if self._mesh is None:
            return jax.eval_shape(self._first_state, key, self._example)
        compiled = self._first.lower(key, self._example).compile()
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            compiled.out_info,
            compiled.output_shardings,
        )

    def network(self, population: jd.Population, agent: Any) -> dict[str, Any]:
        """Returns "params" and "model_state" of an agent, with a leading axis of length 1."""
        trees = population.params, population.model_state
        return self._model_of(*(jax.tree.map(lambda leaf: leaf[agent], tree) for tree in trees))

    def winner(self, state: jd.PopulationLoopState) -> dict[str, Any]:
        """Returns the same of the agent with the least validation loss at the end of any rung."""
        return self._model_of(state.best_params, state.best_model_state)

    def _model_of(self, params: Any, model_state: Any) -> dict[str, Any]:
        state = model_state if self._has_state else self._empty_state
        return jax.tree.map(lambda leaf: leaf[None], {"params": params, "model_state": state})

    def _first_state(self, key: jax.Array, hyperparams: Any) -> jd.PopulationLoopState:
        start = self._trainer.start(jax.random.split(key, self._num_agents))
        model_state = start.model_state if self._has_state else None
        loop = self._loop(self._task.train.arrays, self._task.validation.arrays)
        return loop.init(jax.random.fold_in(key, 0), start.params, hyperparams, model_state)

    def _rung(self, state: Any, number: Any, train: Any, validation: Any) -> Any:
        """Returns the state after a rung, and the metrics of each agent."""
        del number
        state, info = self._loop(train, validation).step(
            state,
            np.arange(self._task.train.examples, dtype=np.int32),
            self._validation,
            self._steps,
        )
        metrics = {
            "agents_loss": info.aux["loss"],
            "agents_value": info.values,
            "descended": info.descended,
        }
        return state, metrics

    def _loop(self, train: Any, validation: Any) -> jd.PopulationLoop:
        task = self._task

        def loss(params: Any, indices: Any, *, key: Any, model_state: Any = None) -> Any:
            model = self._merged(params, model_state)
            if self._mesh:
                indices = self._mesh.divided_batch(indices)
            value = task.scores(model, task.batch_of(train, indices), key)["loss"].mean()
            return (value, {"model_state": _split(model)[2]}) if self._has_state else value

        def value(params: Any, batches: Any, *, model_state: Any = None) -> jax.Array:
            model = self._merged(params, model_state)
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
            self._optimizer,
            num_agents=self._num_agents,
            batch_size=self._batch_size,
            value_fn=value,
            rule=self._rule,
            data_order="per_agent",
            needs_rng=True,
            mesh=self._mesh.devices if self._mesh and self._mesh.size("agents") > 1 else None,
            # A batch of convolutions with different filters is slower than one after another.
            chunk_size=1 if task.convolutional else None,
        )

    def _merged(self, params: Any, model_state: Any) -> Any:
        state = self._empty_state if model_state is None else model_state
        return nnx.merge(self._graph, params, state, copy=True)


class Rungs(runner.Program):
    """The compiled rung, with the FLOPs of those agents that descend.

    Their number is known only when it runs, so that FLOPs cannot be counted from the program.
    """

    flops_of_a_step: jd.footprint.Flops
    descended: float = 0.0
    rungs: int = 0

    def __call__(self, carry: Any, feed: Any) -> tuple[Any, Any, float]:
        """Returns the same as `Program`, and counts the agents that have descended."""
        carry, metrics, seconds = super().__call__(carry, feed)
        self.descended += float(metrics["descended"])
        self.rungs += 1
        return carry, metrics, seconds

    @property
    def flops(self) -> jd.footprint.Flops:
        """FLOPs of a rung, on average over the rungs up to now."""
        steps = self.steps_per_chunk * self.descended / max(self.rungs, 1)
        return jax.tree.map(lambda n: n if isinstance(n, str) else n * steps, self.flops_of_a_step)


def draw_hyperparams(
    ranges: Mapping[str, tuple[float, float]], agents: int, seed: int
) -> dict[str, np.ndarray]:
    """Returns log-uniform hyperparameters, f32[agents] by name, stratified over the agents.

    Args:
      ranges: the lowest and the highest value by name.
      agents: the number of agents.
      seed: of the draw; each hyperparameter has its own random numbers.
    """
    draws = {}
    for number, (name, (low, high)) in enumerate(ranges.items()):
        random = np.random.default_rng([seed, number])
        strata = random.permutation(agents)
        share = (strata + random.uniform(size=agents)) / agents
        draws[name] = (low * (high / low) ** share).astype(np.float32)
    return draws


def _split(model: Any) -> Any:
    return nnx.split(model, nnx.Param, ...)
