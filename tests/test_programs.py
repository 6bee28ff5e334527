"""Compiled programs are shared by equal settings and dropped with the functions they call."""

import dataclasses
import functools
import gc
import threading
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdescent as jd
from jaxdescent import programs
from jaxdescent.programs import Identity, compiled


class Traced:
    """A compiled call of `function(x)`, with the number of its traces."""

    def __init__(self):
        self.traces = 0

        @compiled("function")
        def call(x, *, function):
            self.traces += 1
            return function(x)

        self.call = call


@pytest.fixture
def traced():
    return Traced()


def key(value):
    return Identity(value).key


def same(make):
    """Returns True if two values made alike are described alike."""
    first, second = make(), make()
    assert first is not second
    return key(first) == key(second)


SHARED = {
    "an optimizer": lambda: optax.adam(0.1),
    "a chain": lambda: optax.chain(optax.clip(1.0), optax.add_decayed_weights(0.1), optax.sgd(1.0)),
    "a schedule": lambda: optax.sgd(optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)),
    "a mask": lambda: optax.masked(optax.sgd(0.1), {"a": True, "b": False}),
    "injected hyperparameters": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "a small array": lambda: optax.sgd(jnp.float32(0.1)),
    "an array of NumPy": lambda: optax.sgd(np.full(1000, 0.1)),
    "a partial": lambda: functools.partial(optax.adam, b1=0.5),
    "a tower": lambda: jd.hypergradient(optax.adam, optax.sgd(0.1), tune={"learning_rate": 0.1}),
    "self-tuning": lambda: jd.self_tuning(optax.adam),
    "a rule": lambda: jd.pruning.successive_halving(),
    "a chain of rules": lambda: jd.pruning.chain(
        jd.pruning.delay(2, jd.pruning.adaptive()), jd.pruning.stalled(2)
    ),
    "a step size": lambda: jd.step_sizes.guarded(jd.step_sizes.silver(1.0), 3.0),
    "a problem's structure": lambda: jax.tree.structure(jd.problems.booth().in_unit_box()),
    "tuples": lambda: (1, [2.0, {"a": float("nan")}], None),
}


@pytest.mark.parametrize("name", SHARED)
def test_settings_made_alike_are_described_alike(name):
    assert same(SHARED[name])


def test_every_difference_is_described():
    values = [
        optax.adam(0.1),
        optax.adam(0.2),
        optax.adam(0.1, b1=0.5),
        optax.adam(0.1, nesterov=True),
        optax.adamw(0.1),
        optax.sgd(0.1),
        optax.sgd(jnp.float32(0.1)),
        optax.sgd(jnp.float32(0.2)),
        optax.sgd(optax.linear_schedule(0.1, 0.2, 10)),
        optax.sgd(optax.linear_schedule(0.1, 0.2, 11)),
        optax.masked(optax.sgd(0.1), {"a": True, "b": False}),
        optax.masked(optax.sgd(0.1), {"a": True, "b": True}),
        jd.pruning.successive_halving(),
        jd.pruning.no_pruning(),
        jd.self_tuning(optax.adam),
        jd.self_tuning(optax.adam, learning_rate=1e-10),
        jd.self_tuning(optax.sgd),
        0,
        0.0,
        -0.0,
        False,
        "0",
        (),
        [],
        {},
    ]
    assert len({key(value) for value in values}) == len(values)


def test_a_nested_problem_is_described_by_its_innermost_function():
    first, second = (jd.Problem(lambda x: jnp.sum(x), -jnp.ones(2), jnp.ones(2)) for _ in range(2))
    structures = [jax.tree.structure(problem.in_unit_box()) for problem in (first, second)]
    assert key(structures[0]) != key(structures[1])


def test_functions_of_the_user_are_compared_by_identity():
    # A second function may read another value of a global variable.
    assert not same(lambda: lambda x: x)


