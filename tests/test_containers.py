"""Every reader of a state sees through the containers of Flax, Equinox, optax and Orbax."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx
from flax.training import train_state

import jaxdescent as jd
from jaxdescent import containers
from jaxdescent.stability.sharpness.probe import StabilityState

X = jnp.ones((4, 3))


def shifted(tree):
    """The parameters after some steps; their average is where they began."""
    return jax.tree.map(lambda x: x + 1 if eqx.is_inexact_array(x) else x, tree)


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(3, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs)])
        self.tied = self.layers[0]
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def monitored(_):
    def loss(params, batch):
        return optax.tree.norm(params, squared=True)

    return jd.monitor_stability(optax.sgd(0.1), loss, jd.thresholds.sgd(0.1), log_size=3)


# Each returns the state of an optimizer as its framework holds it.
def in_nnx_optimizer(tx):
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    return nnx.Optimizer(model, tx, wrt=nnx.Param).opt_state


def in_nnx_state(tx):
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    return nnx.state(nnx.Optimizer(model, tx, wrt=nnx.Param))


def in_train_state(tx):
    model = nn.Dense(1)
    return train_state.TrainState.create(
        apply_fn=model.apply, params=model.init(jax.random.key(0), X)["params"], tx=tx
    )


def in_equinox(tx):
    model = eqx.nn.MLP(3, 1, 2, 1, key=jax.random.key(0))
    return {"optimizer": tx.init(eqx.filter(model, eqx.is_inexact_array)), "model": model}


def as_flax_serializes_it(tx):
    return flax.serialization.to_state_dict(tx.init({"kernel": jnp.zeros((3, 1))}))


def as_orbax_restores_it(tx, folder):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", tx.init({"kernel": [jnp.zeros((3, 1))]}))
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "state")


HOLDERS = {
    "nnx.Optimizer": in_nnx_optimizer,
    "nnx.state": in_nnx_state,
    "TrainState": in_train_state,
    "Equinox": in_equinox,
    "to_state_dict": as_flax_serializes_it,
    "Orbax": as_orbax_restores_it,
}


@pytest.fixture(params=HOLDERS)
def hold(request, tmp_path) -> Callable:
    def call(tx):
        holder = HOLDERS[request.param]
        return holder(tx, tmp_path) if request.param == "Orbax" else holder(tx)

    return call


def test_hyperparameters_are_read_and_set_in_every_container(hold):
    top = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune={"learning_rate": 0.3})
    tune = {"learning_rate": jd.per_leaf(0.5), "momentum": jd.unconstrained(0.25)}
    state = hold(optax.chain(optax.clip(1.0), jd.hypergradient(optax.sgd, top, tune=tune)))
    state = jd.set_hyperparams(state, {"learning_rate": 2.0}, {"learning_rate": 0.75})
    bottom, above = jd.get_hyperparams(state)
    rates = np.array(jax.tree.leaves(bottom["learning_rate"]))
    np.testing.assert_allclose(rates, 2.0, rtol=1e-6)
    assert float(bottom["momentum"]) == 0.25
    np.testing.assert_allclose(above["learning_rate"], 0.75, rtol=1e-6)


def test_setting_keeps_the_containers(hold):
    state = hold(jd.self_tuning(optax.sgd))
    changed = jd.set_hyperparams(state, {"learning_rate": 2.0})
    assert jax.tree.structure(changed) == jax.tree.structure(state)


def test_stability_is_read_in_every_container(hold):
    state = hold(monitored(None))
    assert jd.get_stability(state).outcome == jd.StabilityOutcome.UNKNOWN
    assert jd.stability_log(state).ratio.shape == (0,)


def test_properties_of_states_in_an_nnx_optimizer():
    stability = in_nnx_optimizer(monitored(None)).stability
    assert stability.outcome == jd.StabilityOutcome.UNKNOWN
    assert np.isnan(stability.last.ratio)
    assert not in_nnx_optimizer(jd.step_sizes.guarded(jd.step_sizes.silver(1.0), 3.0)).due


STATES = {
    "opt_state": lambda optimizer: optimizer.opt_state,
    "optimizer": lambda optimizer: optimizer,
    "nnx.state": nnx.state,
    "pure": lambda optimizer: nnx.as_pure(optimizer.opt_state),
}
PARAMS = {
    "State": lambda model: nnx.state(model, nnx.Param),
    "all variables": nnx.state,
    "pure": lambda model: nnx.as_pure(nnx.state(model, nnx.Param)),
    "dict": lambda model: nnx.to_pure_dict(nnx.state(model, nnx.Param)),
    "Module": lambda model: model,
}


@pytest.mark.parametrize("params", PARAMS)
def test_an_nnx_module_is_updated_by_the_average(params):
    model = Network()
    optimizer = nnx.Optimizer(model, jd.with_average(optax.sgd(0.1)), wrt=nnx.Param)
    begin = nnx.as_pure(nnx.state(model, nnx.Param))
    nnx.update(model, shifted(nnx.state(model, nnx.BatchStat)))
    statistics = nnx.as_pure(nnx.state(model, nnx.BatchStat))
    for state in STATES.values():
        nnx.update(model, shifted(nnx.state(model, nnx.Param)))
        nnx.update(model, jd.averaged_params(state(optimizer), PARAMS[params](model)))
        found = nnx.as_pure(nnx.state(model, nnx.Param))
        jax.tree.map(np.testing.assert_array_equal, found, begin)
    found = nnx.as_pure(nnx.state(model, nnx.BatchStat))
    jax.tree.map(np.testing.assert_array_equal, found, statistics)
    assert model.tied is model.layers[0]


@pytest.mark.parametrize("convert", [dict, flax.core.freeze])
def test_an_average_has_the_container_of_the_parameters(convert):
    params = {"kernel": jnp.zeros((3, 1))}
    tx = jd.with_average(optax.sgd(0.1))
    for initialized in (params, flax.core.freeze(params)):
        average = jd.averaged_params(tx.init(initialized), convert(shifted(params)))
        assert type(average) is type(convert(params))
        np.testing.assert_array_equal(average["kernel"], 0.0)


def test_an_average_is_boxed_as_the_parameters_are():
    initializer = nn.with_partitioning(nn.initializers.zeros, ("in", "out"))
    boxed = nn.Dense(1, kernel_init=initializer).init(jax.random.key(0), X)["params"]
    tx = jd.with_average(optax.sgd(0.1))
    average = jd.averaged_params(tx.init(nn.unbox(boxed)), shifted(boxed))
    assert average["kernel"].names == ("in", "out")
    np.testing.assert_array_equal(average["kernel"].value, 0.0)
    plain = jd.averaged_params(tx.init(boxed), nn.unbox(shifted(boxed)))
    np.testing.assert_array_equal(plain["kernel"], 0.0)


def test_an_average_completes_an_equinox_model():
    model = eqx.nn.MLP(3, 1, 2, 1, key=jax.random.key(0))
    frozen = eqx.tree_at(lambda m: m.layers[1].bias, eqx.filter(model, eqx.is_inexact_array), None)
    average = jd.averaged_params(jd.with_average(optax.sgd(0.1)).init(frozen), shifted(model))
    assert average.activation is model.activation
    np.testing.assert_array_equal(average.layers[0].weight, model.layers[0].weight)
    np.testing.assert_array_equal(average.layers[1].bias, model.layers[1].bias + 1)  # not trained
    assert average(X[0]).shape == (1,)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (None, "params must be the parameters that the optimizer was initialized with, got None"),
        ({"w": jnp.ones(2)}, "got parameters without 'b/0'"),
        ({"params": {"w": jnp.ones(2), "b": [jnp.ones(3)]}}, "got parameters without 'b/0'"),
        (
            {"w": jnp.ones(4), "b": [jnp.ones(3)]},
            r"shapes of the average, got \(4,\) for \(2,\) at 'w'",
        ),
    ],
)
def test_an_average_needs_parameters_like_it(params, message):
    state = jd.with_average(optax.sgd(0.1)).init({"w": jnp.ones(2), "b": [jnp.ones(3)]})
    with pytest.raises(ValueError, match=message):
        jd.averaged_params(state, params)


def test_a_mapping_of_other_fields_is_not_a_state():
    schedule = {"count": jnp.zeros((), jnp.int32)}
    assert containers.find_states(schedule, jd.AverageState, may_be_empty=("inner_state",)) == []
    assert containers.find_states({"average": 1, "count": 2}, jd.AverageState) == []
    assert containers.find_states({"vector": 0.0}, StabilityState, may_be_empty=()) == []


def test_self_tuning_is_frozen_and_described_like_a_tower():
    tune = {"learning_rate": jd.positive(0.5)}
    tower = jd.hypergradient(optax.sgd, optax.sgd(0.1), tune=tune)
    for tx in (tower, jd.with_average(tower), jd.restart_on_divergence(tower)):
        state = optax.chain(optax.clip(1.0), tx).init(X)
        frozen, frozen_state = jd.freeze_hyperparams(tx, state)
        np.testing.assert_allclose(frozen.update(X, frozen_state)[0], -0.5 * X, rtol=1e-6)
        assert jd.describe(tx) == jd.describe(tower)
    tx = jd.self_tuning(optax.sgd)
    state = jd.set_hyperparams(tx.init(X), {"learning_rate": 0.25})
    frozen, frozen_state = jd.freeze_hyperparams(jd.with_average(tx), (state, ()))
    np.testing.assert_allclose(frozen.update(X, frozen_state)[0], -0.25 * X, rtol=1e-6)
    assert jd.describe(tx) == (
        "1: sgd, learning_rate from a range test that begins at 1e-09;\n   carries the average; "
        "update(..., value=loss) lets it restart if the loss diverges"
    )
    with pytest.raises(ValueError, match="state must be of jd"):
        jd.inner_state(tx, tower.init(X))
    for read in (jd.describe, lambda tx: jd.freeze_hyperparams(tx, state)):
        with pytest.raises(TypeError, match="pass the tower itself, with the chain's state"):
            read(optax.chain(optax.clip(1.0), tower))


def test_an_optimizer_frozen_from_nnx_takes_variables_or_arrays():
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.5})
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    frozen, state = jd.freeze_hyperparams(tx, optimizer.opt_state)
    params = nnx.state(model, nnx.Param)
    updates, after = frozen.update(params, state, params)
    assert isinstance(updates["kernel"], nnx.Param)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    pure, _ = frozen.update(nnx.as_pure(params), state, nnx.as_pure(params))
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(updates), pure)


def test_a_state_without_its_types_cannot_be_frozen():
    tx = jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.5})
    with pytest.raises(ValueError, match=r"restore it with a template, such as tx\.init\(params\)"):
        jd.freeze_hyperparams(tx, in_nnx_state(tx))


TRANSFORMATIONS = {
    "tower": lambda: jd.hypergradient(optax.adamw, optax.sgd(0.1), tune={"learning_rate": 0.1}),
    "replayed tower": lambda: jd.hypergradient(
        optax.adamw, optax.sgd(0.1), tune={"learning_rate": 0.1}, method="general"
    ),
    "self-tuning": lambda: jd.self_tuning(optax.adamw),
    "average": lambda: jd.with_average(optax.adamw(0.1)),
    "basin hopping": lambda: jd.basin_hopping(optax.adamw(0.1), period=1, jump=1.0),
    "select": lambda: jd.select_optimizer([optax.adamw(0.1), optax.sgd(0.1)], 0),
    "guarded": lambda: jd.step_sizes.guarded(jd.step_sizes.silver(1.0), 3.0),
    "step over loss": lambda: jd.step_sizes.step_over_loss(0.1),
    "warmup": lambda: jd.step_sizes.catapult_warmup(optax.adamw(1.0), 0.1, steps=5),
    "monitored": lambda: jd.monitor_stability(
        optax.adamw(0.1), model_loss, jd.thresholds.adam(0.1)
    ),
    "scaled": lambda: jd.scale_by_sharpness(optax.adamw, model_loss, jd.thresholds.adam()),
}


def model_loss(model, batch):
    return jnp.sum(model.activation(model.layers[0](X[0])))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_an_unfiltered_equinox_model_serves_as_parameters(name):
    tx = TRANSFORMATIONS[name]()
    model = eqx.nn.MLP(3, 1, 2, 1, activation=jnp.tanh, key=jax.random.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    state = tx.init(params)

    def update(grads, state):
        return tx.update(grads, state, model, value=jnp.ones(()))

    shapes = jax.eval_shape(update, params, state)  # the trace is where it would fail
    assert jax.tree.structure(shapes) == jax.tree.structure((params, state))
    if name != "select":  # which leaves its parameters to others
        with pytest.raises(TypeError, match=r"params must .* arrays.*eqx\.partition"):
            tx.init(model)


def test_agents_may_be_unfiltered_equinox_models():
    models = eqx.filter_vmap(lambda key: eqx.nn.MLP(3, 1, 2, 1, key=key))(
        jax.random.split(jax.random.key(0), 2)
    )
    tx, params = jd.magd(optax.adamw(0.1)), eqx.filter(models, eqx.is_inexact_array)
    state = tx.init(params)
    jax.eval_shape(lambda g, s: tx.update(g, s, models, value=jnp.ones(2)), params, state)
    with pytest.raises(TypeError, match=r"params must .* arrays.*eqx\.partition"):
        tx.init(models)


@pytest.mark.parametrize(
    "read",
    [
        lambda model: jd.sharpness(model_loss, model),
        lambda model: jd.landscape.random_directions(jax.random.key(0), model),
        lambda model: jd.landscape.filter_normalized(model, model),
        lambda model: jd.minimize(model_loss, optax.sgd(0.1), init_params=model, steps=1),
        lambda model: jd.weighted_average(model, jnp.ones(2)),
        lambda model: jd.describe(TRANSFORMATIONS["tower"](), model),
    ],
)
def test_other_functions_say_how_to_filter_an_equinox_model(read):
    model = eqx.nn.MLP(3, 1, 2, 1, activation=jnp.tanh, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"must .*arrays.*eqx\.partition"):
        read(model)


def test_a_missing_loss_names_who_may_have_dropped_it():
    params = {"w": jnp.ones(2)}
    hopping = jd.basin_hopping(optax.sgd(0.1), period=1, jump=1.0)
    inside = optax.chain(optax.clip(1.0), optax.MultiSteps(hopping, 1))
    with pytest.raises(
        ValueError, match=r"MultiSteps inside optax\.chain.*put MultiSteps outermost"
    ):
        inside.update(params, inside.init(params), params, value=jnp.ones(()))
    model = nn.Dense(1)
    state = train_state.TrainState.create(apply_fn=model.apply, params=params, tx=hopping)
    with pytest.raises(ValueError, match=r"override it to call tx\.update"):
        state.apply_gradients(grads=params)
    for tx in (
        jd.basin_hopping(optax.sgd(0.1), period=1, jump=1.0),
        jd.step_sizes.step_over_loss(0.1),
        jd.step_sizes.catapult_warmup(optax.sgd(1.0), 0.1, steps=5),
        jd.magd(optax.sgd(0.1)),
    ):
        with pytest.raises(ValueError, match=r"needs .*value=, the loss.*put MultiSteps outermost"):
            tx.update(params, tx.init(params), params)


def test_our_wrappers_pass_the_loss_through_any_multi_steps():
    def update(updates, state, params=None, *, value):
        return jax.tree.map(lambda x: value * x, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda _: (), update)
    steps = optax.MultiSteps(inner, 1)
    for tx in (jd.with_average(steps), jd.with_average(steps.gradient_transformation())):
        updates, _ = tx.update(X, tx.init(X), X, value=3.0)
        np.testing.assert_array_equal(updates, 3 * X)


class Counter(NamedTuple):
    count: int


class Wrapper(NamedTuple):
    inner: object
    other: object


def test_find_states_returns_states_in_order():
    tree = {"a": Counter(0), "b": [jnp.ones(2), Counter(1)], "c": (Counter(2), None)}
    assert containers.find_states(tree, Counter) == [Counter(0), Counter(1), Counter(2)]


def test_find_states_looks_inside_other_states_but_not_inside_a_match():
    nested = Wrapper(Wrapper(Counter(0), 1.0), Counter(1))
    assert containers.find_states(nested, Counter) == [Counter(0), Counter(1)]
    assert containers.find_states([nested], Wrapper) == [nested]


def test_find_states_returns_an_empty_list_if_there_is_no_match():
    assert containers.find_states({"a": jnp.ones(2), "b": None}, Counter) == []
    assert containers.find_states(jnp.ones(2), Counter) == []


def test_find_states_finds_a_state_inside_optax_wrappers():
    tx = optax.chain(optax.clip(1.0), optax.masked(optax.adam(1e-3), True))
    states = containers.find_states(tx.init(jnp.ones(3)), optax.ScaleByAdamState)
    assert len(states) == 1
    assert states[0].mu.shape == (3,)
