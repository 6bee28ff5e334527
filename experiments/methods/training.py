"""Trains the networks of a recipe with one optimizer, or a population of them, and evaluates."""

from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments import runner
from experiments.data.batches import Batches, data_seeds
from experiments.methods.evaluation import Evaluator
from experiments.methods.networks import Networks, draw_hyperparams
from experiments.methods.outcome import Outcome
from experiments.methods.recipe import Recipe
from experiments.runner.log import mean_of_finite

WEIGHT_DECAYS = 1e-4, 1.0
"""The range of the agents' weight decays."""


class Session:
    """Trains the networks of a recipe in a run; every training is a series.

    Args:
      run: the run.
      recipe: the recipe.
      progress: counts the steps.
    """

    def __init__(self, run: runner.Run, recipe: Recipe, progress: runner.Progress | None = None):
        self.run, self.recipe, self.progress = run, recipe, progress

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates the networks of all trainings, so that it is compiled once."""
        return Evaluator(self.trainer(optax.identity()), self.recipe.task, self.recipe.max_count)

    def trainer(self, tx: optax.GradientTransformation) -> runner.Trainer:
        """Returns the trainer of the networks with an optimizer."""
        task = self.recipe.task
        return runner.trainer(
            task.build, task.batch_of, task.scores, tx, side_by_side=task.side_by_side
        )

    def series(self, name: str, compute: Callable[[str], Outcome]) -> Outcome:
        """Returns the outcome of a training, computed as `compute(series)` or read."""
        title = f"{self.recipe.title}, {name}"
        return self.run.series(
            title,
            Outcome,
            partial(compute, title),
            progress=self.progress,
            steps=self.recipe.steps,
        )

    def outcome(
        self,
        loop: runner.Loop,
        models: Callable[[Any], Mapping[str, Any]],
        flops: Callable[[int], float],
        loss: Callable[[Any], Any],
    ) -> Outcome:
        """Runs a loop to its end, evaluates after every chunk, and returns the outcome.

        Args:
          loop: the loop.
          models: called with the carry; returns "params" and "model_state" of the networks to
            evaluate.
          flops: called with the number of chunks done; returns the FLOPs up to then.
          loss: called with the metrics of a chunk; returns the training loss to log.
        """
        recipe, evaluator = self.recipe, self.evaluator
        before = self.run.log.read(loop.series)  # of a run that is resumed
        spent = np.array(before[-1]["joules"] if before else np.zeros(3))
        model: Any = models(loop.carry)
        evaluator(recipe.task.validation, **model)  # compiles it, which is not metered
        with jd.footprint.meter() as meter:
            for chunk in loop:
                model = models(chunk.carry)
                test = validation = evaluator(recipe.task.validation, **model)["loss"]
                if recipe.task.test is not recipe.task.validation:
                    test = evaluator(recipe.task.test, **model)["loss"]
                energy: Any = meter.read().energy  # measured or estimated, so that there is one
                loop.log(
                    loss=loss(chunk.metrics),
                    validation_loss=validation,
                    test_loss=test,
                    flops=flops(loop.chunk),
                    joules=spent + np.array([energy.low, energy.value, energy.high]),
                )
                loop.update_best(float(np.mean(validation)), keep=model)
        history = self.run.log.read(loop.series)
        losses = np.array([record["validation_loss"] for record in history], float)
        best: Any = loop.best(model) or model
        return Outcome(
            steps=np.array([record["step"] for record in history]),
            flops=np.array([record["flops"] for record in history], float),
            validation=losses,
            test=np.array([record["test_loss"] for record in history], float),
            joules=np.array(history[-1]["joules"]) / losses.shape[1],
            scores=evaluator(recipe.task.test, **best),
            kept=dict(recipe.keep(best["params"], best["model_state"])) if recipe.keep else {},
        )


class Descent:
    """Trainings with one optimizer, compiled once for all learning rates.

    Args:
      session: the session.
      name: of the method.
      tx: the optimizer. If it is made by `optax.inject_hyperparams`, its learning rate can be set.
      averages: called as `averages(opt_state, params)` with the states of all networks; returns
        the parameters to evaluate. By default these are the last ones.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        tx: optax.GradientTransformation,
        averages: Callable[[Any, Any], Any] | None = None,
    ):
        self._session, self._name, self._averages = session, name, averages
        self._trainer = session.trainer(tx)
        recipe = session.recipe
        self._batches = Batches(
            recipe.task.train.examples,
            recipe.batch_size,
            seeds=data_seeds(recipe.seed, recipe.seeds),
            replacement=recipe.task.replacement,
        )

    def __call__(self, learning_rate: float | None = None) -> Outcome:
        """Returns the outcome of a training.

        Args:
          learning_rate: by default the optimizer's own.
        """
        rate = "" if learning_rate is None else f" at {learning_rate:g}"
        return self._session.series(f"{self._name}{rate}", partial(self._compute, learning_rate))

    @cached_property
    def _program(self) -> runner.Program:
        recipe, every = self._session.recipe, self._session.recipe.steps_per_chunk
        return runner.Program(
            self._trainer.chunk,
            jax.eval_shape(self._trainer.start, recipe.keys),
            steps_per_chunk=every,
            feed=self._batches.chunk(0, every),
            constants=(recipe.task.train.arrays,),
        )

    def _compute(self, learning_rate: float | None, series: str) -> Outcome:
        session, program = self._session, self._program
        recipe, evaluator = session.recipe, session.evaluator
        carry = self._trainer.start(recipe.keys)
        if learning_rate is not None:
            carry = carry._replace(opt_state=_with_rate(carry.opt_state, learning_rate))
        loop = runner.Loop(
            session.run,
            series,
            program,
            carry,
            chunks=recipe.evaluations,
            batches=self._batches,
            progress=session.progress,
        )
        per_step = program.flops.total / program.steps_per_chunk / recipe.seeds
        return session.outcome(
            loop,
            lambda state: evaluator.model_of(state, self._averages),
            lambda chunks: per_step * chunks * recipe.steps_per_chunk,
            lambda losses: mean_of_finite(losses, axis=0),
        )


