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
    """How many real multiply-adds one of this equation is: four make a complex one."""
    return 4 if is_complex(eqn.invars[0]) else 1
