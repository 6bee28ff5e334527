"""Shapes and kinds of an equation's operands."""

import math
from typing import Any

import jax
import numpy as np
from jax.extend import core


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of an operand or a result."""
    return variable.aval.shape


def size(variable: Any) -> int:
    """How many elements it has."""
    return math.prod(variable.aval.shape)


def is_complex(variable: Any) -> bool:
    """Whether its elements are complex."""
    return jax.dtypes.issubdtype(variable.aval.dtype, np.complexfloating)


def real_per_complex(eqn: core.JaxprEqn) -> int:
    """How many real multiply-adds one of this equation is.

    Four where both factors are complex, two where one is; a lone operand is both.
    """
    factors = [is_complex(operand) for operand in eqn.invars[:2]]
    if all(factors):
        return 4
    return 2 if any(factors) else 1
