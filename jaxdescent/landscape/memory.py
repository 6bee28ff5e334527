"""An estimate of the memory that a call needs, from its jaxpr, before it is compiled.

The estimate is the peak number of live bytes of the first argument and of all intermediate values
that depend on it. XLA may need less, because it fuses operations, or more, because of the layouts
that it chooses.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from jaxdescent import jax_internals as core


def peak_bytes(fn: Callable[[Any, Any], Any], varied: Any, shared: Any) -> int:
    """Returns the peak live bytes of `varied` and of values computed from it.

    Example:
      >>> import jax.numpy as jnp
      >>> def product(w, x):  # 4 numbers, 20 products and their sum
      ...     return jnp.sum(x @ w)
      >>> peak_bytes(product, jnp.ones(4), jnp.ones((20, 4)))
      100
    """
    program = jax.make_jaxpr(fn)(varied, shared).jaxpr
    return _peak_live_bytes(program, program.invars[: len(jax.tree.leaves(varied))])


def _peak_live_bytes(program: Any, inputs: Sequence[Any]) -> int:
    """Returns the peak live bytes of the inputs and of values computed from them."""
    last_read = {var: i for i, eqn in enumerate(program.eqns) for var in _variables(eqn.invars)}
    last_read |= dict.fromkeys(_variables([*program.outvars, *inputs]), len(program.eqns))
    varied, alive = {*inputs}, {*inputs}
    most = _bytes(alive)
    for i, equation in enumerate(program.eqns):
        if varied.isdisjoint(_variables(equation.invars)):
            continue
        inner = [_bytes_beyond_inputs(sub) for sub in core.jaxprs_in_params(equation.params)]
        before = _bytes(alive)
        varied.update(equation.outvars)
        alive.update(equation.outvars)
        most = max(most, _bytes(alive), before + max(inner, default=0))
        alive = {var for var in alive if last_read.get(var, -1) > i}
    return most


def _bytes_beyond_inputs(program: Any) -> int:
    return _peak_live_bytes(program, program.invars) - _bytes({*program.invars})


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if isinstance(atom, core.Var)]


def _bytes(variables: Iterable[Any]) -> int:
    return sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in variables)