def test_frozen_dataclasses_are_compared_by_their_fields():
    @dataclasses.dataclass(frozen=True)
    class Scaled:
        scale: object

        def __call__(self, x):
            return self.scale * x

    assert key(Scaled(2.0)) == key(Scaled(2.0)) != key(Scaled(3.0))
    array = jnp.arange(100.0)
    scaled = Scaled(array)
    assert key(scaled) == key(scaled) != key(Scaled(array))


def test_an_optimizer_that_holds_a_large_array_is_compared_by_identity():
    scales = jnp.arange(100.0)
    make = functools.partial(optax.sgd, scales)
    optimizer = make()
    assert key(optimizer) == key(optimizer)
    assert key(optimizer) != key(make())


def test_a_structure_that_contains_itself_is_described():
    def make():
        values = [1]
        values.append(values)
        return values

    assert same(make)


@dataclasses.dataclass(frozen=True)
class Frozen:
    to: jax.Array

    def __call__(self, x, batch=None):
        return jnp.sum((x - self.to) ** 2)


class Module(eqx.Module):
    to: jax.Array

    def __call__(self, x, batch=None):
        return jnp.sum((x - self.to) ** 2)


class Plain:
    def __init__(self, to):
        self.to = to

    def __call__(self, x, batch=None):
        return jnp.sum((x - self.to) ** 2)


class Slots:
    __slots__ = ("to",)

    def __init__(self, to):
        self.to = to

    def __call__(self, x, batch=None):
        return jnp.sum((x - self.to) ** 2)


class ArrayEquality(Plain):
    def __eq__(self, other):
        return self.to == other.to

    def __hash__(self):
        return 7


def bound_method(to):
    return Plain(to).__call__


def partial(to):
    def distance(to, x, batch=None):
        return jnp.sum((x - to) ** 2)

    return functools.partial(distance, to)


def closure(to):
    return lambda x, batch=None: jnp.sum((x - to) ** 2)


def jitted(to):
    return jax.jit(closure(to))


OBJECTS = [Frozen, Module, Plain, Slots, ArrayEquality, bound_method, partial, closure, jitted]


@pytest.mark.parametrize("make", OBJECTS)
def test_a_function_may_be_any_callable_object(make, traced):
    for to in (1.0, 2.0, 3.0):
        objective = make(jnp.full(100, to))
        for _ in range(2):
            assert traced.call(jnp.zeros(100), function=objective) == 100 * to**2


class Mean:
    """An object with more state than its method reads."""

    def __init__(self):
        self.scale, self.seen, self.helper = 1.0, 0, Plain(0.0)

    def read(self, x):
        return self.factor * (x[0] - self.helper.to)

    @property
    def factor(self):
        return self.scale


def of_method():
    mean = Mean()
    return mean.read, functools.partial(setattr, mean, "scale", 2.0)


def of_helper():
    mean = Mean()
    return mean.read, functools.partial(setattr, mean.helper, "to", -1.0)


def of_object():
    target = Plain(0.0)
    return target, functools.partial(setattr, target, "to", 1.0 + 2.0**0.5)


def of_closure():
    settings = {"scale": 1.0}
    return lambda x: settings["scale"] * x[0], functools.partial(settings.update, scale=2.0)


def of_variable():
    scale = 1.0

    def apply(x):
        return scale * x[0]

    def change():
        nonlocal scale
        scale = 2.0

    return apply, change


def of_partial():
    mean = Mean()
    return functools.partial(Mean.read, mean), functools.partial(setattr, mean, "scale", 2.0)


def of_array():
    scale = np.ones(1)
    return lambda x: (scale * x)[0], functools.partial(scale.fill, 2.0)


def of_nnx():
    layer = nnx.Linear(1, 1, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))

    def change():
        layer.kernel[...] = 2 * jnp.ones((1, 1))

    return lambda x: layer(x)[0], change


def scaled(mean, x):
    return mean.scale * x[0]


