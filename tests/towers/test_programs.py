"""Buffers, copies and conditionals in the compiled program of a tower."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescent as jd
from jaxdescent.towers import tower as tower_module
from jaxdescent.towers.fused import contraction as fused
from tests.compiling import compiled

RATE = {"learning_rate": 1e-2}
BETAS = {"b1": 0.9, "b2": 0.99}
WIDTH = 192  # leaves of several blocks


def program(tx):
    """The compiled training step of a small network."""
    params = {"w1": jnp.ones((WIDTH, WIDTH)), "w2": jnp.ones((WIDTH, WIDTH)), "b": jnp.ones(WIDTH)}

    def loss(params, x):
        return jnp.mean((jnp.tanh(x @ params["w1"]) @ params["w2"] + params["b"]) ** 2)

    def step(params, state, x):
        updates, state = tx.update(jax.grad(loss)(params, x), state, params)
        return optax.apply_updates(params, updates), state

    args = params, tx.init(params), jnp.ones((8, WIDTH))
    return compiled(step, *args, donate_argnums=(0, 1))


def of_height(height):
    above = optax.sgd(1e-5)
    for _ in range(height - 1):
        above = jd.hypergradient(optax.sgd, above, tune={"learning_rate": 1e-5})
    return jd.hypergradient(optax.adam, above, tune={**RATE, **BETAS})


PROGRAMS = {
    "adam": lambda: optax.adam(1e-2),
    "rate": lambda: jd.hypergradient(optax.adam, optax.adam(1e-2), tune=RATE),
    "lion": lambda: jd.hypergradient(optax.lion, optax.adam(1e-2), tune=RATE),
    "self-tuning": lambda: jd.self_tuning(optax.adam),
    "height 1": lambda: of_height(1),
    "height 2": lambda: of_height(2),
    "height 3": lambda: of_height(3),
}


@pytest.fixture(scope="module")
def programs():
    return {name: program(make()) for name, make in PROGRAMS.items()}


def large(compiled, operation=r"[\w-]+"):
    """Counts the instructions, loop bodies included, that make a buffer of a weight's size."""
    shape = rf"f32\[(?:{WIDTH},{WIDTH}|{WIDTH * WIDTH})\]\S* "
    return len(
        re.findall(rf"= {shape}(?!parameter|bitcast|get-tuple){operation}\(", compiled.as_text())
    )


def buffers(bytes_):
    """Returns bytes relative to the size of the parameters."""
    return bytes_ / (4 * (2 * WIDTH * WIDTH + WIDTH))


def test_the_rate_alone_copies_no_buffer_and_the_betas_the_last_gradient(programs):
    assert large(programs["rate"], "copy") == 0
    assert large(programs["self-tuning"], "copy") == 0
    for name in ("height 1", "height 2", "height 3"):
        assert large(programs[name], "copy") == 2
        copied = re.findall(r"copy\(%state_previous_(\w+__w[12]__)", programs[name].as_text())
        assert sorted(copied) == ["grads__w1__", "grads__w2__"]


def test_the_rate_alone_holds_no_buffer_and_the_betas_one(programs):
    held = {n: buffers(p.memory_analysis().argument_size_in_bytes) for n, p in programs.items()}
    extra = {n: buffers(p.memory_analysis().temp_size_in_bytes) for n, p in programs.items()}
    assert held["rate"] - held["adam"] < 0.01
    assert 1 <= held["self-tuning"] - held["adam"] < 1.01
    assert 1 <= held["height 1"] - held["adam"] < 1.01
    # A quarter is for the blocks, which are not small beside parameters as few as these.
    for name in ("rate", "lion"):
        assert extra[name] - extra["adam"] < 1.25
    assert extra["height 1"] - extra["adam"] < 1.5  # 1.45, with a part of the copied gradient


@pytest.mark.parametrize("name", ["height 2", "height 3"])
def test_a_further_level_costs_numbers_only(name, programs):
    one, more = programs["height 1"], programs[name]
    assert large(more) == large(one)
    for what in ("argument_size_in_bytes", "temp_size_in_bytes"):
        added = getattr(more.memory_analysis(), what) - getattr(one.memory_analysis(), what)
        assert buffers(added) < 0.02


def test_self_tuning_gathers_no_sharded_weight():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    columns = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "model"))
    params, tx = jax.device_put(jnp.ones((WIDTH, WIDTH)), columns), jd.self_tuning(optax.adam)

    def step(params, state):
        updates, state = tx.update(2 * params, state, params)
        return optax.apply_updates(params, updates), state

    text = compiled(step, params, jax.jit(tx.init)(params)).as_text()
    assert f"f32[{WIDTH},{WIDTH // 2}]" in text
    assert not re.search(rf"f32\[{WIDTH},{WIDTH}\]\S* all-gather", text)


def instructions(tx, leaves):
    """Returns the number of instructions of the compiled update of small leaves."""
    shapes = [(4, 4), 4, (4, 3), 3, (2, 4), (3, 3), 2, (5, 2)]
    params = {f"p{i}": jnp.ones(shape) for i, shape in enumerate(shapes[:leaves])}

    def step(params, state, value):
        updates, state = tx.update(params, state, params, value=value)
        return optax.apply_updates(params, updates), state

    args = params, tx.init(params), jnp.zeros(())
    return compiled(step, *args, donate_argnums=(0, 1)).as_text().count(" = ")


def test_the_decisions_of_self_tuning_are_not_compiled_anew_for_each_array():
    plain, tuned = optax.with_extra_args_support(optax.adamw(1e-3)), jd.self_tuning(optax.adam)
    of_four = {"plain": instructions(plain, 4), "tuned": instructions(tuned, 4)}
    of_eight = {"plain": instructions(plain, 8), "tuned": instructions(tuned, 8)}
    assert of_four["tuned"] < 12 * of_four["plain"]
    added = {name: of_eight[name] - of_four[name] for name in of_four}
    assert added["tuned"] < 3.2 * added["plain"]


def test_on_a_gpu_no_conditional_makes_the_device_wait(programs, monkeypatch):
    def elsewhere():
        return jax.lax.platform_dependent(default=lambda: jnp.zeros((), bool))

    def conditionals(program):
        return program.as_text().count(" conditional(")

    assert conditionals(programs["height 2"]) > 0
    for module in (fused, tower_module):
        monkeypatch.setattr(module, "on_cpu", elsewhere)
    assert conditionals(program(of_height(2))) == 0


def test_self_tuning_on_a_gpu_makes_the_same_steps_without_conditionals(monkeypatch):
    def run():
        tx, params = jd.self_tuning(optax.adam), {"w": jnp.linspace(-1.0, 1.0, 6), "b": jnp.ones(2)}

        def step(carry, value):
            params, state = carry
            grads = jax.tree.map(lambda x: 2 * (x - 3), params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), None

        losses = jnp.ones(40).at[jnp.array([3, 25, 26, 33])].set(jnp.nan)  # skips and restarts
        fn = jax.jit(lambda carry: jax.lax.scan(step, carry, losses)[0])
        program = fn.lower((params, tx.init(params))).compile()
        return program.as_text().count(" conditional("), program((params, tx.init(params)))

    conditionals, on_cpu = run()
    assert conditionals > 0
    assert int(on_cpu[1].restarts) > 1
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    conditionals, elsewhere = run()
    assert conditionals == 0
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), on_cpu, elsewhere)
