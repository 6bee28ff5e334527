"""What pruning saves, and how many agents descend in a second.

    python -m experiments.benchmarks.agents
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m experiments.benchmarks.agents

Halving: 1,024 networks of 1,441 parameters, batches of 64, Adam, 11 rungs of 50 steps, against the
same program unpruned, a plain `vmap` of all, and a mask that holds the pruned where they are.
Throughput: Rastrigin's function in 20 dimensions with Adam, from 64 to 1,000,000 agents, as many
agent-steps of each, in one rung, against a Python loop over the compiled step of an agent and a
plain `vmap` of all. Agents start near minima, since the first steps from further off take longer
than later ones and would make a run of few steps seem slow. Our agents are spread over all
devices; on a CPU, whose loops run on one core, the second line has two. Programs take turns, in
alternating order; a ratio is the median of the ratios within a turn. Memory is XLA's own account of
what a program needs beside its arguments and its results.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.runner.report import table

TURNS = 3
AGENTS, RUNGS, RUNG, BATCH = 1_024, 11, 50, 64
SIZES = (10, 32, 32, 1)  # 1,441 parameters
EXAMPLES = 4_096
ADAM = optax.adam(1e-3)
HALVING = jd.pruning.successive_halving()
DIMENSION = 20
WORK = 150_000_000  # agent-steps of a run: all take about as long, on a machine that is shared
STEPS = {count: WORK // count for count in (64, 1_024, 16_384, 262_144, 1_000_000)}
LOOP, SIDE_BY_SIDE = 10_000, 100  # steps of what is compared
MANY = 262_144
NEVER = jd.pruning.no_pruning()
CLIMB = optax.adam(1e-2)


def mesh() -> jax.sharding.Mesh | None:
    """All devices, if there are more than one."""
    if jax.device_count() == 1:
        return None
    return jax.make_mesh(
        (jax.device_count(),), ("agents",), axis_types=(jax.sharding.AxisType.Auto,)
    )


def spread(agents: Any) -> Any:
    """Agents where our programs look for them."""
    devices = mesh()
    if devices is None:
        return agents
    rows = jax.sharding.PartitionSpec("agents")
    return jax.device_put(agents, jax.sharding.NamedSharding(devices, rows))


def data() -> dict[str, jax.Array]:
    """Friedman's first function of ten numbers (J. H. Friedman 1991), standardized."""
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


def plain(params: Any, examples: Any, key: jax.Array, masked: bool) -> Any:
    """All agents under one `vmap`: parameters, last values, and who is alive.

    Args:
      params: with a leading axis of agents.
      examples: the data.
      key: of the data's order.
      masked: whether the worse half is held where it is after each rung.
    """
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

    alive, order = jnp.ones(AGENTS, bool), jnp.arange(EXAMPLES)
    first = (params, jax.vmap(ADAM.init)(params), alive, order)
    (params, _, alive, _), values = jax.lax.scan(rung, first, RUNG * jnp.arange(RUNGS))
    return params, values[-1], alive


class Taken(NamedTuple):
    """What a call took, in seconds, and what it returned."""

    wall: float
    cpu: float
    found: Any


def taken(call: Callable[[], Any]) -> Taken:
    """The call, waited for."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(call())
    return Taken(time.perf_counter() - wall, time.process_time() - cpu, found)


def in_turns(calls: Mapping[str, Callable[[], Any]]) -> dict[str, list[Taken]]:
    """Each call TURNS times, the order alternating; they have been compiled before."""
    times: dict[str, list[Taken]] = {name: [] for name in calls}
    for turn in range(TURNS):
        for name in [*calls][:: 1 if turn % 2 else -1]:
            times[name].append(taken(calls[name]))
    return times


def halving() -> None:
    """Prints what pruning saves."""
    key, examples = jax.random.key(0), data()
    agents = jax.block_until_ready(jax.jit(starts)(key))
    ours = spread(agents)
    unpruned = jax.jit(plain, static_argnums=3)

    def fitted(prune: bool) -> Any:
        return jd.fit(
            loss,
            ADAM,
            examples,
            init_params=ours,
            key=key,
            steps=RUNGS * RUNG,
            steps_per_rung=RUNG,
            batch_size=BATCH,
            rule=HALVING,
            prune=prune,
            mesh=mesh(),
        )

    calls = {
        "plain vmap": lambda: unpruned(agents, examples, key, False),
        "plain vmap, masked": lambda: unpruned(agents, examples, key, True),
        "jd.fit, unpruned": lambda: fitted(False),
        "jd.fit, pruned": lambda: fitted(True),
    }
    compiles: list[str] = []

    def listen(event: str, duration_secs: float, **named: Any) -> None:
        del duration_secs, named
        compiles.append(event)

    rows, first = [], {}
    for name, call in calls.items():
        compiles.clear()
        jax.monitoring.register_event_duration_secs_listener(listen)
        first[name] = taken(call)
        jax.monitoring.unregister_event_duration_listener(listen)
        count = sum(event.endswith("backend_compile_duration") for event in compiles)
        first[name] = first[name], count
    times = in_turns(calls)
    least = np.array([each.wall for each in times["jd.fit, pruned"]])
    for name, each in times.items():
        walls = np.array([one.wall for one in each])
        cpu = float(np.median([one.cpu for one in each]))
        begun, count = first[name]
        rows.append(
            (
                name,
                f"{np.median(walls):.2f}",
                f"{cpu:.2f}",
                f"{np.median(walls / least):.2f}",
                f"{count}",
                f"{begun.cpu - cpu:.1f}" if count else "-",
            )
        )
    print(f"{AGENTS:,} agents, halving after each of {RUNGS} rungs of {RUNG} steps")
    print(
        table(("program", "wall s", "CPU s", "of the pruned", "compiles", "compiling, CPU s"), rows)
    )
    pruned, whole = (times[f"jd.fit, {each}"][0].found for each in ("pruned", "unpruned"))
    alive = np.asarray(pruned.population.alive)
    same = jax.tree.map(
        lambda x, y: np.array_equal(np.asarray(x)[alive], np.asarray(y)[alive]),
        pruned.population.params,
        whole.population.params,
    )
    same = np.array_equal(alive, whole.population.alive) and all(jax.tree.leaves(same))
    print(
        f"gradients: {whole.gradients / pruned.gradients:.2f} times fewer; survivors "
        f"({alive.sum()}) {'equal' if same else 'NOT equal'} to the unpruned run's, to the bit"
    )


def rastrigin(x: jax.Array) -> jax.Array:
    """L. A. Rastrigin's function (1974)."""
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)