def of_function_that_it_calls():
    mean = Mean()
    return lambda x: scaled(mean, x), functools.partial(setattr, mean, "scale", 2.0)


def in_notebook(source):
    """Returns variables as a cell of a notebook defines them, and a function that runs a cell."""
    scope = {"__name__": "__main__"}

    def run(cell):
        exec(cell, scope)  # noqa: S102

    run(source)
    return scope, run


def of_global_variable():
    scope, run = in_notebook("scale = 1.0\ndef apply(x): return scale * x[0]")
    return scope["apply"], functools.partial(run, "scale = 2.0")


def of_redefined_function():
    source = "def double(x): return {} * x[0]\ndef apply(x): return double(x)"
    scope, run = in_notebook(source.format(1.0))
    return scope["apply"], functools.partial(run, "def double(x): return 2.0 * x[0]")


def of_global_variable_of_another_function():
    source = "scale = 1.0\ndef scaled(x): return scale * x[0]\ndef apply(x): return scaled(x)"
    scope, run = in_notebook(source)
    return scope["apply"], functools.partial(run, "scale = 2.0")


def of_derivative():
    mean = Mean()
    return jax.grad(lambda x: mean.read(x) * x[0] / 2), functools.partial(
        setattr, mean, "scale", 2.0
    )


@pytest.mark.parametrize(
    "make",
    [
        *(of_method, of_helper, of_object, of_closure, of_variable, of_partial, of_array),
        *(of_nnx, of_derivative, of_function_that_it_calls, of_global_variable),
        *(of_redefined_function, of_global_variable_of_another_function),
    ],
)
def test_a_function_is_compiled_anew_when_what_it_reads_has_changed(make, traced):
    function, change = make()
    x = jnp.ones(1)
    first = float(jnp.ravel(traced.call(x, function=function))[0])
    change()
    for _ in range(2):
        found = float(jnp.ravel(traced.call(x, function=function))[0])
        np.testing.assert_allclose(found, 2 * first, rtol=1e-6)
    assert traced.traces == 2


def test_attributes_that_a_method_does_not_read_compile_nothing(traced):
    mean = Mean()
    for _ in range(3):
        traced.call(jnp.ones(1), function=mean.read)
        mean.seen += 1
    assert traced.traces == 1


def test_equal_objects_share_a_program_if_what_they_hold_is_alike(traced):
    class Equal(Plain):
        def __eq__(self, other):
            return type(other) is Equal

        def __hash__(self):
            return 7

        def __call__(self, x, batch=None):
            return self.to(x)

    kept = [Equal(Plain(float(to))) for to in (1, 1, 2)]
    found = [float(traced.call(jnp.zeros(2), function=function)) for function in kept]
    assert found == [2, 2, 8]
    assert traced.traces == 2


def test_an_array_that_was_donated_is_not_read(traced):
    target = Plain(jnp.zeros(2))
    traced.call(jnp.ones(2), function=target)
    old, target.to = target.to, jnp.ones(2)
    assert traced.call(jnp.ones(2), function=target) == 0
    old.delete()
    function = functools.partial(target, batch=old)
    assert traced.call(jnp.ones(2), function=function) == 0


def test_an_object_that_counts_its_traces_compiles_once(traced):
    class Counter:
        count = 0

        def __call__(self, x):
            self.count += 1
            return x

    counter, other = Counter(), Traced()
    for _ in range(3):
        traced.call(jnp.ones(1), function=counter)
        other.call(jnp.ones(1), function=counter)
    assert traced.traces == other.traces == 1


def test_a_function_that_counts_its_traces_compiles_once(traced):
    calls = []

    def apply(x):
        calls.append(x.shape)
        return x

    for _ in range(3):
        traced.call(jnp.ones(1), function=apply)
        traced.call(jnp.ones(2), function=apply)
    assert traced.traces == len(calls) == 2


