"""All that this package uses of JAX outside of JAX's stable API: programs (jaxprs) as data.

A release of JAX may rename or remove any of it. No other file imports from `jax.extend`,
`jax.interpreters` or `jax._src`. If names are gone, the import of this file fails with the list of
them; `missing_names` also checks the attributes on which the package relies.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import jax

_NAMES = {
    "jax.extend.core": (
        *("ClosedJaxpr", "Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var"),
        *("jaxpr_as_fun", "jaxprs_in_params", "subjaxprs"),
    ),
    "jax.interpreters.partial_eval": ("dce_jaxpr",),
}
_ATTRIBUTES = {
    "ClosedJaxpr": ("consts", "in_avals", "jaxpr", "out_avals"),
    "Jaxpr": ("constvars", "eqns", "invars", "outvars", "replace"),
    "JaxprEqn": ("ctx", "effects", "invars", "outvars", "params", "primitive", "replace"),
    "Literal": ("aval", "val"),
    "Primitive": ("bind", "get_bind_params", "multiple_results"),
    "Var": ("aval",),
}


def _missing_from_modules() -> list[str]:
    found = []
    for module, names in _NAMES.items():
        try:
            loaded = importlib.import_module(module)
        except ImportError:
            found.append(module)
        else:
            found += [f"{module}.{name}" for name in names if not hasattr(loaded, name)]
    return found


def missing_names() -> list[str]:
    """Returns the names that this package uses and that the installed JAX lacks.

    Example:
      >>> missing_names()
      []
    """
    core = importlib.import_module("jax.extend.core")
    return _missing_from_modules() + [
        f"jax.extend.core.{kind}.{name}"
        for kind, names in _ATTRIBUTES.items()
        for name in names
        if hasattr(core, kind) and not hasattr(getattr(core, kind), name)
    ]


if _gone := _missing_from_modules():
    raise ImportError(
        f"jax must provide {', '.join(_gone)}, which jaxdescent uses, got jax {jax.__version__}; "
        "install an earlier release of jax"
    )

from jax.extend.core import (  # noqa: E402
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    Var,
    jaxpr_as_fun,
    jaxprs_in_params,
    subjaxprs,
)
from jax.interpreters.partial_eval import dce_jaxpr  # noqa: E402

__all__ = [
    "ClosedJaxpr",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Var",
    "bind",
    "jaxpr_as_fun",
    "jaxprs_in_params",
    "missing_names",
    "subjaxprs",
    "without_dead_code",
]


def bind(eqn: JaxprEqn, operands: Sequence[Any]) -> Sequence[Any]:
    """Returns the results of an equation at other operands."""
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
    return results if eqn.primitive.multiple_results else [results]


def without_dead_code(jaxpr: ClosedJaxpr) -> Jaxpr:
    """Returns a jaxpr without the equations that no output depends on."""
    return dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))[0]
