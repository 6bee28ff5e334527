"""How much memory a function takes for itself, told from its program before it is compiled.

Counted is the first argument and of what a call makes what depends on it, for as long as something
still reads it: the most bytes that are alive at once. The compiler fuses operations and so
needs less; it may also choose a layout that needs more.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.extend import core


def bytes_of_a_call(fn: Callable[[Any, Any], Any], varied: Any, shared: Any) -> int:
    """The bytes of `varied` and of all that `fn(varied, shared)` makes of it at once.

    Example:
      >>> import jax.numpy as jnp
      >>> product = lambda w, x: jnp.sum(x @ w)  # 4 numbers, 20 products and their sum
      >>> bytes_of_a_call(product, jnp.ones(4), jnp.ones((20, 4)))
      100
    """
    program = jax.make_jaxpr(fn)(varied, shared).jaxpr
    return _most_alive(program, program.invars[: len(jax.tree.leaves(varied))])


def _most_alive(program: Any, inputs: Sequence[Any]) -> int:
    """The most bytes at once of the inputs and of what is made of them."""
    last_read = {var: i for i, made in enumerate(program.eqns) for var in _variables(made.invars)}
    last_read |= dict.fromkeys(_variables([*program.outvars, *inputs]), len(program.eqns))
    varied, alive = {*inputs}, {*inputs}
    most = _bytes(alive)
    for i, equation in enumerate(program.eqns):
        if varied.isdisjoint(_variables(equation.invars)):
            continue
        inner = [_beyond_its_inputs(sub) for sub in core.jaxprs_in_params(equation.params)]
        before = _bytes(alive)
        varied.update(equation.outvars)
        alive.update(equation.outvars)
        most = max(most, _bytes(alive), before + max(inner, default=0))
        alive = {var for var in alive if last_read.get(var, -1) > i}
    return most


def _beyond_its_inputs(program: Any) -> int:
    return _most_alive(program, program.invars) - _bytes({*program.invars})


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if isinstance(atom, core.Var)]


def _bytes(variables: Iterable[Any]) -> int:
    return sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in variables)
