"""Replay: running the last update again on its own inputs.

The inputs are hyperparameters, gradients, inner state, and the parameters and extra arguments if
the update reads them, all from the last step. The current parameters cannot stand in for the last
ones if the state depends on them, as for weight decay before momentum, or for Prodigy.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import jax_internals as core
from jaxdescent.numerics import all_finite
from jaxdescent.towers import applied
from jaxdescent.towers.replay import safe_derivatives
from jaxdescent.towers.replay.contraction import Contraction, contract, contract_traces
from jaxdescent.towers.replay.tracing import TracedUpdate, UpdateRecord


class Step(NamedTuple):
    """A step of the inner optimizer.

    Attributes:
      updates: the inner optimizer's updates from the present gradient.
      record: what is kept of the step.
      skipped_record: what is kept if the present batch is skipped.
    """

    updates: Any
    record: UpdateRecord
    skipped_record: UpdateRecord


class Replay(NamedTuple):
    """The last update as a program on all its inputs.

    Attributes:
      previous: the record of the last update, with the state before it.
      program: the update.
    """

    previous: UpdateRecord
    program: TracedUpdate

    def contract(self, grads: Any, has_previous: jax.Array) -> tuple[Contraction, jax.Array]:
        """Returns the hypergradient, and bool[], True if `grads` is finite."""
        given = (self.program.jaxpr.consts, *self.program.args)
        found, _ = contract(
            self._run_safely,
            self.previous.hyperparams,
            given,
            grads,
            has_previous,
            mode=self.program.mode,
        )
        return found, all_finite(grads)

    def sample(self) -> jax.Array:
        """Returns the last update at the coordinates of `applied.coordinates`."""
        return applied.coordinates(self.program.run()[0])

    def contract_traces(
        self, traces: Any, decay: Any, grads: Any, has_previous: jax.Array
    ) -> tuple[Contraction, dict[str, Any]]:
        """Returns the hypergradient along the traces, and the traces with this update added."""
        given = (self.program.jaxpr.consts, *self.program.args)

        def update(hyperparams: dict[str, Any]) -> Any:
            return self._run_safely(hyperparams, given)[0]

        return contract_traces(
            update, self.previous.hyperparams, traces, decay, grads, has_previous
        )

    def _run_safely(self, hyperparams: dict[str, Any], given: Any) -> tuple[Any, Any]:
        consts, inputs, others = given
        leaves = jax.tree.leaves((inputs._replace(hyperparams=hyperparams), others))
        closed = core.ClosedJaxpr(self.program.jaxpr.jaxpr, consts)
        return self.program.outputs.unflatten(safe_derivatives.evaluate(closed, *leaves))

    def step(
        self,
        tx: Any,
        present: UpdateRecord,
        extra_args: Mapping[str, Any],
        *,
        ready: jax.Array,
        usable: jax.Array,
    ) -> Step:
        """Makes the present step, from the state that the last update left.

        Args:
          tx: the inner optimizer at the present hyperparameters.
          present: the present step's record, without a state.
          extra_args: of the present update.
          ready: bool[], True if there is a last update.
          usable: bool[], True if the present batch will be used; not needed here.
        """
        del usable
        state = optax.tree.where(ready, self.program.run()[1], self.previous.state)
        updates, _ = tx.update(present.grads, state, present.params, **extra_args)
        kept = present if self.previous.params is not None else present._replace(params=None)
        zeros = jax.tree.map(jnp.zeros_like, self.previous.grads)
        skipped = self.previous._replace(state=state, grads=zeros)
        return Step(updates, kept._replace(state=state), skipped)
