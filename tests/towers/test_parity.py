"""The towers against the published package, number by number over 200 steps."""

import inspect

import jax
import pytest

from jaxdescent.towers import tower
from tests.towers import gdtuo

TOLERANCE = {"f32": 1e-4, "f64": 1e-12}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("case", gdtuo.CASES)
def test_tower_follows_the_published_trace(case, precision):
    with jax.enable_x64(precision == "f64"):
        weights, get_hyperparams = gdtuo.deviations(case, precision)
    assert weights <= TOLERANCE[precision]
    assert get_hyperparams <= TOLERANCE[precision]


def broken_hypergradient(anchor, replacement):
    """`jd.hypergradient` from the library's source with one line changed."""
    source = inspect.getsource(tower)
    assert source.count(anchor) == 1
    namespace = {"__name__": "broken"}
    exec(source.replace(anchor, replacement), namespace)  # noqa: S102
    namespace["HypergradientState"] = tower.HypergradientState  # for isinstance checks
    return namespace["hypergradient"]


ANCHOR = "        tx = spec.build(hyperparams)\n"
MOVE_AFTERWARDS = """\
        tx = spec.build(state.hyperparams)
        previous = previous._replace(hyperparams=state.hyperparams)
"""
SKIP_THE_FIRST_MOVE = """\
        hyperparams, hyper_state = optax.tree.where(
            state.has_previous, (hyperparams, hyper_state), (state.hyperparams, state.hyper_state)
        )
        tx = spec.build(hyperparams)
"""
BREAKAGES = {
    "bottom-up order": lambda: {"hypergradient": broken_hypergradient(ANCHOR, MOVE_AFTERWARDS)},
    "no hyper-step at first": lambda: {
        "hypergradient": broken_hypergradient(ANCHOR, SKIP_THE_FIRST_MOVE)
    },
    "Adam's v from zero": lambda: {"adam_v_start": 0.0},
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_tower_leaves_the_published_trace(breakage):
    with jax.enable_x64(True):
        weights, _ = gdtuo.deviations("Adam/Adam/SGD", "f64", **BREAKAGES[breakage]())
    assert weights > 1e-4


def test_the_source_without_a_breakage_follows_the_published_trace():
    rebuilt = broken_hypergradient(ANCHOR, ANCHOR)
    with jax.enable_x64(True):
        weights, _ = gdtuo.deviations("Adam/Adam/SGD", "f64", hypergradient=rebuilt)
    assert weights <= 1e-12
