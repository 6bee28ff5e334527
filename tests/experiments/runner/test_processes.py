"""Two processes train together, one is lost, and the run goes on in one process."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.runner import processes
from experiments.runner.run_folder import steps_done
from tests.experiments.studies.test_train import log, run_train
from tests.experiments.studies.test_train_mesh import assert_same
from tests.experiments.studies.test_train_own_data import REGRESSION, write_table

ROOT = Path(__file__).parents[3]
FLAGS = "--seeds 2 --self-tuning --width 128 --evaluate-every 10 --batch-size 16 --save-every 0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def data(folder):
    return ["--data", str(write_table(folder / "my.csv")), *REGRESSION, *FLAGS.split()]


def address():
    """Returns an address on which a coordinator can wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def start(runs, flags, mesh):
    """Starts two processes with two devices each."""
    command = [sys.executable, "-m", "experiments", "train", "--scale", "smoke", *flags]
    command += ["--runs", str(runs), "--mesh", mesh, "--coordinator", address(), "--processes", "2"]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    return [
        subprocess.Popen(  # noqa: S603
            [*command, "--process", str(number)],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for number in range(2)
    ]


def finish(started):
    outputs = [process.communicate(timeout=240)[0] for process in started]
    return [process.returncode for process in started], outputs


def test_two_processes_give_the_numbers_of_one_device(folder, data):
    flags = [*data, "--steps", "20"]
    started = start(folder / "together", flags, "agents=2,fsdp=2")
    expected = log(run_train(folder / "alone", *flags))
    codes, outputs = finish(started)
    assert codes == [0, 0], outputs
    (run,) = folder.glob("together/train/*")
    assert_same(run, expected)
    assert (run / "report.html").is_file()
    assert f"report: {run}" in outputs[0]
    assert "report:" not in outputs[1]  # the first process says it
    assert not [*Path(run).rglob("*.partial")]
    started = start(folder / "together", ["--resume", str(run), "--steps", "40"], "data=4")
    expected = log(run_train(folder / "alone", *data, "--steps", "40"))
    codes, outputs = finish(started)
    assert codes == [0, 0], outputs
    assert_same(run, expected)


def test_a_lost_process_ends_the_other_and_one_process_resumes_the_run(folder, data):
    runs = folder / "lost"
    started = start(runs, [*data, "--steps", "100000"], "data=4")
    deadline = time.monotonic() + 200
    while not any(map(steps_done, runs.glob("train/*"))):
        assert time.monotonic() < deadline, finish(started)
        assert [process.poll() for process in started] == [None, None], finish(started)
        time.sleep(0.2)
    started[0].kill()
    codes, outputs = finish(started)
    assert codes[1] not in (0, None)
    assert "this process was ended because another one was lost; resume the run" in outputs[1]
    (run,) = runs.glob("train/*")
    steps = steps_done(run) + 10
    main(["train", "--resume", str(run), "--mesh", "data=2,fsdp=2", "--steps", str(steps)])
    expected = run_train(folder / "alone", *data, "--steps", str(steps))
    assert_same(run, log(expected))


MINIMIZE = """
import json, sys, jax, numpy as np, optax
import jaxdescent as jd
from jaxdescent import sharding
if len(sys.argv) > 1:
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
devices, kind = jax.device_count(), (jax.sharding.AxisType.Auto,)
result = jd.minimize(
    jd.problems.rastrigin(2, key=jax.random.key(0)),
    optax.adam,
    hyperparams={"learning_rate": np.geomspace(1e-3, 1e-1, 8)},
    num_agents=8,
    steps=40,
    steps_per_rung=10,
    rule=jd.pruning.successive_halving(2),
    key=jax.random.key(1),
    mesh=jax.make_mesh((devices,), ("agents",), axis_types=kind) if devices > 1 else None,
)
best = result.population.best_values
found = [result.value, best, result.gradients, result.history.values, result.params]
print(json.dumps([np.asarray(sharding.whole(x)).tolist() for x in found]))
"""


def minimize(devices, *arguments):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", MINIMIZE, *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_agents_on_two_processes_have_the_history_of_agents_on_one_device():
    started = [minimize(1), minimize(4)]
    started += [minimize(2, free_address := address(), "0"), minimize(2, free_address, "1")]
    codes, outputs = finish(started)
    assert codes == [0] * 4, outputs
    alone, *others = (json.loads(output.splitlines()[-1]) for output in outputs)
    for other in others:
        for found, wanted in zip(other, alone, strict=True):
            np.testing.assert_allclose(
                np.array(found, float), np.array(wanted, float), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--coordinator here --processes 2 --process 0", "--coordinator must be HOST:PORT or auto"),
        ("--coordinator a:0 --processes 2 --process 0", "HOST:PORT or auto, got 'a:0'"),
        ("--coordinator a:1 --process 0", "--processes must be in [1, inf) with --coordinator"),
        ("--coordinator a:1 --processes 2", "--process must be in [0, 2), a different number"),
        ("--coordinator a:1 --processes 2 --process 2", "in each process, got 2"),
        ("--coordinator a:1 --processes 2 --process -1", "--process must be followed by"),
        ("--processes 2 --process 0", "--coordinator must be given with --processes"),
        ("--coordinator", "--coordinator must be followed by HOST:PORT, or by auto"),
        ("--coordinator 127.0.0.1:1 --processes 2 --process 1", "no coordinator answers at 127"),
    ],
)
def test_wrong_flags_are_one_line(flags, message, monkeypatch, capfd):
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    with pytest.raises(SystemExit) as stop:
        main(["train", *flags.split()])
    error = capfd.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def test_one_process_alone_has_all(folder):
    assert processes.is_first()
    assert processes.from_first(lambda: {"a": 1}) == {"a": 1}
    assert processes.any_true(True, False) == [True, False]
    processes.wait_for_all("alone")
    tree = {"x": jnp.ones(2), "key": jax.random.key(0), "y": 3}
    assert processes.on_host(tree) is not None
    assert processes.on_host(tree)["x"] is tree["x"]
    (folder / "original" / "checkpoints").mkdir(parents=True)
    (folder / "original" / "run.json").write_text("{}")
    copy = processes.copy_of(folder / "original")
    assert [path.name for path in copy.iterdir()] == ["run.json"]
    processes.discard(copy)
    assert not copy.parent.exists()
    np.testing.assert_array_equal(processes.on_host(np.ones(2)), 1)
