"""The rows of our table: the paper's rows, their reruns and `jd.self_tuning`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import optax

import jaxdescent as jd
from experiments.studies.gdtuo_table import rules
from experiments.studies.gdtuo_table.published import Published, PublishedRow
from experiments.studies.gdtuo_table.training import TableRow

SELF_TUNING = {
    "self-tuning SGD": optax.sgd,
    "self-tuning momentum": partial(optax.sgd, momentum=0.9),
    "self-tuning Adam": optax.adam,
}


def paper_row(row: PublishedRow, *, compare: bool) -> TableRow:
    """Returns a row of the paper, without its rerun.

    Args:
      row: of the paper.
      compare: True to show the paper's numbers beside ours.
    """
    if row.learned is None:
        defaults = rules.RULES[row.base].starts
        return _fixed_row(row.name, row.base, defaults, row.published if compare else None)
    bottom = row.levels[0].rule

    def get_learned(state: Any) -> dict[str, jax.Array]:
        return rules.from_raw_values(bottom, jd.get_hyperparams(state)[0])

    return TableRow(
        row.name,
        program=row.name,
        make_optimizer=partial(rules.tower, row.levels),
        get_learned=get_learned,
        learns=True,
        published=row.published if compare else None,
        paper_learned={name: row.learned[name] for name in rules.RULES[bottom].starts}
        if compare
        else None,
    )


def rerun_row(row: PublishedRow, values: Mapping[str, float], *, compare: bool) -> TableRow:
    """Returns the plain rule with the values that the tower learned as fixed hyperparameters."""
    values = {**rules.RULES[row.base].starts, **values}
    return _fixed_row(f"{row.name} (x)", row.base, values, row.rerun if compare else None)


def _fixed_row(
    name: str, rule: str, values: Mapping[str, float], published: Published | None
) -> TableRow:
    def make_optimizer() -> optax.GradientTransformation:
        return optax.inject_hyperparams(rules.RULES[rule].factory)(
            **rules.to_raw_values(rule, values)
        )

    def get_learned(state: Any) -> dict[str, jax.Array]:
        return rules.from_raw_values(rule, {name: state.hyperparams[name] for name in values})

    program = f"fixed {rule}"
    return TableRow(name, program, make_optimizer, get_learned, published=published)


def self_tuning_row(name: str) -> TableRow:
    """Returns the row of `jd.self_tuning` for one of `SELF_TUNING`."""

    def make_optimizer() -> optax.GradientTransformation:
        return jd.self_tuning(SELF_TUNING[name])

    def get_learned(state: Any) -> dict[str, jax.Array]:
        return {"alpha": jd.get_hyperparams(state)[0]["learning_rate"]}

    def get_tested(network: Any, state: Any) -> Any:
        return jd.averaged_params(state, network)

    return TableRow(name, name, make_optimizer, get_learned, learns=True, get_tested=get_tested)
