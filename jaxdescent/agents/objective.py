"""What is asked of a user's loss function, and what its answer means.

    loss_fn(params, batch, [model_state=], [key=]) -> loss, or (loss, aux)

`aux` maps names to numbers that are reported; under "model_state" it holds the new state, if
the model has one.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.agents.arguments import check_scalar

LOSS = "loss"
"""The name of the loss among what is reported."""


class Objective(NamedTuple):
    """A loss function and how to call it.

    Attributes:
      loss_fn: the user's.
      value_fn: from (params, held_out) to a value, with `model_state=` if there is one; None for
        the loss, without a key.
      needs_rng: whether `loss_fn` takes `key=`.
      has_aux: whether it returns `aux`, even without a model state.
      stateful: whether there is a model state.
    """

    loss_fn: Callable[..., Any]
    value_fn: Callable[..., Any] | None
    needs_rng: bool
    has_aux: bool
    stateful: bool

    def loss(
        self, params: Any, model_state: Any, batch: Any, key: jax.Array
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        """An agent's loss, what is reported of it, and the new model state.

        Raises:
          TypeError: `loss_fn` does not return what it has to.
          ValueError: a loss or what is reported is no scalar, or the state's shapes change, or
            whole numbers in it become fractions.
        """
        extra = {"key": key} if self.needs_rng else {}
        answer = self.loss_fn(params, batch, **self._state(model_state), **extra)
        loss, aux = self._parted(answer)
        check_scalar("loss_fn", loss)
        if self.stateful:
            if "model_state" not in aux:
                raise ValueError(
                    "loss_fn must return the new state as aux['model_state'], got only "
                    f"{sorted(aux)}"
                )
            new = aux.pop("model_state")
            validation.shaped_like("aux['model_state']", new, model_state, "model_state")
            model_state = jax.tree.map(_as_before, new, model_state)
        if LOSS in aux:
            raise ValueError(f"aux must not hold {LOSS!r}, the name of the loss itself")
        for name, number in aux.items():
            if not isinstance(name, str):
                raise ValueError(f"aux must have strings as keys, got {name!r}")
            if not _is_real(number):
                raise ValueError(f"aux must hold real numbers, got {number!r} for {name!r}")
            if jnp.shape(number):
                raise ValueError(
                    f"aux must hold scalars, got shape {jnp.shape(number)} for {name!r}"
                )
        return loss, ({LOSS: loss, **aux}, model_state)

    def value(self, params: Any, model_state: Any, validation_data: Any) -> jax.Array:
        """An agent's value on held-out examples.

        Raises:
          ValueError: it is no scalar.
        """
        if self.value_fn is not None:
            value = self.value_fn(params, validation_data, **self._state(model_state))
        else:
            value, _ = self._parted(
                self.loss_fn(params, validation_data, **self._state(model_state))
            )
        check_scalar("value_fn", value)
        return value

    def _state(self, model_state: Any) -> dict[str, Any]:
        # Rebuilt, since Flax's variables may be changed only in the trace that made them.
        rebuilt = jax.tree.map(lambda x: x, model_state)
        return {"model_state": rebuilt} if self.stateful else {}

    def _parted(self, answer: Any) -> tuple[Any, dict[str, Any]]:
        if not self.has_aux and not self.stateful:
            return answer, {}
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
            raise TypeError(
                "loss_fn must return (loss, aux) with aux a mapping, where has_aux or a model "
                f"state is given, got {answer!r}"
            )
        return answer[0], dict(answer[1])


def _is_real(value: Any) -> bool:
    if isinstance(value, (bool, int, float)):
        return True
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return hasattr(value, "dtype") and any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def _as_before(new: Any, old: jax.Array) -> jax.Array:
    new = jnp.asarray(new)
    fractions = [jnp.issubdtype(x.dtype, jnp.floating) for x in (new, old)]
    if fractions == [True, False]:
        raise ValueError(
            f"aux['model_state'] must have model_state's kinds of numbers, got {new.dtype} for "
            f"{old.dtype}"
        )
    return new.astype(old.dtype)
