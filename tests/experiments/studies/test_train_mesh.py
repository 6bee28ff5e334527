"""A run on a mesh gives the numbers of a run on one device, and can be resumed on another mesh."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxdescent as jd
from experiments import runner
from experiments.__main__ import main
from tests.experiments.studies.test_train import interrupting, log, run_train
from tests.experiments.studies.test_train_own_data import REGRESSION, write_table

NETWORKS = "--seeds 2 --self-tuning --width 128 --steps 20 --evaluate-every 10 --batch-size 16"
AGENTS = "--agents 4 --width 8 --steps 20 --batch-size 16"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mesh")


@pytest.fixture(scope="module")
def train(folder):
    data = ["--data", str(write_table(folder / "my.csv")), *REGRESSION]
    return lambda flags: run_train(folder / "runs", *data, *flags.split())


@pytest.fixture(scope="module")
def expected(train):
    return {flags: log(train(flags)) for flags in (NETWORKS, AGENTS)}


def assert_same(folder, expected):
    for found, wanted in zip(log(folder), expected, strict=True):
        assert found.keys() == wanted.keys()
        for name in found.keys() - {"series"}:
            pair = (np.array(record[name], float) for record in (found, wanted))
            np.testing.assert_allclose(*pair, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("flags", "mesh"),
    [
        (NETWORKS, "data=4"),
        (NETWORKS, "agents=2,fsdp=2"),
        (AGENTS, "agents=2,data=2"),
        (AGENTS, "data=4"),
    ],
)
def test_every_mesh_gives_the_numbers_of_one_device(train, expected, flags, mesh):
    assert_same(train(f"{flags} --mesh {mesh}"), expected[flags])


def test_a_run_is_resumed_on_another_mesh(train, folder, expected, monkeypatch):
    before = {*folder.glob("runs/train/*")}
    with monkeypatch.context() as patch:
        patch.setattr(runner.Loop, "log", interrupting(runner.Loop.log, at=1))
        with pytest.raises(SystemExit):
            train(f"{NETWORKS} --mesh data=2,fsdp=2")
    (run,) = {*folder.glob("runs/train/*")} - before
    main(["train", "--resume", str(run), "--mesh", "agents=2,data=2"])
    assert_same(run, expected[NETWORKS])


def test_resuming_on_a_mesh_that_does_not_fit_is_one_line_and_changes_nothing(train, capsys):
    run = train(f"{AGENTS} --mesh agents=2,data=2")
    before = (run / "run.json").read_bytes()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", str(run), "--mesh", "data=8"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "as many devices as there are, 4, got 8 = 8; set --mesh, such as data=4" in error
    assert error.count("\n") == 1
    assert (run / "run.json").read_bytes() == before


def test_fsdp_divides_parameters_and_the_state_of_the_optimizer():
    mesh = runner.make_mesh({"data": 2, "fsdp": 2})
    trainer = runner.trainer(
        lambda rngs: nnx.Linear(64, 32, rngs=rngs),
        lambda arrays, indices: arrays,
        lambda model, batch, key: {"loss": model(batch)},
        jd.self_tuning(optax.adam),
        mesh=mesh,
    )
    state = trainer.start(jax.random.split(jax.random.key(0), 1))
    wanted = mesh.sharding(None, "fsdp", None)
    large = [leaf for leaf in jax.tree.leaves(state) if leaf.size == 64 * 32]
    assert len(large) == 4  # the kernel, two moments and the average
    assert all(leaf.sharding.is_equivalent_to(wanted, 3) for leaf in large)
    assert all(leaf.addressable_shards[0].data.size == 32 * 32 for leaf in large)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--mesh data", "--mesh must be AXIS=SIZE,... with axes of agents, data, fsdp"),
        ("--mesh data=0", "such as agents=2, got 'data=0'"),
        ("--mesh data=2,data=2", "--mesh must have each axis once, got data twice"),
        ("--mesh rows=4", "got the axis 'rows'"),
        (
            "--agents 4 --mesh fsdp=4",
            "with axes of agents, data, such as agents=2, got the axis 'fsdp'",
        ),
        ("--mesh data=8", "as many devices as there are, 4, got 8 = 8; set --mesh"),
        ("--seeds 2 --mesh agents=2,data=1", "as many devices as there are, 4, got 2 x 1 = 2"),
        ("--seeds 3 --mesh agents=4", "--seeds must be a multiple of 4, the axis agents"),
        ("--agents 6 --mesh agents=4", "--agents must be a multiple of 4, the axis agents"),
        ("--batch-size 6 --mesh data=4", "--batch-size must be a multiple of 4, so that --mesh"),
        ("--batch-size 12 --accumulate 2 --mesh data=4", "--batch-size must be a multiple of 8"),
    ],
)
def test_a_wrong_mesh_is_one_line(train, flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        train(flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1
