"""The published package's towers against the numbers that it printed, in both precisions."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.gdtuo_table import rules

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = json.loads((FIXTURES / "gdtuo_cases.json").read_text())


def traces(precision):
    return np.load(FIXTURES / f"gdtuo_traces_{precision}.npz")


def tower(case, adam_v_start=1e-8, **kwargs):
    """The tower of a named case, and the names tuned at each level."""
    levels = [rules.Level(rule, values) for rule, values in CASES[case]]
    adams = [name for name in rules.RULES if name.startswith("Adam")]
    factories = {n: partial(rules.RULES[n].factory, v_start=adam_v_start) for n in adams}
    return (
        rules.tower(levels, factories=factories, **kwargs),
        [list(level.starts()) for level in levels[:-1]],
    )


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
            return (params, state), (params, jd.get_hyperparams(state))

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