def _with_rate(opt_state: Any, learning_rate: float) -> Any:
    full = jnp.full_like(opt_state.hyperparams["learning_rate"], learning_rate)
    return opt_state._replace(hyperparams={**opt_state.hyperparams, "learning_rate": full})


def train_agents(session: Session, name: str, rule: jd.Rule) -> Outcome:
    """Trains a population for each seed: Adam with a schedule, and drawn hyperparameters.

    Learning rates are log-uniform over the range of the grid, weight decays over `WEIGHT_DECAYS`.

    Args:
      session: the session.
      name: of the method.
      rule: acts after each evaluation.
    """
    recipe, low, high = session.recipe, *np.array(session.recipe.rates[0])[[0, -1]]

    def optimizer(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        return recipe.adam(recipe.scheduled(learning_rate), weight_decay=weight_decay)

    ranges = {"learning_rate": (low, high), "weight_decay": WEIGHT_DECAYS}
    networks = Networks(
        recipe.task,
        optimizer,
        recipe.agents,
        tuple(ranges),
        batch_size=recipe.batch_size,
        steps=recipe.steps_per_chunk,
        rule=rule,
        max_count=recipe.max_count,
    )
    compiled = cache(networks.program)

    def compute(seed: int, series: str) -> Outcome:
        program = compiled()
        drawn = draw_hyperparams(ranges, recipe.agents, recipe.seed + seed)
        loop = runner.Loop(
            session.run,
            series,
            program,
            networks.first_state(recipe.keys[seed], drawn),
            chunks=recipe.evaluations,
            progress=session.progress,
        )
        per_gradient = program.flops_of_a_step.total

        def flops(chunks: int) -> float:
            del chunks
            return per_gradient * float(np.sum(loop.carry.population.gradients))

        def loss(metrics: Any) -> Any:
            return mean_of_finite(metrics["agents_loss"], axis=0)

        return session.outcome(loop, networks.winner, flops, loss)

    outcomes = [
        session.series(f"{name}, population {seed}", partial(compute, seed))
        for seed in range(recipe.seeds)
    ]
    return _side_by_side(outcomes)


def _side_by_side(outcomes: list[Outcome]) -> Outcome:
    """Returns the outcome of several seeds from the outcomes of each."""

    def joined(*arrays: np.ndarray) -> np.ndarray:
        return np.concatenate(arrays, axis=-1)

    first = outcomes[0]
    return first._replace(
        flops=np.mean([each.flops for each in outcomes], axis=0),
        joules=np.mean([each.joules for each in outcomes], axis=0),
        validation=joined(*(each.validation for each in outcomes)),
        test=joined(*(each.test for each in outcomes)),
        scores=jax.tree.map(joined, *(each.scores for each in outcomes)),
        kept=jax.tree.map(lambda *arrays: np.concatenate(arrays), *(e.kept for e in outcomes)),
    )
