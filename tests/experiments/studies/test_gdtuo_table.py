"""The table has the rows of the paper, and trains them as the paper says."""

import json
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.__main__ import main
from experiments.data import Split
from experiments.studies.gdtuo_table import published, report, rows, training
from experiments.studies.gdtuo_table.settings import EPOCHS, Settings, load_task
from tests.experiments.data import test_mnist

TOWER = "RMSProp^a/SGD(1e-4)"  # learns one of two hyperparameters, as its root
ROWS = published.ROWS  # all of them
OURS = "self-tuning Adam"
NAMES = ["SGD", TOWER, f"{TOWER} (x)"]


@pytest.fixture(scope="module")
def chosen():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "ROWS", [row for row in ROWS if row.name in NAMES])
        patch.setattr(rows, "SELF_TUNING", {OURS: optax.adam})
        patch.setitem(EPOCHS, "small", 6)
        patch.delenv("JAXDESCENT_DATA", raising=False)
        yield


def ran(runs, *flags):
    main(["gdtuo_table", "--seeds", "2", "--runs", str(runs), *flags])
    (folder,) = (runs / "gdtuo_table").iterdir()
    return folder


@pytest.fixture(scope="module")
def on_digits(chosen, tmp_path_factory):
    return ran(tmp_path_factory.mktemp("runs"), "--scale", "smoke")


@pytest.fixture(scope="module")
def on_mnist(chosen, tmp_path_factory):
    """Returns a run on MNIST files with 30 + 12 images of noise."""
    data = test_mnist.folder(tmp_path_factory.mktemp("data"))
    return ran(tmp_path_factory.mktemp("runs"), "--data-dir", str(data))


def results(folder):
    return json.loads((folder / "run.json").read_text())["results"]


def test_on_the_digits_the_papers_numbers_are_not_shown(on_digits):
    found = results(on_digits)
    assert list(found) == [*NAMES, OURS]
    assert all(row["published"] is None for row in found.values())
    assert "paper learned" not in (on_digits / "report.html").read_text()
    assert (on_digits / "gdtuo_table.png").read_bytes().startswith(b"\x89PNG")


def test_on_the_digits_a_rerun_has_the_values_that_the_tower_learned(on_digits):
    found = results(on_digits)
    learned, fixed = found[TOWER]["learned"], found[f"{TOWER} (x)"]["learned"]
    assert list(learned) == ["alpha"]
    assert abs(np.mean(learned["alpha"]) / 0.01 - 1) > 0.01
    np.testing.assert_allclose(fixed["alpha"], np.mean(learned["alpha"]), rtol=1e-5)
    np.testing.assert_allclose(fixed["gamma"], 0.99, rtol=1e-5)
    np.testing.assert_allclose(found["SGD"]["learned"]["alpha"], 0.01, rtol=1e-6)


def test_on_mnist_the_papers_numbers_are_shown(on_mnist):
    found, html = results(on_mnist), (on_mnist / "report.html").read_text()
    assert list(found) == [*NAMES, OURS]
    assert found[OURS]["published"] is None
    known = [found[name]["published"] for name in NAMES]
    printed = [(each["error"], each["spread"]) for each in known]
    assert printed == [(8.99, 0.05), (3.55, 0.23), (3.93, 0.70)]
    fixed = found[f"{TOWER} (x)"]["learned"]
    np.testing.assert_allclose(fixed["alpha"], 0.0030, rtol=1e-5)
    np.testing.assert_allclose(fixed["gamma"], 0.99, rtol=1e-5)
    assert "<td>8.99 ± 0.05</td>" in html
    assert "errors, of 3: 0 after 6 epochs (0), 0 after 5 epochs (0)" in html  # noise
    assert "<td>.0030</td>" in html  # the paper's rate, beside ours


