"""Shapes and dtypes of an equation's operands."""

import math
from typing import Any

import jax
import numpy as np

from jaxdescent import jax_internals as core


def shape(variable: Any) -> tuple[int, ...]:
    """Returns the shape of an operand or a result."""
    return variable.aval.shape


def size(variable: Any) -> int:
    """Returns the number of elements of an operand or a result."""
    return math.prod(variable.aval.shape)


def is_complex(variable: Any) -> bool:
    """True if the elements of an operand or a result are complex."""
    return jax.dtypes.issubdtype(variable.aval.dtype, np.complexfloating)


def real_per_complex(eqn: core.JaxprEqn) -> int:
    """Returns the number of real multiply-adds in one multiply-add of an equation.

    It is 4 if both factors are complex, and 2 if one is complex. A single operand is both factors.
    """
    factors = [is_complex(operand) for operand in eqn.invars[:2]]
    if all(factors):
        return 4
    return 2 if any(factors) else 1
