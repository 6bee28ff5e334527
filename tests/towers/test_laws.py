"""Properties of a tower on every optimizer of optax."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib
from optax._src import alias

import jaxdescent as jd
from jaxdescent.towers import spaces
from tests.towers import problems
from tests.towers.optimizers import EXEMPT, OPTIMIZERS, RESTS, WITHOUT_EFFECT


def tower(name, hyper_optimizer, leave_out=()):
    factory, tune = OPTIMIZERS[name]
    tune = {n: start for n, start in tune.items() if n not in leave_out}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no effect on the update")
        return jd.hypergradient(factory, hyper_optimizer, tune=tune)


def takes_value(name):
    return name != "sam"  # its update takes no keywords at all


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hyper_rate_zero_gives_the_plain_trajectory(name):
    factory, tune = OPTIMIZERS[name]
    with jax.enable_x64(True):
        # Arrays, as in a tower: given Python floats, some optimizers compute in float32.
        starts = {n: spaces.start_of(n, start).natural() for n, start in tune.items()}
        plain = optax.with_extra_args_support(factory(**starts))
        params, inputs = problems.parameters(jnp.float64), problems.batches(100, jnp.float64)
        kwargs = {"pass_value": takes_value(name)}
        _, _, expected, _ = problems.train(plain, params, inputs, **kwargs)
        _, state, path, _ = problems.train(tower(name, optax.sgd(0.0)), params, inputs, **kwargs)
    moved = problems.distance(params, jax.tree.map(lambda x: x[-1], path))
    assert moved > 1e-5
    assert problems.distance(path, expected) <= 1e-12
    assert int(state.skipped) == int(state.rejected) == 0


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "rprop"])  # nothing left
def test_zero_gradient_coordinates_leave_every_hyperparameter_learning(name):
    # The sign of a hypergradient moves its hyperparameter, and nothing else does.
    tx = tower(name, optax.sign_sgd(1e-4), [n for (o, n) in WITHOUT_EFFECT if o == name])
    with jax.enable_x64(True):
        params = problems.parameters(jnp.float64)
        inputs = problems.batches(1000, jnp.float64, dead_inputs=True)
        _, state, _, (path,) = problems.train(tx, params, inputs, pass_value=takes_value(name))
    for hyperparameter, values in path.items():
        assert np.all(np.isfinite(values))
        if (name, hyperparameter) in RESTS:
            assert np.any(np.diff(values) != 0)
        else:
            assert np.mean(np.diff(values[500:]) != 0) > 0.49  # sam moves every other step
    assert int(state.skipped) == int(state.rejected) == int(state.masked) == 0


def test_every_public_optimizer_is_a_row_or_exempt():
    names = {row.split()[0] for row in OPTIMIZERS} | set(EXEMPT)
    made = {
        name
        for module in (alias, contrib)
        for name, thing in vars(module).items()
        if callable(thing)
        and not name.startswith(("_", "scale_by_"))
        and "GradientTransformation" in str(inspect.signature(thing).return_annotation)
    }
    assert {"adam", "muon", "nadamw"} <= made
    assert made - names == set()


@pytest.mark.parametrize(("name", "hyperparameter"), WITHOUT_EFFECT)
def test_a_hyperparameter_without_effect_warns(name, hyperparameter):
    factory, tune = OPTIMIZERS[name]
    with pytest.warns(UserWarning, match=rf"tune\['{hyperparameter}'\] has no effect"):
        jd.hypergradient(factory, optax.sgd(0.1), tune=tune)


@pytest.mark.parametrize("name", ["b1", "b2"])
def test_lions_betas_warn(name):
    with pytest.warns(UserWarning, match="has no effect"):
        jd.hypergradient(optax.lion, optax.sgd(0.1), tune={"learning_rate": 1e-3, name: 0.9})