@partial(jax.jit, static_argnums=0)
def near_minima(count: int) -> jax.Array:
    """Starts within 0.1 of whole numbers from -5 to 5."""
    whole, near = jax.random.split(jax.random.key(0))
    minima = jax.random.randint(whole, (count, DIMENSION), -5, 6).astype(jnp.float32)
    return minima + jax.random.uniform(near, (count, DIMENSION), minval=-0.1, maxval=0.1)


def step(x: jax.Array, state: Any, best: jax.Array, least: jax.Array) -> Any:
    """A step of one agent, which remembers its best point as `jd.minimize` does."""
    value, grads = jax.value_and_grad(rastrigin)(x)
    better = value < least
    best, least = jnp.where(better, x, best), jnp.where(better, value, least)
    updates, state = CLIMB.update(grads, state, x)
    return optax.apply_updates(x, updates), state, best, least


@jax.jit
def side_by_side(x: jax.Array, steps: jax.Array) -> Any:
    """All agents under one `vmap`."""
    first = (x, jax.vmap(CLIMB.init)(x), x, jnp.full(len(x), jnp.inf))
    return jax.lax.fori_loop(0, steps, lambda _, carry: jax.vmap(step)(*carry), first)[3]


def one_by_one(steps: int) -> Any:
    """A Python loop over the compiled step of one agent."""
    compiled = jax.jit(step)
    x = jnp.ones(DIMENSION)
    carry = x, CLIMB.init(x), x, jnp.full((), jnp.inf)
    for _ in range(steps):
        carry = compiled(*carry)
    return carry[3]


def throughput() -> None:
    """Prints agent-steps per second."""
    box = jnp.full(DIMENSION, 5.12)
    problem = jd.Problem(rastrigin, -box, box)
    points = {count: near_minima(count) for count in STEPS}

    def minimized(count: int) -> Any:
        return jd.minimize(
            problem,
            CLIMB,
            init_params=points[count],
            steps=STEPS[count],
            num_rungs=1,
            rule=NEVER,
            mesh=mesh(),
        ).value

    calls: dict[str, Callable[[], Any]] = {
        f"jd.minimize, {n:,}": (lambda n=n: minimized(n)) for n in STEPS
    }
    calls[f"plain vmap, {MANY:,}"] = lambda: side_by_side(points[MANY], SIDE_BY_SIDE)
    calls["Python loop, 1"] = lambda: one_by_one(LOOP)
    done = {f"jd.minimize, {n:,}": n * steps for n, steps in STEPS.items()}
    done |= {f"plain vmap, {MANY:,}": MANY * SIDE_BY_SIDE, "Python loop, 1": LOOP}
    for call in calls.values():
        jax.block_until_ready(call())
    times = in_turns(calls)
    speeds = {
        name: done[name] / np.array([one.wall for one in each]) for name, each in times.items()
    }
    cpu = {name: done[name] / np.median([one.cpu for one in each]) for name, each in times.items()}
    loop = speeds["Python loop, 1"]
    rows = [
        (name, f"{np.median(each):.2e}", f"{cpu[name]:.2e}", f"{np.median(each / loop):.0f}")
        for name, each in speeds.items()
    ]
    print(f"Rastrigin in {DIMENSION} dimensions, Adam")
    print(table(("agents", "agent-steps / s", "/ CPU s", "of the loop"), rows))
    ours = [np.median(speeds[name]) for name in calls if name.startswith("jd.minimize")]
    many = speeds[f"jd.minimize, {MANY:,}"] / speeds[f"plain vmap, {MANY:,}"]
    print(
        f"fastest over slowest {max(ours) / min(ours):.2f}; {MANY:,} agents: "
        f"{np.median(many):.2f} times the plain vmap"
    )


def memory() -> None:
    """Prints what a compiled rung needs."""
    descent = jd.fit_loop(loss, ADAM, num_agents=AGENTS, batch_size=BATCH, rule=HALVING)
    agents = jax.eval_shape(starts, jax.random.key(0))
    state = jax.eval_shape(descent.init, jax.random.key(0), agents)
    advance = jax.jit(descent.step, donate_argnums=0)
    program = advance.lower(state, data(), None, RUNG).compile()
    needs: Any = program.memory_analysis()
    population = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.population))
    print(
        f"memory of a rung: population {population / 2**20:.1f} MiB, updated in place "
        f"{needs.alias_size_in_bytes / 2**20:.1f}, temporaries "
        f"{needs.temp_size_in_bytes / 2**20:.1f} MiB"
    )


def main() -> None:
    """Prints all tables."""
    print(f"{jax.devices()[0].device_kind}; devices: {jax.device_count()}")
    halving()
    throughput()
    memory()


if __name__ == "__main__":
    main()
