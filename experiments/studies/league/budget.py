"""A budget of gradients for optimizers with a line search."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class BudgetState(NamedTuple):
    """State of `within_budget`.

    Attributes:
      inner_state: the optimizer's state.
      gradients: i32[], evaluations of a loss and its gradient so far, the first one included.
    """

    inner_state: Any
    gradients: jax.Array


def within_budget(
    tx: optax.GradientTransformationExtraArgs, gradients: int
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that makes no update if its line search would exceed the budget.

    Args:
      tx: `optax.lbfgs`, or another optimizer with optax's zoom line search. The gradient at the
        accepted step is the line search's last one, and is not counted again.
      gradients: the budget, the gradient at the start included.
    """

    def init(params: Any) -> BudgetState:
        return BudgetState(tx.init(params), jnp.ones((), jnp.int32))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, BudgetState]:
        moves, inner_state = tx.update(updates, state.inner_state, params, **extra)
        searched = optax.tree.get(inner_state, "num_linesearch_steps")
        used = state.gradients + jnp.asarray(searched, jnp.int32)
        new = BudgetState(inner_state, used)
        affordable = used <= gradients
        moves = jax.tree.map(lambda x: jnp.where(affordable, x, 0), moves)
        return moves, optax.tree.where(affordable, new, state)

    return optax.GradientTransformationExtraArgs(init, update)