@pytest.mark.parametrize("make", OBJECTS)
def test_a_program_does_not_hold_what_its_functions_close_over(make, traced):
    data = jnp.full(1000, 2.0)
    reference = weakref.ref(data)
    objective = make(data)
    assert traced.call(jnp.zeros(1000), function=objective) == 4000
    del data, objective
    gc.collect()
    assert reference() is None


SHARING = [make for make in OBJECTS if make is not Slots]


@pytest.mark.parametrize("make", SHARING)
def test_one_object_is_compiled_once(make, traced):
    objective = make(jnp.ones(100))
    for _ in range(3):
        traced.call(jnp.zeros(100), function=objective)
    assert traced.traces == 1
    traced.call(jnp.zeros(1), function=objective)
    assert traced.traces == 2


def test_a_program_serves_threads_with_functions_of_their_own(traced):
    found = {}

    def run(number):
        found[number] = [
            float(traced.call(jnp.zeros(size), function=closure(jnp.float32(number))))
            for size in range(1, 20)
        ]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [n**2 * size for size in range(1, 20)] for n in range(4)}


def test_a_program_may_be_called_within_its_own_trace(traced):
    def outer(x):
        return traced.call(x, function=lambda y: y + 1) * 2

    assert traced.call(jnp.float32(3), function=outer) == 8
    assert jax.grad(lambda x: traced.call(x, function=lambda y: x * y))(3.0) == 6


def test_the_least_recently_used_program_is_dropped(traced, monkeypatch):
    monkeypatch.setattr(programs, "CAPACITY", 2)
    for number in (0, 1, 0, 2, 0):
        traced.call(1.0, function=functools.partial(jnp.add, number))
    assert traced.traces == 3
    traced.call(1.0, function=functools.partial(jnp.add, 1))
    assert traced.traces == 4


def test_settings_written_inline_compile_once():
    traces = [0]

    def loss(x):
        traces[-1] += 1
        return jnp.sum(x**2)

    problem = jd.Problem(loss, -jnp.ones(2), jnp.ones(2))
    for seed in range(3):
        jd.minimize(
            problem,
            optax.adam(0.05),
            num_agents=4,
            steps=4,
            num_rungs=2,
            rule=jd.pruning.successive_halving(),
            key=jax.random.key(seed),
        )
        traces.append(0)
    assert traces[0] > 0
    assert traces[1:] == [0, 0, 0]


STARTS = jnp.zeros((2, 100))
PARAMS = jnp.zeros(100)

CALLS = {
    "minimize": lambda f: (
        jd.minimize(
            f,
            optax.sgd(0.5),
            init_params=STARTS,
            steps=1,
            num_rungs=1,
            rule=jd.pruning.no_pruning(),
        ).value
    ),
    "fit": lambda f: (
        jd.fit(
            f,
            optax.sgd(0.5),
            jnp.ones((2, 1)),
            init_params=STARTS,
            key=jax.random.key(0),
            steps=1,
            num_rungs=1,
            batch_size=None,
            validation_data=jnp.ones((2, 1)),
            rule=jd.pruning.no_pruning(),
        ).value
    ),
    "sharpness": lambda f: jd.sharpness(f, PARAMS).values,
    "spectral_density": lambda f: jd.spectral_density(f, PARAMS, num_probes=1).nodes,
    "line": lambda f: jd.landscape.line(f, PARAMS, PARAMS + 1, x=[0.0, 1.0]).values,
    "epsilon_sharpness": lambda f: (
        jd.landscape.epsilon_sharpness(f, PARAMS, num_starts=1, num_steps=1).value
    ),
    "gradient_flow": lambda f: (
        jd.gradient_flow(f, PARAMS, None, jd.flows.sgd(0.1), steps=1, substeps=1)[0].params
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_public_calls_take_objects_and_free_their_arrays(name):
    for to in (1.0, 2.0):  # the second object takes the program of its own
        objective = Frozen(jnp.full(100, to))
        CALLS[name](objective)
    reference = weakref.ref(objective.to)
    del objective
    gc.collect()
    assert reference() is None
