"""Data flow in a jaxpr: the inputs that outputs depend on, and transformations of jaxprs.

A tower keeps the previous parameters only if the update reads them, and warns about a
hyperparameter that cannot move the parameters. Both are questions of data flow, answered by a
walk from the outputs of a jaxpr back to its inputs. A loop counts as reading all its operands,
which may report too many inputs as read.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from jaxdescent import jax_internals as core

_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint")


def reads(jaxpr: core.ClosedJaxpr, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns for each argument of a jaxpr if the outputs depend on it.

    Args:
      jaxpr: the result of `jax.make_jaxpr(fn)(*args)`.
      args: the arguments.

    Returns:
      A tuple of trees like `args` with a bool for each leaf.

    Example:
      >>> import jax.numpy as jnp
      >>> reads(jax.make_jaxpr(lambda x, y: x + jnp.zeros_like(y))(1.0, 2.0), (1.0, 2.0))
      (True, False)
    """
    live = _live_inputs(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return jax.tree.unflatten(jax.tree.structure(args), live)


def _live_inputs(jaxpr: core.Jaxpr, live_outputs: Iterable[bool]) -> list[bool]:
    outputs = zip(jaxpr.outvars, live_outputs, strict=True)
    live = {v for v, wanted in outputs if wanted and isinstance(v, core.Var)}
    for eqn in reversed(jaxpr.eqns):
        wanted = [v in live for v in eqn.outvars]
        if not any(wanted) and not eqn.effects:
            continue
        operands = zip(eqn.invars, _used_operands(eqn, wanted), strict=True)
        live.update(v for v, used in operands if used and isinstance(v, core.Var))
    return [v in live for v in jaxpr.invars]


def _used_operands(eqn: core.JaxprEqn, wanted: list[bool]) -> list[bool]:
    if eqn.primitive.name == "cond":
        branches = [_live_inputs(branch.jaxpr, wanted) for branch in eqn.params["branches"]]
        return [True, *(any(used) for used in zip(*branches, strict=True))]
    if (inner := called(eqn)) is not None:
        return _live_inputs(inner.jaxpr, wanted)
    return [True] * len(eqn.invars)


def called(eqn: core.JaxprEqn, calls: Sequence[str] = _CALLS) -> core.ClosedJaxpr | None:
    """Returns the function of an equation that only calls a function; None for other equations."""
    if eqn.primitive.name not in calls:
        return None
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if not isinstance(inner, core.Jaxpr):
        return inner
    return core.ClosedJaxpr(inner, getattr(inner, "consts", ()))  # which jax 0.12 stores there


def inlined(jaxpr: core.ClosedJaxpr, calls: Sequence[str] = _CALLS) -> core.ClosedJaxpr:
    """Returns the same function without inner calls, so that each variable is defined once.

    Example:
      >>> import jax.numpy as jnp
      >>> jaxpr = jax.make_jaxpr(lambda x: jnp.where(x > 0, x, 0))(1.0)
      >>> holds(jaxpr, "jit"), holds(inlined(jaxpr), "jit")
      (True, False)
    """

    def run(*args: Any) -> list[Any]:
        return _run(jaxpr.jaxpr, [*jaxpr.consts, *args], calls)

    return jax.make_jaxpr(run)(*jaxpr.in_avals)


def _run(jaxpr: core.Jaxpr, args: Sequence[Any], calls: Sequence[str]) -> list[Any]:
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], args, strict=True))

    def value_of(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        operands = [value_of(atom) for atom in eqn.invars]
        if (inner := called(eqn, calls)) is not None:
            results = _run(inner.jaxpr, [*inner.consts, *operands], calls)
        else:
            results = core.bind(eqn, operands)
        values.update(zip(eqn.outvars, results, strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def cut(jaxpr: core.Jaxpr, outputs: Sequence[Any], given: Callable[[Any], bool]) -> core.Jaxpr:
    """Returns the part of a jaxpr that computes some of its atoms.

    Args:
      jaxpr: a jaxpr without inner calls.
      outputs: atoms of the jaxpr.
      given: called with a variable; returns True if its value is given, so that the walk back
        stops there.

    Returns:
      A jaxpr of the variables at which the walk stopped, which computes the outputs.
    """
    needed = dict.fromkeys(v for v in outputs if isinstance(v, core.Var))
    eqns = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed and not given(v) for v in eqn.outvars):
            eqns.append(eqn)
            needed.update(dict.fromkeys(v for v in eqn.invars if isinstance(v, core.Var)))
    made = {v for eqn in eqns for v in eqn.outvars}
    return jaxpr.replace(
        constvars=[],
        invars=[v for v in needed if given(v) or v not in made],
        outvars=list(outputs),
        eqns=eqns[::-1],
    )


def deduplicated(jaxpr: core.ClosedJaxpr, *, final: bool = False) -> core.ClosedJaxpr:
    """Returns the same function without inner calls, with equal computations done once.

    If `final`, custom derivative rules are dropped as well.
    """
    flat = inlined(jaxpr, (*_CALLS, "custom_jvp_call") if final else _CALLS)
    first: dict[Any, Any] = {}
    known: dict[Any, Any] = {}

    def rename(atom: Any) -> Any:
        return known.get(atom, atom) if isinstance(atom, core.Var) else atom

    eqns = []
    for eqn in flat.jaxpr.eqns:
        operands = [rename(atom) for atom in eqn.invars]
        key = (eqn.primitive, str(eqn.params), tuple(map(_identity, operands)))
        if key in first and not eqn.effects:
            known.update(zip(eqn.outvars, first[key], strict=True))
        else:
            first[key] = eqn.outvars
            eqns.append(eqn.replace(invars=operands))
    outputs = [rename(atom) for atom in flat.jaxpr.outvars]
    return core.ClosedJaxpr(flat.jaxpr.replace(eqns=eqns, outvars=outputs), flat.consts)


def _identity(atom: Any) -> Any:
    return ("literal", str(atom.val), atom.aval) if isinstance(atom, core.Literal) else atom


def reached(jaxpr: core.Jaxpr, source: Any) -> set[Any]:
    """Returns the variables that depend on one variable of a jaxpr without inner calls."""
    found = {source}
    for eqn in jaxpr.eqns:
        if not found.isdisjoint(v for v in eqn.invars if isinstance(v, core.Var)):
            found.update(eqn.outvars)
    return found


def holds(jaxpr: core.ClosedJaxpr, *primitives: str) -> bool:
    """True if a jaxpr contains one of the named primitives, at any depth.

    Example:
      >>> loop = lambda x: jax.lax.while_loop(lambda x: x < 3, lambda x: x + 1, x)
      >>> holds(jax.make_jaxpr(loop)(0), "while")
      True
    """
    return _holds(jaxpr.jaxpr, primitives)


def _holds(jaxpr: core.Jaxpr, primitives: tuple[str, ...]) -> bool:
    if any(eqn.primitive.name in primitives for eqn in jaxpr.eqns):
        return True
    return any(_holds(inner, primitives) for inner in core.subjaxprs(jaxpr))
