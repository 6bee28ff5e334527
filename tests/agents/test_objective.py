"""Tests of loss functions in `fit`: model state, reports, dtypes and errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdescent as jd
from tests.agents.networks import DATA, VALIDATION, loss, predictions, starts

KEY = jax.random.key(0)
SGD = optax.sgd(0.1)
OPTIONS = {
    "key": KEY,
    "steps": 3,
    "steps_per_rung": 1,
    "batch_size": None,
    "rule": jd.pruning.no_pruning(),
}


def averaging(params, batch, *, model_state):
    """Returns the loss; the model state counts steps and averages the predictions."""
    predicted = predictions(params, batch["x"])
    new = {
        "count": model_state["count"] + 1,
        "mean": 0.5 * model_state["mean"] + 0.5 * jnp.mean(predicted),
    }
    return jnp.mean((predicted - batch["y"]) ** 2), {"model_state": new, "bias": new["mean"]}


def test_the_model_state_is_updated_reported_and_kept_with_the_best_parameters():
    first = starts(3)
    state = {"count": np.zeros(3, np.int32), "mean": np.arange(3, dtype=np.float32)}

    def least_at_step_2(params, validation_data, *, model_state):
        return jnp.abs(model_state["count"] - 2.0)

    found = jd.fit(
        averaging,
        SGD,
        DATA,
        init_params=first,
        model_state=state,
        validation_data=VALIDATION,
        value_fn=least_at_step_2,
        record_params=True,
        **OPTIONS,
    )
    params = jax.tree.map(lambda x, path: np.stack([x, *path]), first, found.history.params)
    mean, means = state["mean"], []
    for t in range(3):
        present = jax.tree.map(lambda x, t=t: jnp.asarray(x[t]), params)
        predicted = jax.vmap(predictions, (0, None))(present, DATA["x"])
        mean = 0.5 * mean + 0.5 * np.mean(predicted, 1)
        means.append(mean)
    np.testing.assert_allclose(found.history.aux["bias"], means, rtol=1e-5)
    assert sorted(found.history.aux) == ["bias", "loss"]
    assert found.population.model_state["count"].tolist() == [3] * 3
    # All agents have their least value in the second rung; the first agent is returned.
    assert (found.value, found.id) == (0, 0)
    assert found.model_state["count"] == 2
    np.testing.assert_allclose(found.model_state["mean"], means[1][0], rtol=1e-5)
    chex.assert_trees_all_equal(found.params, jax.tree.map(lambda x: x[2, 0], params))


class Network(nnx.Module):
    """Network with a BatchNorm and dropout."""

    def __init__(self, rngs):
        self.inner = nnx.Linear(3, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)
        self.outer = nnx.Linear(5, 1, rngs=rngs)

    def __call__(self, x, key=None):
        x = self.norm(self.inner(x), use_running_average=key is None)
        if key is not None:
            x = self.dropout(x, rngs=nnx.Rngs(dropout=key))
        else:
            x = self.dropout(x, deterministic=True)
        return self.outer(nnx.relu(x))[..., 0]


def test_flax_networks_with_batch_norm_and_dropout_can_be_fitted():
    graph = nnx.graphdef(Network(nnx.Rngs(0)))

    @jax.vmap
    def init(key):
        return nnx.split(Network(nnx.Rngs(key)), nnx.Param, ...)[1:]

    def network_loss(params, batch, *, model_state, key=None):
        network = nnx.merge(graph, params, model_state)
        error = jnp.mean((network(batch["x"], key) - batch["y"]) ** 2)
        return error, {"model_state": nnx.state(network, nnx.Not(nnx.Param))}

    params, state = init(jax.random.split(KEY, 4))
    found = jd.fit(
        network_loss,
        SGD,
        DATA,
        init_params=params,
        model_state=state,
        validation_data=VALIDATION,
        needs_rng=True,
        **OPTIONS,
    )
    assert jax.tree.structure(found.population.model_state) == jax.tree.structure(state)
    means = np.asarray(found.population.model_state["norm"]["mean"][...])
    # The inner layer changes little; three updates with momentum 0.5 reach 7/8 of the mean.
    inner = params["inner"]
    first = jnp.mean(DATA["x"] @ inner["kernel"][...] + inner["bias"][...][:, None], 1)
    assert np.corrcoef(means.ravel(), first.ravel())[0, 1] > 0.95
    value, _ = network_loss(found.params, VALIDATION, model_state=found.model_state)
    np.testing.assert_allclose(found.value, value, rtol=1e-5)


def test_losses_of_bfloat16_parameters_are_averaged_in_float32():
    found = jd.fit(loss, SGD, DATA, init_params=starts(3, dtype=jnp.bfloat16), **OPTIONS)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {jnp.bfloat16.dtype}
    assert found.value.dtype == found.history.aux["loss"].dtype == jnp.float32
    assert np.isfinite(found.value)


def test_float64_parameters_give_float64_results_under_strict_promotion():
    data = jax.tree.map(np.float64, DATA)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        options = {**OPTIONS, "key": jax.random.key(0), "batch_size": 4}
        found = jd.fit(
            loss,
            SGD,
            data,
            init_params=starts(3, dtype=np.float64),
            data_order="per_agent",
            **options,
        )
        floating = [found.value, found.history.values, *jax.tree.leaves(found.params)]
        assert {leaf.dtype for leaf in floating} == {jnp.float64.dtype}
        assert found.population.ids.dtype == found.state.steps.dtype == jnp.int32


def test_a_rule_can_compute_validation_losses():
    def update(_key, population, problem, _state):
        return population, (), jax.vmap(problem.value)(population.params)

    evaluating = jd.Rule(lambda _key, _population, _problem: (), update)
    options = {**OPTIONS, "rule": evaluating}
    found = jd.fit(loss, SGD, DATA, init_params=starts(3), validation_data=VALIDATION, **options)
    np.testing.assert_allclose(found.history.rule_info, found.history.values, rtol=1e-6)
    with pytest.raises(ValueError, match="evaluates new parameters, for which"):
        jd.fit(loss, SGD, DATA, init_params=starts(3), **options)
    sampling = evaluating._replace(update=lambda key, *rest: rest[1].sample(key))
    with pytest.raises(ValueError, match="draws new starts, which"):
        jd.fit(loss, SGD, DATA, init_params=starts(3), **{**options, "rule": sampling})


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"loss_fn": 3}, TypeError, "loss_fn must be a function, got 3"),
        ({"value_fn": 3}, TypeError, "value_fn must be a function, got 3"),
        (
            {"value_fn": loss},
            ValueError,
            "validation_data must be given where value_fn is, got None",
        ),
        ({"steps": -1}, ValueError, r"steps must be an integer in \[0, 2147483647\], got -1"),
        (
            {"steps_per_rung": 0},
            ValueError,
            r"steps_per_rung must be an integer in \[1, 2147483647\], got 0",
        ),
        ({"batch_size": 23}, ValueError, r"batch_size must be an integer in \[1, 22\], got 23"),
        ({"data_order": "own"}, ValueError, "data_order must be 'shared' or 'per_agent'"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be an integer at least 1, got 0"),
        ({"rule": jd.pruning.no_pruning}, TypeError, "rule must be a Rule"),
        ({"optimizer": 3}, TypeError, "optimizer must be an optax gradient transformation"),
        ({"init_params": {}}, ValueError, "init_params must hold at least one array, got {}"),
        ({"init_params": starts(0)}, ValueError, "leading axis of agents, got shape"),
        (
            {"init_params": {**starts(3), "b": np.zeros((2, 5), np.float32)}},
            ValueError,
            r"init_params must have a leading axis of num_agents = 3 .*, got shape \(2, 5\)",
        ),
        (
            {"model_state": np.zeros(2)},
            ValueError,
            "model_state must have a leading axis of num_agents = 3",
        ),
        (
            {"loss_fn": lambda params, batch: params["b"]},
            ValueError,
            r"loss_fn must return a real scalar, got float32\[5\]; reduce it to one number",
        ),
        (
            {"loss_fn": lambda params, batch: (loss(params, batch), {})},
            ValueError,
            r"a real scalar, got a tuple of 2; with has_aux=True it returns \(loss, aux\)",
        ),
        (
            {"loss_fn": lambda params, batch: jnp.mean(np.sin(params["b"]))},
            TypeError,
            "loss_fn must compute with jax.numpy, because it is compiled, such as jnp.sin for np",
        ),
        (
            {"loss_fn": lambda params, batch: float(params["b"][0])},
            TypeError,
            "loss_fn must not use the value of a traced array as a Python number",
        ),
        (
            {
                "needs_rng": True,
                "loss_fn": lambda params, batch, *, key: loss(params, batch),
                "validation_data": VALIDATION,
            },
            ValueError,
            "value_fn must be given with validation_data where loss_fn cannot be called without k",
        ),
        (
            {"data": iter([DATA])},
            TypeError,
            "data must be a tree of arrays, got .* of type list_iterator at data; fit draws batch",
        ),
        (
            {"validation_data": (batch for batch in [VALIDATION])},
            TypeError,
            "validation_data must be a tree of arrays, got .* of type generator at validation_data",
        ),
        (
            {"init_params": {"a": np.ones((3, 5)), "b": np.ones(5)}},
            ValueError,
            r"num_agents = 3 in every leaf, got shape \(5,\) at init_params\['b'\], and \(3, 5\) "
            r"at init_params\['a'\]; stack one tree",
        ),
        ({"init_params": 0.0}, ValueError, r"axis of agents, got shape \(\); stack one tree for"),
        (
            {"init_params": {**starts(3), "activation": jnp.tanh}},
            TypeError,
            r"init_params must be a tree of arrays, got .* at init_params\['activation'\]; keep",
        ),
        (
            {"init_params": lambda key, width=8: starts(3)},
            TypeError,
            r"init_params must be a tree of arrays, got the function .* jax.vmap\(init\)\(keys\)",
        ),
        (
            {"init_params": np.zeros(5, np.float32), "loss_fn": lambda w, batch: batch["x"] @ w},
            ValueError,
            r"shapes \[\(\)\]; .* init_params: stack one tree for each agent",
        ),
        (
            {"steps": None, "steps_per_rung": None, "gradient_budget": 2},
            ValueError,
            r"gradient_budget must be an integer in \[3, 2147483647\], got 2",
        ),
        (
            {"init_params": {**starts(3), "count": np.zeros(3, int)}},
            ValueError,
            r"real floating-point leaves, got int32 at init_params\['count'\]; keep other leav",
        ),
        (
            {"optimizer": optax.adam(0.1).init(starts(3))},
            TypeError,
            "got an object of type tuple; pass the transformation, .* rather than its state",
        ),
        (
            {
                "optimizer": optax.sgd,
                "hyperparams": {"learning_rate": np.ones(3), "width": [1] * 3},
            },
            ValueError,
            "factory sgd, .* got width; use one run for each value .* width or a batch size",
        ),
        (
            {"key": None},
            TypeError,
            r"key must be one random key, such as jax.random.key\(0\), got N",
        ),
        (
            {"gradient_budget": 9},
            ValueError,
            "either steps or gradient_budget must be given, got b",
        ),
        (
            {
                "validation_data": VALIDATION,
                "value_fn": lambda params, validation_data: params["b"],
            },
            ValueError,
            "value_fn must return a real scalar",
        ),
        ({"has_aux": True}, TypeError, r"loss_fn must return \(loss, aux\) with aux a mapping"),
        (
            {"model_state": np.zeros(3), "loss_fn": lambda *a, **k: (loss(*a), {"a": 1.0})},
            ValueError,
            r"must return the new model state as aux\['model_state'\], got only \['a'\]",
        ),
        (
            {
                "model_state": np.zeros(3),
                "loss_fn": lambda *a, **k: (loss(*a), {"model_state": jnp.zeros(2)}),
            },
            ValueError,
            r"aux\['model_state'\] must have the shapes of model_state, got \(2,\) for \(\)",
        ),
        (
            {"has_aux": True, "loss_fn": lambda *a: (loss(*a), {"loss": jnp.ones(())})},
            ValueError,
            "aux must not hold 'loss', the name of the loss itself",
        ),
        (
            {"has_aux": True, "loss_fn": lambda *a: (loss(*a), {"all": jnp.ones(2)})},
            ValueError,
            r"aux must hold scalars, got shape \(2,\) for 'all'",
        ),
        (
            {"has_aux": True, "loss_fn": lambda *a: (loss(*a), {"all": {"a": 1.0}})},
            ValueError,
            "aux must hold real numbers, got {'a': 1.0} for 'all'",
        ),
        (
            {"has_aux": True, "loss_fn": lambda *a: (loss(*a), {3: 1.0})},
            ValueError,
            "aux must have strings as keys, got 3",
        ),
        (
            {
                "model_state": np.zeros(3, np.int32),
                "loss_fn": lambda *a, **k: (loss(*a), {"model_state": 0.5}),
            },
            ValueError,
            "must have the kinds of dtypes of model_state, got float32 for int32",
        ),
        ({"key": 0}, TypeError, "key must be one random key, such as jax.random.key"),
        ({"prune": "no"}, ValueError, "prune must be True or False, got 'no'"),
        ({"needs_rng": "no"}, ValueError, "needs_rng must be True or False, got 'no'"),
        ({"has_aux": 1}, ValueError, "has_aux must be True or False, got 1"),
        ({"mesh": "cpu"}, TypeError, "mesh must be a jax.sharding.Mesh, got 'cpu'"),
        ({"hyperparams": [1.0]}, TypeError, "hyperparams must be a mapping of arrays"),
        (
            {"validation_data": {}},
            ValueError,
            r"validation_data must have at least one example .* shapes \[\]",
        ),
        (
            {"validation_data": {**VALIDATION, "y": np.zeros(0)}},
            ValueError,
            r"validation_data must have at least one example .*, got shapes \[.*\(0,\)\]",
        ),
    ],
)
def test_bad_arguments_are_named(changes, error, match):
    arguments = {
        "loss_fn": loss,
        "optimizer": SGD,
        "data": DATA,
        "init_params": starts(3),
        **OPTIONS,
        **changes,
    }
    positional = [arguments.pop(name) for name in ("loss_fn", "optimizer", "data")]
    with pytest.raises(error, match=match):
        jd.fit(*positional, **arguments)
