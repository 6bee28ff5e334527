"""A training run with agents: networks with their own hyperparameters, pruned on the way.

    log learning rate, log weight decay ~ uniform, stratified over the agents
    every rung:  each alive agent descends, its validation loss is its value, the rule prunes

The population is a `jd.fit_loop` in the runner's loop, so that the run resumes to the bit. Pruned
agents use no further compute. The winner is the agent with the lowest validation loss at the end of
any rung, at its parameters there.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import runner, tasks
from experiments.methods.evaluation import Evaluator
from experiments.methods.networks import Networks, draw_hyperparams
from experiments.methods.optimizers import OPTIMIZERS
from experiments.studies.train.rules import make_rule
from experiments.studies.train.settings import SERIES, Settings
from experiments.studies.train.training import (
    batch_size,
    evaluated_count,
    load_task,
    make_evaluator,
    mesh_of,
    optimizer_factory,
    save_description,
    scheduled,
)

RATE_SPAN = 100.0
"""Learning rates are from `--learning-rate` divided by this to `--learning-rate` times this."""
WEIGHT_DECAYS = 1e-4, 1.0


class TrainedAgents(NamedTuple):
    """A population after its last rung.

    Attributes:
      task: the task.
      loop: the loop; its carry is a `jd.PopulationLoopState`.
      evaluator: evaluates the winner.
      networks: the population.
    """

    task: tasks.Task
    loop: runner.Loop
    evaluator: Evaluator
    networks: Networks


def hyperparameters(settings: Settings) -> dict[str, np.ndarray]:
    """Returns the learning rates and weight decays of the agents, f32[agents] by name."""
    assert settings.agents  # noqa: S101
    ranges = {"learning_rate": (settings.rate / RATE_SPAN, settings.rate * RATE_SPAN)}
    if OPTIMIZERS[settings.optimizer].takes("weight_decay") and settings.weight_decay is None:
        ranges["weight_decay"] = WEIGHT_DECAYS
    return draw_hyperparams(ranges, settings.agents, settings.seed)


def train_agents(settings: Settings, run: runner.Run) -> TrainedAgents:
    """Trains the population; each chunk of the loop is a rung."""
    task = load_task(settings)
    run.pin("data", task.digest())
    save_description(task, run.folder)
    factory = optimizer_factory(settings)
    mesh = mesh_of(settings)
    trainer = runner.trainer(
        task.build, task.batch_of, task.scores, factory(settings.rate), mesh=mesh
    )
    every, steps = settings.steps_per_chunk, settings.total_steps

    def optimizer(learning_rate: Any, **others: Any) -> Any:
        return factory(scheduled(settings, learning_rate, steps), **others)

    drawn = hyperparameters(settings)
    networks = Networks(
        task,
        optimizer,
        len(drawn["learning_rate"]),
        tuple(drawn),
        batch_size=batch_size(settings, task),
        steps=every,
        rule=make_rule(settings.rule, steps // every),
        max_count=evaluated_count(settings),
        mesh=mesh,
    )
    evaluator = make_evaluator(trainer, task, settings, mesh)
    with runner.Progress(total=steps) as progress:
        loop = runner.Loop(
            run,
            SERIES,
            networks.program(),
            networks.first_state(jax.random.key(settings.seed), drawn),
            chunks=steps // every,
            progress=progress,
            save_final=True,
        )
        for chunk in loop:
            losses, values = (chunk.metrics[f"agents_{name}"] for name in ("loss", "value"))
            leader = np.argmin(np.where(np.isfinite(values), values, np.inf))
            metrics = {"validation_loss": values[leader], **chunk.metrics}
            if task.dataset and task.dataset.classes:  # the rung has the losses only
                model = networks.network(chunk.carry.population, leader)
                metrics["validation_accuracy"] = evaluator(task.validation, **model)["accuracy"][0]
            loop.log(loss=losses[leader], **metrics)
            loop.update_best(float(chunk.carry.best_value), keep=networks.winner(chunk.carry))
    return TrainedAgents(task, loop, evaluator, networks)
