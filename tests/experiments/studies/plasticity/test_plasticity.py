"""The study of plasticity runs end to end, and its tasks are what they claim."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runner
from experiments.__main__ import main
from experiments.data import DataError
from experiments.studies.plasticity import Settings, check
from experiments.studies.plasticity.methods import METHODS
from experiments.studies.plasticity.tasks import draw_order, inputs_at, load
from experiments.studies.plasticity.training import train
from tests.experiments.data.disk import real


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    methods = ["adam", "shrink_and_perturb", "continual_backprop"]
    main(["plasticity", "--scale", "smoke", "--runs", str(runs), "--methods", *methods])
    (folder,) = (runs / "plasticity").iterdir()
    return folder


def test_every_method_has_a_row_for_each_variant_and_a_figure_is_drawn(folder):
    found = json.loads((folder / "run.json").read_text())
    assert found["status"] == "finished"
    rows = found["results"]
    names = {
        f"{method}, {change}"
        for change in ("abrupt", "gradual")
        for method in ("adam", "shrink_and_perturb", "continual_backprop")
    }
    assert set(rows) == names
    for values in rows.values():
        assert len(values["accuracy"]) == 3
        assert all(0 <= accuracy <= 1 for accuracy in values["accuracy"])
    assert (folder / "1_accuracy.png").read_bytes()[:4] == b"\x89PNG"
    # The first task is the same for both: no unit is mature, and nothing was shrunk.
    for name in ("shrink_and_perturb", "continual_backprop"):
        assert rows[f"{name}, abrupt"]["accuracy"][0] == pytest.approx(
            rows["adam, abrupt"]["accuracy"][0], abs=1e-6
        )
    assert rows["shrink_and_perturb, abrupt"]["accuracy"] != rows["adam, abrupt"]["accuracy"]


def order(task, gradual, pixels=64):
    key = jax.random.key(3)
    return draw_order(key, jnp.asarray(task), jnp.asarray(gradual), 100, pixels, 16)


def test_abrupt_tasks_have_one_permutation_and_gradual_ones_end_where_the_next_begins():
    for task in (1, 2):
        abrupt, gradual = order(task, False), order(task, True)
        for part in (0.0, 0.5, 1.0):
            np.testing.assert_array_equal(inputs_at(abrupt, part), abrupt.old)
        np.testing.assert_array_equal(inputs_at(gradual, 0.0), abrupt.old)
        np.testing.assert_array_equal(inputs_at(gradual, 1.0), order(task + 1, False).old)
        half = inputs_at(gradual, 0.5)
        assert int(jnp.sum(half == gradual.new)) == pytest.approx(32, abs=4)
        assert sorted(abrupt.old.tolist()) == list(range(64))
    assert np.mean(order(1, False).old == order(2, False).old) < 0.2


def test_each_image_is_in_at_most_one_batch_of_a_task():
    examples = np.ravel(order(1, False).examples)
    assert len(examples) == 96
    assert len(set(examples.tolist())) == 96
    assert set(examples.tolist()) <= set(range(100))


def test_a_network_learns_within_a_task():
    settings = Settings(num_tasks=6, images=800, scale="smoke")
    images = load(settings)
    assert images.pixels.shape == (800, 64)
    assert images.pixels.max() == 1
    with runner.Progress(total=10**6) as progress:
        course = train(settings, images, "abrupt", "adam", "Adam", progress)
    assert course.accuracy.shape == (6, 2)
    assert course.accuracy.mean() > 0.35  # mean over one pass of 50 batches; chance is 0.1
    np.testing.assert_array_equal(course.accuracy, course.at_average)


def test_all_methods_are_registered_by_their_names():
    assert set(Settings().methods) == set(METHODS)
    assert Settings(scale="full", data="mnist").images == 10_000
    assert Settings(scale="small").num_tasks == 500


def test_mnist_is_read_from_the_folder():
    settings = Settings(scale="smoke", data="mnist", data_dir=real("mnist"))
    images = load(settings)
    assert images.pixels.shape == (160, 784)
    assert 0 < images.pixels.mean() < images.pixels.max() == 1


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--images must be at least 16, a batch, got 3"):
        Settings(images=3)
    with pytest.raises(ValueError, match="--images must be at most 1437 with digits, got 5000"):
        check(Settings(images=5000))
    with pytest.raises(DataError, match="train-images"):
        check(Settings(data="mnist", data_dir=tmp_path))
