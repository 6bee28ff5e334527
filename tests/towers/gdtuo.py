"""The published package's rules as factories, and its recorded traces.

The rules are those of gradient-descent-the-ultimate-optimizer 1.0 (K. Chandra et al.,
MIT licence), written as plain optax transformations in the package's own raw values: a
beta or gamma is stored as x with beta = (tanh x + 1) / 2, RMSProp's rate as its root.
The traces are numbers that the package printed, in both precisions.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = json.loads((FIXTURES / "gdtuo_cases.json").read_text())


def traces(precision):
    return np.load(FIXTURES / f"gdtuo_traces_{precision}.npz")


def from_raw(x):
    return (jnp.tanh(x) + 1) / 2


def to_raw(beta):
    return np.arctanh(2 * beta - 1)


def zeros_like(params):
    return jax.tree.map(jnp.zeros_like, params)


def sgd(alpha, mu=None):
    if mu is None:
        return optax.GradientTransformation(
            lambda params: optax.EmptyState(),
            lambda updates, state, params=None: (
                jax.tree.map(lambda g: -alpha * g, updates),
                state,
            ),
        )

    def update(updates, state, params=None):
        buf = jax.tree.map(lambda b, g: mu * b + g, state, updates)
        return jax.tree.map(lambda b: -alpha * b, buf), buf

    return optax.GradientTransformation(zeros_like, update)


def adagrad(alpha):
    def update(updates, state, params=None):
        total = jax.tree.map(lambda s, g: s + g**2, state, updates)
        return jax.tree.map(lambda g, s: -alpha * g / jnp.sqrt(s + 1e-10), updates, total), total

    return optax.GradientTransformation(
        lambda params: jax.tree.map(lambda p: jnp.full_like(p, 0.1), params), update
    )


def rmsprop(alpha, gamma):
    decay = from_raw(gamma)

    def update(updates, state, params=None):
        square = jax.tree.map(lambda s, g: decay * s + (1 - decay) * g**2, state, updates)
        step = lambda g, s: -(alpha**2) * g / jnp.sqrt(s + 1e-8)
        return jax.tree.map(step, updates, square), square

    return optax.GradientTransformation(zeros_like, update)


def adam(alpha, beta1, beta2, v_start=1e-8):
    b1, b2, eps = from_raw(beta1), from_raw(beta2), 1e-8

    def init(params):
        v = jax.tree.map(lambda p: jnp.full_like(p, v_start), params)
        return jnp.zeros((), jnp.int32), zeros_like(params), v

    def update(updates, state, params=None):
        t, m, v = state[0] + 1, state[1], state[2]
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, updates)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, updates)

        def step(m, v):
            m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
            return -alpha * m_hat / (jnp.sqrt(v_hat) + eps)

        return jax.tree.map(step, m, v), (t, m, v)

    return optax.GradientTransformation(init, update)


BETAS = {"beta1": to_raw(0.9), "beta2": to_raw(0.999)}
# Rule: its factory, the raw values it starts from, and how a given alpha is stored.
RULES = {
    "SGD": (sgd, {"alpha": 0.01}),
    "AdaGrad": (adagrad, {"alpha": 0.01}),
    "RMSProp": (rmsprop, {"alpha": np.sqrt(0.01), "gamma": to_raw(0.99)}),
    "RMSPropAlpha": (partial(rmsprop, gamma=to_raw(0.99)), {"alpha": np.sqrt(0.01)}),
    "Adam": (adam, {"alpha": 0.001, **BETAS}),
    "AdamBaydin": (partial(adam, **BETAS), {"alpha": 0.001}),
}


def tower(case, hypergradient=jd.hypergradient, adam_v_start=1e-8):
    """The tower of a named case, and the names tuned at each level."""

    def level(rule, given):
        factory, defaults = RULES[rule]
        if rule.startswith("Adam"):
            factory = partial(factory, v_start=adam_v_start)
        rooted = rule.startswith("RMSProp")
        given = {n: np.sqrt(v) if rooted and n == "alpha" else v for n, v in given.items()}
        return factory, {**defaults, **given}

    *tuned, (top_rule, top_given) = CASES[case]
    factory, values = level(top_rule, top_given)
    tx = factory(**values)
    names = []
    for rule, given in reversed(tuned):
        factory, values = level(rule, given)
        starts = {name: jd.unconstrained(value) for name, value in values.items()}
        tx = hypergradient(factory, tx, tune=starts)
        names.insert(0, list(values))
    return tx, names


def loss_fn(params, inputs, labels):
    hidden = jnp.tanh(inputs @ params["0.weight"].T + params["0.bias"])
    logits = hidden @ params["2.weight"].T + params["2.bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def deviations(case, precision, **kwargs):
    """Largest distances from the published trace: weights, and hyperparameters relative."""
    trace = traces(precision)
    tx, names = tower(case, **kwargs)
    params = {k.split("|")[1]: jnp.asarray(trace[k]) for k in trace.files if k.startswith("init|")}

    @jax.jit
    def run(params, inputs, labels):
        def step(carry, batch):
            params, state = carry
            updates, state = tx.update(jax.grad(loss_fn)(params, *batch), state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), (params, jd.hyperparameters(state))

        return jax.lax.scan(step, (params, tx.init(params)), (inputs, labels))[1]

    path, hypers = run(params, trace["inputs"], trace["labels"])
    steps = sorted({int(k.split("|")[2]) for k in trace.files if k.startswith(f"{case}|weights|")})
    weights = max(
        np.max(np.abs(path[name][step - 1] - trace[f"{case}|weights|{step}|{name}"]))
        for step in steps
        for name in params
    )
    relative = max(
        np.max(np.abs(hypers[level][name] - published) / np.abs(published))
        for level, tuned in enumerate(names)
        for name in tuned
        for published in [trace[f"{case}|hyper|{level + 1}|{name}"]]
    )
    return float(weights), float(relative)


if __name__ == "__main__":  # python -m tests.towers.gdtuo prints how far each tower is off
    print("tower: weights and hyperparameters (relative), float64; the same in float32")
    for name in CASES:
        with jax.enable_x64(True):
            double = deviations(name, "f64")
        print(
            f"{name}: {double[0]:.1e} {double[1]:.1e};",
            *map("{:.1e}".format, deviations(name, "f32")),
        )
