"""A small study with every kind of state that a resumed run must restore; runs in a child process.

It trains two noisy networks with Adam, each with its own data order and random key, and keeps
the best evaluation. Besides the files of the runner it writes its last state to `final.npz`.
"""

import functools
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import runner
from experiments.data.batches import Batches

STEPS, CHUNKS, SEEDS, WIDTH = 3, 150, 2, 10_000
TX = optax.adam(0.05)


def advance(carry, indices, inputs):
    def step(carry, batch):
        params, state, key = carry
        key, noise = jax.random.split(key)

        def loss_fn(params):
            x = inputs[batch] + 0.1 * jax.random.normal(noise, (4, 3))
            return jnp.mean((jnp.tanh(x @ params["w"]) - params["b"]) ** 2)

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = TX.update(grads, state)
        return (optax.apply_updates(params, updates), state, key), loss

    carry, losses = jax.lax.scan(jax.vmap(step), carry, indices)
    return carry, losses


@jax.jit
def start():
    keys = jax.random.split(jax.random.key(0), SEEDS)
    params = jax.vmap(lambda k: {"w": jax.random.normal(k, (3, WIDTH)), "b": jnp.ones(WIDTH)})(keys)
    return params, jax.vmap(TX.init)(params), keys


def train(run, *, chunks=CHUNKS, patience=None):
    inputs = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    batches = Batches(11, 4, seeds=range(SEEDS))
    carry = start()
    program = runner.Program(
        advance, carry, feed=batches.chunk(0, STEPS), steps_per_chunk=STEPS, constants=(inputs,)
    )
    loop = runner.Loop(
        run,
        "small",
        program,
        carry,
        chunks=chunks,
        batches=batches,
        patience=patience,
        save_final=True,
    )
    for chunk in loop:
        time.sleep(0.004)  # long enough to be killed
        loop.log(loss=chunk.metrics.mean(0))
        loop.update_best(float(chunk.metrics[-1].mean()), keep=chunk.carry[0])
    return loop


def arrays_of(loop):
    """Returns the last state and the best parameters, by name."""
    params, state, keys = loop.carry
    tree = {"params": params, "state": state, "keys": jax.random.key_data(keys)}
    tree["best"] = loop.best(params)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def settings(runs, save_every):
    return runner.Settings(runs=runs, save_every=save_every)


def open_run(runs, save_every=0.0):
    """Resumes the run in `runs`, or starts one."""
    folders = list((runs / "small").glob("*/run.json"))
    if folders:
        return runner.Run.resume(folders[0].parent, settings(runs, save_every))
    return runner.Run.start("small", settings(runs, save_every))


def work(runs, largest_file=None, save_every=0.0):
    """Starts or resumes the run and trains to the end; main function of a child process.

    Args:
      runs: folder of the run.
      largest_file: maximal size in bytes of files written after the first checkpoint, as if
        the disk were full.
      save_every: seconds between checkpoints; 0 saves after each chunk that finds no other save.
    """
    runs = Path(runs)
    jax.config.update("jax_compilation_cache_dir", str(runs.parent / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    sys.stderr = (runs / "stderr.txt").open("a")
    run = open_run(runs, save_every)
    if largest_file is not None:
        run.log.append = functools.partial(
            _append_and_limit_files, run, run.log.append, largest_file
        )
    with run.interruption:
        loop = train(run)
    _limit_files(resource.RLIM_INFINITY)
    np.savez(runs / "final.npz", **arrays_of(loop))
    sys.stderr.flush()
    os._exit(0)  # without the exit handlers of the parent


def _append_and_limit_files(run, append, largest_file, **record):
    append(**record)
    if any(path.name.isdecimal() for path in run.folder.glob("checkpoints/*/*")):
        _limit_files(largest_file)


def _limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@functools.cache
def processes():
    """Returns a context whose children are forked from a server that has imported the modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context
