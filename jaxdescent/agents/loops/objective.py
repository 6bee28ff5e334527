"""Calls a user's loss function and checks its return value.

    loss_fn(params, batch, [model_state=], [key=]) -> loss, or (loss, aux)

`aux` maps names to scalars that are reported. With a model state, `aux["model_state"]` is the new
one.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import validation
from jaxdescent.agents.arguments import noting_one_agent

LOSS = "loss"
"""Name of the loss in reports."""


class Objective(NamedTuple):
    """A loss function and how to call it.

    Attributes:
      loss_fn: the user's loss function.
      value_fn: Called as `value_fn(params, validation_data)`, with `model_state=` if there is
        one; returns a value. None for the loss, without a key.
      needs_rng: whether `loss_fn` takes `key=`.
      has_aux: whether `loss_fn` returns `aux`, even without a model state.
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
        """Returns an agent's loss, its reports and the new model state: (loss, (aux, state)).

        Raises:
          TypeError: `loss_fn` does not return (loss, aux) where it must.
          ValueError: the loss or a report is not a scalar, the model state changes its shapes, or
            integers in it become fractions.
        """
        extra = {"key": key} if self.needs_rng else {}
        with noting_one_agent("loss_fn", params), validation.tracing("loss_fn"):
            result = self.loss_fn(params, batch, **self._state_keyword(model_state), **extra)
        loss, aux = self._split(result)
        if isinstance(loss, tuple):
            raise ValueError(
                f"loss_fn must return a real scalar, got a tuple of {len(loss)}; with has_aux=True "
                "it returns (loss, aux)"
            )
        validation.check_scalar("loss_fn", loss)
        if self.stateful:
            if "model_state" not in aux:
                raise ValueError(
                    "loss_fn must return the new model state as aux['model_state'], got only "
                    f"{sorted(aux)}"
                )
            new = aux.pop("model_state")
            validation.shaped_like("aux['model_state']", new, model_state, "model_state")
            model_state = jax.tree.map(_cast_like, new, model_state)
        if LOSS in aux:
            raise ValueError(f"aux must not hold {LOSS!r}, the name of the loss itself")
        for name, number in aux.items():
            if not isinstance(name, str):
                raise ValueError(f"aux must have strings as keys, got {name!r}")
            if not _is_real(number):
                raise ValueError(
                    f"aux must hold real numbers, got {validation.shown(number)} for {name!r}"
                )
            if jnp.shape(number):
                raise ValueError(
                    f"aux must hold scalars, got shape {jnp.shape(number)} for {name!r}"
                )
        return loss, ({LOSS: loss, **aux}, model_state)

    def value(self, params: Any, model_state: Any, validation_data: Any) -> jax.Array:
        """Returns an agent's value on validation data.

        Raises:
          ValueError: the value is not a scalar.
        """
        state = self._state_keyword(model_state)
        function = "loss_fn" if self.value_fn is None else "value_fn"
        with validation.tracing(function):
            if self.value_fn is not None:
                value = self.value_fn(params, validation_data, **state)
            else:
                self._check_keyless(params, validation_data, state)
                value, _ = self._split(self.loss_fn(params, validation_data, **state))
        validation.check_scalar(function, value)
        return value

    def _check_keyless(self, params: Any, validation_data: Any, state: dict[str, Any]) -> None:
        """Raises unless the loss can be called without a key."""
        if not self.needs_rng:
            return
        try:
            inspect.signature(self.loss_fn).bind(params, validation_data, **state)
        except TypeError:
            raise ValueError(
                "value_fn must be given with validation_data where loss_fn cannot be called "
                "without key=, got None; or give key a default of None in loss_fn"
            ) from None
        except ValueError:  # some callables have no signature
            return

    def _state_keyword(self, model_state: Any) -> dict[str, Any]:
        # Rebuilt, since Flax variables may only be changed in the trace that made them.
        rebuilt = jax.tree.map(lambda x: x, model_state)
        return {"model_state": rebuilt} if self.stateful else {}

    def _split(self, result: Any) -> tuple[Any, dict[str, Any]]:
        if not self.has_aux and not self.stateful:
            return result, {}
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
            raise TypeError(
                "loss_fn must return (loss, aux) with aux a mapping, where has_aux or a model "
                f"state is given, got {validation.shown(result)}"
            )
        return result[0], dict(result[1])


def _is_real(value: Any) -> bool:
    if isinstance(value, (bool, int, float)):
        return True
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return hasattr(value, "dtype") and any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def _cast_like(new: Any, old: jax.Array) -> jax.Array:
    new = jnp.asarray(new)
    if jnp.issubdtype(new.dtype, jnp.floating) and not jnp.issubdtype(old.dtype, jnp.floating):
        raise ValueError(
            f"aux['model_state'] must have the kinds of dtypes of model_state, got {new.dtype} "
            f"for {old.dtype}"
        )
    return new.astype(old.dtype)
