"""What pruning saves, and how many agents descend in a second.

    python -m experiments.benchmarks.agents

Halving: 1,024 networks of 1,441 parameters, batches of 64, Adam, 11 rungs of 50 steps, against the
same program unpruned, a plain `vmap` of all, and a mask that holds the pruned where they are.
Throughput: Rastrigin's function in 20 dimensions with Adam, from 64 to 1,000,000 agents, against a
Python loop over the compiled step of an agent and a plain `vmap` of all. Programs take turns,
in alternating order; a ratio is the median of the ratios within a turn. Memory is XLA's own
account of what a program needs beside its arguments and its results.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd

TURNS = 3
AGENTS, RUNGS, RUNG, BATCH = 1_024, 11, 50, 64
SIZES = (10, 32, 32, 1)  # 1,441 parameters
EXAMPLES = 4_096
ADAM = optax.adam(1e-3)
HALVING = jd.pruning.successive_halving()
DIMENSION = 20
COUNTS = (64, 1_024, 16_384, 262_144, 1_000_000)
STEPS = {64: 10_000, 1_024: 10_000, 16_384: 2_000, 262_144: 200, 1_000_000: 100}
LOOP_STEPS = 20_000
MANY = 262_144


def data() -> dict[str, jax.Array]:
    """Friedman's first function of ten numbers (J. H. Friedman 1991), standardised."""
    x = np.random.default_rng(0).uniform(size=(EXAMPLES, SIZES[0])).astype(np.float32)
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y += 10 * x[:, 3] + 5 * x[:, 4]
    return {"x": jnp.asarray(x), "y": jnp.asarray((y - y.mean()) / y.std())}


def starts(key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Networks with a leading axis of agents."""
    layers = []
    for i, (rows, columns) in enumerate(itertools.pairwise(SIZES)):
        kernel = jax.random.normal(jax.random.fold_in(key, i), (AGENTS, rows, columns))
        layers.append((kernel * np.sqrt(2 / rows), jnp.zeros((AGENTS, columns))))
    return layers


def loss(params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
    """The mean squared error."""
    x = batch["x"]
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = params[-1]
    return jnp.mean(((x @ kernel + bias)[:, 0] - batch["y"]) ** 2)


def plain(
    params: Any, examples: Any, key: jax.Array, masked: bool
) -> tuple[Any, jax.Array, jax.Array]:
    """All agents under one `vmap`; if masked, halved after each rung by a mask."""
    per_epoch = EXAMPLES // BATCH

    def step(carry: Any, t: jax.Array) -> Any:
        params, state, alive, order = carry
        draw = lambda: jax.random.permutation(jax.random.fold_in(key, t // per_epoch), EXAMPLES)
        order = jax.lax.cond(t % per_epoch == 0, draw, lambda: order)
        index = jax.lax.dynamic_slice_in_dim(order, t % per_epoch * BATCH, BATCH)
        batch = jax.tree.map(lambda x: x[index], examples)
        values, grads = jax.vmap(jax.value_and_grad(loss), (0, None))(params, batch)
        updates, moved = jax.vmap(ADAM.update)(grads, state, params)
        new = optax.apply_updates(params, updates), moved
        if masked:
            wide = lambda x: alive.reshape(alive.shape + (1,) * (x.ndim - 1))
            new = jax.tree.map(lambda x, y: jnp.where(wide(x), x, y), new, (params, state))
        return (*new, alive, order), values

    def rung(carry: Any, first: jax.Array) -> Any:
        carry, values = jax.lax.scan(step, carry, first + jnp.arange(RUNG))
        params, state, alive, order = carry
        values = jnp.where(alive, values.mean(0), jnp.inf)
        if masked:
            kept = jnp.argsort(jnp.argsort(values)) < (alive.sum() + 1) // 2
            carry = params, state, alive & kept, order
        return carry, values

    order = jnp.arange(EXAMPLES)
    alive = jnp.ones(AGENTS, bool)
    first = (params, jax.vmap(ADAM.init)(params), alive, order)
    (params, _, alive, _), values = jax.lax.scan(rung, first, RUNG * jnp.arange(RUNGS))
    return params, values[-1], alive
