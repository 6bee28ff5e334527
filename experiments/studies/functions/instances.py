"""Test functions, drawn anew for each run: shifted, rotated and scaled to the unit box.

In the unit box a learning rate means the same for all functions. Agents may leave it: the functions
have no lower values outside.
"""

import dataclasses
from collections.abc import Sequence

import jax

import jaxdescent as jd
from experiments.instances import Instances, draw_problems, share_function


def draw_instances(names: Sequence[str], dimension: int, seeds: Sequence[int]) -> list[Instances]:
    """Draws functions of the classic suite, one instance per seed."""

    def draw(key: jax.Array) -> dict[str, jd.Problem]:
        suite = jd.problems.classic_suite(dimension, key=key, rotated=True)
        return {name: dataclasses.replace(suite[name], bounds=None).in_unit_box() for name in names}

    drawn, keys = draw_problems(draw, seeds)
    return share_function({name: drawn[name] for name in names}, keys)
