"""Bad arguments of the public functions: the error says which, what came, what is allowed."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import jaxdescent as jd

PARAMS = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
GRADS = {"w": np.full((2, 3), 0.5, np.float32), "b": np.ones(3, np.float32)}
RATE = {"learning_rate": 1e-2}


def saying(*parts):
    """A pattern for a message that holds every part, in any order."""
    return re.compile("".join(f"(?=.*{re.escape(part)})" for part in parts), re.DOTALL)


def tower(factory=optax.adam, hyper_optimizer=None, *, tune=RATE, **kwargs):
    hyper_optimizer = optax.sgd(0.1) if hyper_optimizer is None else hyper_optimizer
    return jd.hypergradient(factory, hyper_optimizer, tune=tune, **kwargs)


@pytest.mark.parametrize(
    ("space", "value", "allowed"),
    [
        *[("positive", v, "(0, inf)") for v in (0, 0.0, -1e-3, [1e-3, -1.0])],
        *[("unit_interval", v, "(0, 1)") for v in (0.0, 1.0, 1.5, -0.1, [0.5, 1.0])],
        *[("unconstrained", v, "finite") for v in (np.nan, -np.inf, [0.0, np.inf])],
        *[(s, np.nan, "finite") for s in ("positive", "unit_interval", "per_leaf")],
        *[(s, np.inf, "finite") for s in ("positive", "unit_interval", "per_leaf")],
    ],
)
def test_a_start_outside_its_space_is_a_value_error(space, value, allowed):
    with pytest.raises(ValueError, match=saying(f"{space}(start)", allowed, f"got {value!r}")):
        getattr(jd, space)(value)


@pytest.mark.parametrize("value", ["fast", None, True, 1j, optax.constant_schedule(0.1)])
@pytest.mark.parametrize("space", ["positive", "unit_interval", "unconstrained", "per_leaf"])
def test_a_start_that_is_not_a_number_is_a_type_error(space, value):
    with pytest.raises(TypeError, match=saying(f"{space}(start)", "a real number", repr(value))):
        getattr(jd, space)(value)


@pytest.mark.parametrize("start", [[0.1, 0.2], jd.positive([0.1, 0.2])])
def test_a_start_per_leaf_is_one_number(start):
    with pytest.raises(ValueError, match=saying("per_leaf(start)", "one number", "shape (2,)")):
        jd.per_leaf(start)


@pytest.mark.parametrize("space", ["positive", "unconstrained"])
def test_a_space_inside_a_space_is_refused(space):
    inner = jd.unit_interval(0.9)
    with pytest.raises(TypeError, match=saying(f"{space}(start)", "UnitInterval")):
        getattr(jd, space)(inner)


@pytest.mark.parametrize("space", ["positive", "unit_interval", "unconstrained"])
def test_a_start_without_numbers_is_refused(space):
    with pytest.raises(ValueError, match=saying(f"{space}(start)", "[]")):
        getattr(jd, space)([])


@pytest.mark.parametrize(
    ("tune", "error", "parts"),
    [
        ({"learning_rate": -1e-3}, ValueError, ["tune['learning_rate']", "(0, inf)", "-0.001"]),
        ({"learning_rate": 0.0}, ValueError, ["tune['learning_rate']", "(0, inf)", "0.0"]),
        ({"learning_rate": np.nan}, ValueError, ["tune['learning_rate']", "finite", "nan"]),
        ({"learning_rate": np.inf}, ValueError, ["tune['learning_rate']", "finite", "inf"]),
        ({"learning_rate": "fast"}, TypeError, ["tune['learning_rate']", "number", "'fast'"]),
        ({"learning_rate": jd.per_leaf(-1.0)}, ValueError, ["['learning_rate']", "inf)", "-1.0"]),
        ({**RATE, "b1": 1.5}, ValueError, ["tune['b1']", "(0, 1)", "1.5"]),
        ({**RATE, "b1": 1.0}, ValueError, ["tune['b1']", "(0, 1)", "1.0", "jd.unconstrained"]),
        ({**RATE, "b1": jd.per_leaf(1.0)}, ValueError, ["tune['b1']", "(0, 1)", "1.0"]),
        ({"rate": 1e-3}, ValueError, ["tune", "'rate'", "adam takes learning_rate, b1, b2, eps"]),
        ({}, ValueError, ["tune", "at least one", "{}"]),
        (["learning_rate"], TypeError, ["tune", "a mapping", "['learning_rate']"]),
        (None, TypeError, ["tune", "a mapping", "None"]),
        ({1: 1e-3}, TypeError, ["tune", "strings", "1"]),
    ],
)
def test_a_bad_tune_is_refused(tune, error, parts):
    with pytest.raises(error, match=saying(*parts)):
        tower(tune=tune)


@pytest.mark.parametrize("start", [0.1, jd.per_leaf(0.1)])
def test_a_bare_number_needs_a_name_with_a_known_space(start):
    parts = (
        "tune['gain'] must",
        "0.1",
        "jd.positive, jd.unit_interval or jd.unconstrained",
        "momentum",
    )
    with pytest.raises(ValueError, match=saying(*parts)):
        tower(lambda gain: optax.sgd(gain), tune={"gain": start})


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (partial(optax.adam, learning_rate=1e-3), "learning_rate"),
        (partial(optax.adam, 1e-3), "learning_rate"),
        (partial(optax.adam, 1e-3, 0.9), "b1"),
        (partial(partial(optax.adam, 1e-3), b1=0.9), "b1"),
        (partial(partial(optax.adam, b2=0.9), 1e-3), "learning_rate"),
    ],
)
def test_a_tuned_name_is_not_also_fixed_in_a_partial(factory, name):
    message = saying(repr(name), "must not be fixed in a partial", "out of the partial")
    with pytest.raises(ValueError, match=message):
        tower(factory, tune={name: 0.5})


@pytest.mark.parametrize(
    ("value", "error", "parts"),
    [
        (0.1, TypeError, ["optax gradient transformation", "0.1", "float"]),
        ((len, len), TypeError, ["optax gradient transformation", "tuple"]),
        (optax.adam, TypeError, ["optax gradient transformation", "adam(...)"]),
    ],
)
def test_the_hyper_optimizer_is_a_transformation(value, error, parts):
    with pytest.raises(error, match=saying("hyper_optimizer", *parts)):
        tower(hyper_optimizer=value)


@pytest.mark.parametrize(
    ("factory", "tune", "error", "parts"),
    [
        (optax.adam(1e-3), RATE, TypeError, ["callable", "got a transformation", "optax.adam"]),
        ("adam", RATE, TypeError, ["callable", "'adam'"]),
        (optax.adam, {"b1": 0.9}, ValueError, ["adam", "b1 alone", "'learning_rate'"]),
        (lambda learning_rate: 3, RATE, TypeError, ["gradient transformation", "3", "int"]),
        (lambda learning_rate: optax.sgd, RATE, TypeError, ["gradient transformation", "sgd("]),
        (
            lambda learning_rate: 3,
            {"learning_rate": jd.per_leaf(0.1)},
            TypeError,
            ["gradient transformation", "3", "int"],
        ),
    ],
)
def test_the_factory_makes_a_transformation_of_the_tuned_names(factory, tune, error, parts):
    with pytest.raises(error, match=saying("factory", *parts)):
        tower(factory, tune=tune)


def searching(search):
    return lambda learning_rate: optax.chain(optax.sgd(learning_rate), search(5))


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (optax.lbfgs, "lbfgs"),
        (contrib.sophia, "sophia"),
        (searching(optax.scale_by_backtracking_linesearch), "lambda"),
        (searching(optax.scale_by_zoom_linesearch), "lambda"),
    ],
)
def test_an_optimizer_that_calls_the_model_is_refused(factory, name):
    message = saying(
        "factory", name, "inside its update", "evaluate the model", "another optimizer"
    )
    with pytest.raises(ValueError, match=message):
        tower(factory)


@pytest.mark.parametrize("search", [optax.lbfgs(), optax.scale_by_backtracking_linesearch(5)])
def test_a_hyper_optimizer_that_calls_a_loss_is_refused(search):
    with pytest.raises(ValueError, match=saying("hyper_optimizer", "line search", "another")):
        tower(hyper_optimizer=search)


def stateless(step):
    """A transformation without a state, from `step(updates, **extra_args)`."""

    def update(updates, state, params=None, **extra_args):
        return (step(updates, **extra_args), state)

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


def scaled(factor, updates):
    return jax.tree.map(lambda g: -factor * g, updates)


def branches_in_init(learning_rate):
    def init(params):
        return jnp.ones(()) if learning_rate > 0 else jnp.zeros(())

    return optax.GradientTransformation(init, lambda u, s, p=None: (scaled(learning_rate, u), s))


@pytest.mark.parametrize(
    "factory",
    [
        lambda learning_rate: optax.sgd(1.0 if learning_rate > 1 else learning_rate),
        lambda learning_rate: optax.sgd(float(learning_rate)),
        lambda learning_rate: optax.sgd(np.sqrt(learning_rate)),
        lambda learning_rate: optax.chain(*map(optax.sgd, range(learning_rate.astype(int)))),
        lambda learning_rate: stateless(lambda u, **_: u if learning_rate > 0 else -u),
        branches_in_init,
    ],
    ids=["branch", "float", "numpy", "index", "branch in update", "branch in init"],
)
def test_a_factory_that_decides_on_a_tuned_value_in_python_is_refused(factory):
    with pytest.raises(ValueError, match=saying("factory", "in Python", "functools.partial")):
        tower(factory, tune={"learning_rate": 2.0})


@pytest.mark.parametrize("signal", ["one_step", jd.one_step, 0.9, ()])
def test_the_signal_must_be_one_of_the_two(signal):
    with pytest.raises(
        TypeError,
        match=saying("signal", "jd.one_step() or jd.eligibility_trace(decay)", f"got {signal!r}"),
    ):
        tower(signal=signal)


@pytest.mark.parametrize(
    ("extra_args", "parts"),
    [
        ({"value_fn": lambda x: x}, ["example arrays", "function", "'value_fn'"]),
        ({"scale": "big"}, ["example arrays", "'big'", "'scale'"]),
        ({1: np.ones(())}, ["strings", "1"]),
        ([], ["a mapping", "[]"]),
        (("scale",), ["a mapping", "('scale',)"]),
    ],
)
def test_extra_args_are_examples_by_name(extra_args, parts):
    with pytest.raises(TypeError, match=saying("extra_args", *parts)):
        tower(extra_args=extra_args)


@pytest.mark.parametrize("name", ["outer_grads", "skip"])
def test_extra_args_do_not_name_what_the_towers_update_takes(name):
    with pytest.raises(ValueError, match=saying("extra_args must not name", name)):
        tower(extra_args={name: np.ones(())})


def on_plateau(learning_rate):
    return optax.chain(optax.sgd(learning_rate), contrib.reduce_on_plateau())


def reads_scale(learning_rate):
    return stateless(lambda u, scale=1.0, **_: scaled(learning_rate * scale, u))


def needs_scale(learning_rate):
    return stateless(lambda u, *, scale, **_: scaled(learning_rate * scale, u))


with_scale = partial(tower, reads_scale, extra_args={"scale": 1.0})
declare = "pass extra_args={'scale': an example array} to hypergradient"
misshapen = {"w": np.ones(3), "b": np.ones(3)}


@pytest.mark.parametrize(
    ("make", "keywords", "parts"),
    [
        (partial(tower, optax.adamw), {"params": None}, ["needs params", "reads them"]),
        (partial(tower, on_plateau), {}, ["value", "missing"]),
        (lambda: tower(optax.sgd, tower(on_plateau)), {}, ["value", "missing"]),
        (with_scale, {}, ["scale", "missing"]),
        (partial(tower, reads_scale), {"scale": jnp.ones(())}, ["'scale'", declare]),
        (partial(tower, reads_scale), {"scale": 2.0}, ["'scale'", declare]),
        (tower, {"outer_grads": {"w": 1.0}}, ["outer_grads"]),
        (tower, {"outer_grads": misshapen}, ["outer_grads", "(3,)", "(2, 3)"]),
    ],
    ids=[
        "no params, which are read",
        "no value, which is read",
        "no value, which a higher level reads",
        "no declared keyword",
        "an undeclared array",
        "an undeclared number",
        "outer_grads of another tree",
        "outer_grads of another shape",
    ],
)
def test_an_update_with_missing_or_wrong_arguments_is_refused(make, keywords, parts):
    tx = make()
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=saying(*parts)):
        tx.update(GRADS, state, **{"params": PARAMS, **keywords})


def test_a_required_keyword_of_the_update_must_be_declared():
    with pytest.raises((TypeError, ValueError), match=saying("'scale'", "extra_args")):
        tower(needs_scale).init(PARAMS)


def shared():
    return tower(optax.sgd).init(PARAMS)


def leafwise():
    return tower(optax.sgd, tune={"learning_rate": jd.per_leaf(0.1)}).init(PARAMS)


def side_by_side():
    return optax.chain(tower(optax.sgd), tower(optax.sgd)).init(PARAMS)


def without_a_tower():
    return optax.adam(1e-3).init(PARAMS)


@pytest.mark.parametrize(
    ("state", "levels", "error", "parts"),
    [
        (shared, [{"b1": 0.5}], ValueError, ["'b1'", "tuned are learning_rate"]),
        (shared, [{"learning_rate": -1.0}], ValueError, ["learning_rate", "(0, inf)", "-1.0"]),
        (shared, [{"learning_rate": np.nan}], ValueError, ["learning_rate", "finite", "nan"]),
        (shared, [{"learning_rate": "fast"}], TypeError, ["learning_rate", "number", "'fast'"]),
        (shared, [{"learning_rate": [0.1, 0.2]}], ValueError, ["learning_rate", "(2,)", "()"]),
        (shared, [{}, {"learning_rate": 0.1}], ValueError, ["levels", "at most 1", "got 2"]),
        (shared, [0.1], TypeError, ["levels", "mapping", "0.1"]),
        (leafwise, [{"learning_rate": {"w": 0.1, "b": 0.0}}], ValueError, ["_rate", "inf)", "0.0"]),
        (leafwise, [{"learning_rate": {"w": 0.1}}], TypeError, ["learning_rate", "{'w': 0.1}"]),
        (without_a_tower, [], ValueError, ["state", "a tower's state", "tuple"]),
        (side_by_side, [RATE], ValueError, ["state", "one tower's state", "2 side by side"]),
    ],
)
def test_hyperparameters_are_set_within_their_space_and_tower(state, levels, error, parts):
    state = state()
    with pytest.raises(error, match=saying(*parts)):
        jd.set_hyperparams(state, *levels)


@pytest.mark.parametrize(
    ("state", "parts"),
    [
        (without_a_tower, ["state", "a tower's state", "tuple"]),
        (side_by_side, ["state", "2 side by side"]),
        (lambda: None, ["state", "a tower's state", "NoneType"]),
    ],
)
def test_a_state_is_read_only_if_it_holds_one_tower(state, parts):
    tx, state = tower(optax.sgd), state()
    for read in (
        jd.get_hyperparams,
        partial(jd.inner_state, tx),
        partial(jd.freeze_hyperparams, tx),
    ):
        with pytest.raises(ValueError, match=saying(*parts)):
            read(state)


@pytest.mark.parametrize("tx", [optax.adam(1e-3), optax.chain(optax.sgd(0.1)), optax.adam, None])
def test_only_a_tower_can_be_inspected(tx):
    message = saying("tx", "jd.hypergradient", type(tx).__name__, "the tower itself")
    state = shared()
    for look in (
        jd.describe,
        lambda tx: jd.inner_state(tx, state),
        lambda tx: jd.freeze_hyperparams(tx, state),
    ):
        with pytest.raises(TypeError, match=message):
            look(tx)


@pytest.mark.parametrize("decay", [-0.1, 1.5, np.nan, [0.5, 0.5]])
def test_a_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"^decay must be"):
        jd.eligibility_trace(decay)


def test_a_trace_rejects_the_fused_method_and_arrays():
    tune, signal = {"learning_rate": 0.1}, jd.eligibility_trace(0.5)
    with pytest.raises(
        ValueError, match=r"'auto' or 'general' with jd.eligibility_trace, got 'fused'"
    ):
        jd.hypergradient(optax.sgd, optax.sgd(1.0), tune=tune, signal=signal, method="fused")
    array = {"learning_rate": jd.positive([0.1, 0.2])}
    with pytest.raises(ValueError, match=r"tune\['learning_rate'\] must be a number, or one per"):
        jd.hypergradient(optax.sgd, optax.sgd(1.0), tune=array, signal=signal)