def test_self_tuning_is_tested_at_its_averaged_parameters(chosen):
    row = rows.self_tuning_row(OURS)
    network = [{"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}]
    state = row.make_optimizer().init(network)
    elsewhere = jax.tree.map(lambda x: x + 1, network)
    chex.assert_trees_all_equal(row.get_tested(elsewhere, state), network)
    assert float(row.get_learned(state)["alpha"]) == pytest.approx(1e-9, rel=1e-5)  # range test


def test_mnist_is_loaded_with_all_its_training_images(tmp_path):
    data_dir = test_mnist.folder(tmp_path)
    task = load_task(Settings(data_dir=data_dir))
    assert (task.name, task.train.inputs.shape, task.test.inputs.shape) == (
        *("mnist", (30, 784), (12, 784)),
    )
    images = np.concatenate([task.train.inputs, task.test.inputs]) / task.scale
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert (task.hidden, task.batch_size) == (128, 256)


def test_scale_full_needs_mnist(chosen, tmp_path, capsys):
    with pytest.raises(SystemExit):
        ran(tmp_path, "--scale", "full")
    assert "--data-dir" in capsys.readouterr().err


def test_the_paper_has_18_rows_and_14_reruns():
    assert len(ROWS) == 18
    assert sum(row.rerun is not None for row in ROWS) == 14
    best = min(ROWS, key=lambda row: row.published.error)
    assert (best.name, best.published) == ("RMSProp^a,g/RMSProp(1e-4)", (2.96, 0.11))
    rerun = min((row for row in ROWS if row.rerun), key=lambda row: row.rerun.error)
    assert (rerun.name, rerun.rerun, rerun.learned) == (
        *("SGD/RMSProp(0.1)", (2.52, 0.07)),
        {"alpha": 0.5920},
    )


def test_deviations_are_in_joint_standard_errors():
    errors = np.array([5.0, 6.0, 7.0])  # standard deviation 1
    joint = np.sqrt(1 / 3 + 0.5**2)
    printed = published.Published(4.0, 0.5)
    np.testing.assert_allclose(report.deviation(errors, printed), 2 / joint)
    joint = np.sqrt(1 / 3 + 0.5**2 / 3)
    np.testing.assert_allclose(report.deviation(errors, printed, runs=3), 2 / joint)


def test_initial_weights_have_torchs_distribution():
    first, second = training.init_params(jax.random.key(0), (784, 128, 10))
    for layer, inputs, outputs in ((first, 784, 128), (second, 128, 10)):
        assert layer["w"].shape == (inputs, outputs)
        assert layer["b"].shape == (outputs,)
        bound = inputs**-0.5
        assert float(jnp.abs(layer["w"]).max()) <= bound
        np.testing.assert_allclose(layer["w"].std(), bound / np.sqrt(3), rtol=0.05)
        np.testing.assert_allclose(layer["b"].std(), bound / np.sqrt(3), rtol=0.5)


def train_by_hand(network, task, order, rate):
    """Returns the network, the loss and the test error after an epoch of plain descent."""

    def logits(network, images):
        first, second = network
        hidden = jnp.tanh(images @ first["w"] + first["b"])
        return jnp.tanh(hidden @ second["w"] + second["b"])

    @jax.jit
    @jax.value_and_grad
    def loss(network, images, labels):
        log_probabilities = jax.nn.log_softmax(logits(network, images))
        return -jnp.mean(log_probabilities[np.arange(len(labels)), labels])

    losses = []
    for begin in range(0, len(order), task.batch_size):
        batch = order[begin : begin + task.batch_size]
        images, labels = task.train.inputs[batch] / task.scale, task.train.targets[batch]
        value, grads = loss(network, images, labels)
        network = jax.tree.map(lambda w, g: w - rate * g, network, grads)
        losses.append(value)
    guess = logits(network, task.test.inputs / task.scale).argmax(-1)
    return network, np.mean(losses), 100 * np.mean(guess != task.test.targets)


def test_an_epoch_uses_every_example_once_with_a_smaller_last_batch():
    rng = np.random.default_rng(0)

    def part(n):
        return Split(*(jnp.asarray(rng.integers(b, size=s)) for b, s in ((256, (n, 6)), (3, n))))

    task = training.ImageTask("made", part(7), part(40), 255.0, 5, 3, "")
    keys = jax.random.split(jax.random.key(1), 2)
    networks = jax.vmap(lambda key: training.init_params(key, (6, 5, 3)))(keys)
    row = training.TableRow("sgd", "sgd", partial(optax.sgd, 0.5), lambda state: {})
    state = jax.vmap(row.make_optimizer().init)(networks)
    advance = jax.jit(training.make_epoch(task, row, keys))
    (trained, _), (losses, errors, _) = advance((networks, state), 4, task.train, task.test)
    for seed in range(2):
        initial = jax.tree.map(lambda leaf, seed=seed: leaf[seed], networks)
        last = jax.tree.map(lambda leaf, seed=seed: leaf[seed], trained)
        order = np.asarray(jax.random.permutation(jax.random.fold_in(keys[seed], 4), 7))
        network, loss, error = train_by_hand(initial, task, order, 0.5)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), last, network)
        np.testing.assert_allclose(losses[seed], loss, rtol=1e-5)
        np.testing.assert_allclose(errors[seed], error, rtol=1e-6)
