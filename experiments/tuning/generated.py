"""Generated workloads: a few pure functions instead of a data set and a Flax model.

    batch, env <- observe(params, env, key, step)
    params     <- params + tx.update(grad loss(params, batch))

The environment `env` is the state of a simulation or of a stream. Networks are trained side by
side by `vmap`. What changes during training depends on `Moment.progress`, the fraction of the
steps done, so that a task is the same at every number of steps. Scores are measured after a step,
and belong to the moment of that step.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import runner
from experiments.tuning.protocol import CHUNKS, Evaluated, PreparedWorkload, Training, Workload

if TYPE_CHECKING:
    from experiments.tuning.workloads import Settings


class Moment(NamedTuple):
    """A moment of training.

    Attributes:
      step: i32[], number of steps before this one.
      progress: f32[], `step` over the steps of the trial, in [0, 1).
    """

    step: jax.Array
    progress: jax.Array


def _no_env(key: jax.Array) -> tuple[()]:
    del key
    return ()


class Problem(NamedTuple):
    """Pure functions of one network; parameters, batches and environments are pytrees of arrays.

    Attributes:
      init: Called as `init(key)`; returns the initial parameters.
      observe: Called as `observe(params, env, key, moment)` with a new key at each step; returns
        a batch and the next environment.
      loss: Called as `loss(params, batch)`; returns the loss to minimize, `f32[]`.
      score: Called as `score(params, moment)`; returns the loss that counts, `f32[]`.
      start_env: Called as `start_env(key)`; returns the initial environment.
    """

    init: Callable[[jax.Array], Any]
    observe: Callable[[Any, Any, jax.Array, Moment], tuple[Any, Any]]
    loss: Callable[[Any, Any], jax.Array]
    score: Callable[[Any, Moment], jax.Array]
    start_env: Callable[[jax.Array], Any] = _no_env


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generated(Workload):
    """A workload of pure functions, evaluated after the last step.

    Attributes:
      problem: Called as `problem()`; returns the functions.
    """

    problem: Callable[[], Problem]

    def prepare(self, settings: "Settings") -> "PreparedGenerated":
        """Returns the workload with its data generated."""
        return PreparedGenerated(self, settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deterministic(Generated):
    """A workload whose batch is the same at every step."""

    deterministic: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nonstationary(Generated):
    """A workload that changes during training, evaluated during training.

    The loss that counts is the mean score over the second half of the steps. The score is measured
    after every `score_every`-th step, at the parameters and, separately, at their average.

    Attributes:
      score_every: steps between two measurements.
    """

    nonstationary: ClassVar[bool] = True
    score_every: int = 1


class GeneratedState(NamedTuple):
    """State that the next step needs.

    Attributes:
      params: the parameters.
      opt_state: state of the optimizer.
      env: the environment.
      key: random key of the observations, folded with the step.
      score_sums: f32[2], sums of the scores at the parameters and at their average.
    """

    params: Any
    opt_state: Any
    env: Any
    key: jax.Array
    score_sums: jax.Array


class PreparedGenerated(PreparedWorkload):
    """A generated workload with its data generated.

    Attributes:
      problem: the functions.
    """

    def __init__(self, workload: Generated, settings: "Settings"):
        super().__init__(workload, settings)
        self.problem = workload.problem()
        self._scored = np.zeros(self.steps, bool)  # steps after which the score is measured
        if isinstance(workload, Nonstationary):
            every = min(workload.score_every, self.steps)
            self._scored[every - 1 :: every] = True
            self._scored[: self.steps // 2] = False

    @cached_property
    def params(self) -> Any:
        """The parameters of one network, as `jax.ShapeDtypeStruct`s."""
        return jax.eval_shape(self.problem.init, self.keys[0])

    def training(
        self,
        tx: optax.GradientTransformation,
        evaluated: Evaluated,
        *,
        needs_value_fn: bool = False,
    ) -> Training:
        """Returns the functions that train with an optimizer; see `PreparedWorkload.training`."""
        if needs_value_fn and not self.workload.deterministic:
            raise ValueError(f"{self.workload.title} has no loss function that stays the same")
        problem, steps = self.problem, self.steps // CHUNKS
        step = partial(self._step, optax.with_extra_args_support(tx), evaluated, needs_value_fn)

        @jax.jit
        @jax.vmap
        def final_scores(opt_state: Any, params: Any) -> jax.Array:
            return self._scores(evaluated, self._moment(self.steps - 1), opt_state, params)

        @jax.jit
        @jax.vmap
        def start(key: jax.Array) -> GeneratedState:
            weights, env, observations = jax.random.split(key, 3)
            params = problem.init(weights)
            env = problem.start_env(env)
            return GeneratedState(params, tx.init(params), env, observations, jnp.zeros(2))

        def chunk_one(state: GeneratedState, number: jax.Array, scored: jax.Array) -> Any:
            numbers = number * steps + jnp.arange(steps)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(state.key, numbers)
            return jax.lax.scan(step, state, (numbers, keys, scored[numbers]))

        def chunk(state: GeneratedState, number: jax.Array, scored: jax.Array) -> Any:
            state, losses = jax.vmap(chunk_one, in_axes=(0, None, None))(state, number, scored)
            return state, losses.T

        def program() -> runner.Program:
            shapes = jax.eval_shape(start, self.keys)
            return runner.Program(chunk, shapes, steps_per_chunk=steps, constants=(self._scored,))

        def losses(state: GeneratedState) -> tuple[np.ndarray, np.ndarray]:
            if self._scored.any():
                means = np.asarray(state.score_sums) / self._scored.sum()
                return means[:, 0], means[:, 1]
            scores = np.asarray(final_scores(state.opt_state, state.params))
            return scores[:, 0], scores[:, 1]

        return Training(lambda: start(self.keys), program, None, losses)

    def _moment(self, step: Any) -> Moment:
        step = jnp.asarray(step, jnp.int32)
        return Moment(step, step.astype(jnp.float32) / self.steps)

    def _scores(
        self, evaluated: Evaluated, moment: Moment, opt_state: Any, params: Any
    ) -> jax.Array:
        """Returns the scores at the last parameters and at their average, f32[2]."""
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *evaluated(opt_state, params))
        return jax.vmap(self.problem.score, in_axes=(0, None))(both, moment)

    def _step(
        self,
        tx: optax.GradientTransformationExtraArgs,
        evaluated: Evaluated,
        needs_value_fn: bool,
        state: GeneratedState,
        inputs: Any,
    ) -> tuple[GeneratedState, jax.Array]:
        number, key, is_scored = inputs
        problem = self.problem
        batch, env = problem.observe(state.params, state.env, key, self._moment(number))
        loss, grads = jax.value_and_grad(problem.loss)(state.params, batch)
        extra: dict[str, Any] = {"value": loss}
        if needs_value_fn:
            extra |= {"grad": grads, "value_fn": lambda params: problem.loss(params, batch)}
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        sums = state.score_sums
        if self._scored.any():
            scores = partial(self._scores, evaluated, self._moment(number), opt_state, params)
            # The predicate is the same for all networks, so that vmap keeps the conditional.
            sums = jax.lax.cond(is_scored, lambda: sums + scores(), lambda: sums)
        return GeneratedState(params, opt_state, env, state.key, sums), loss
