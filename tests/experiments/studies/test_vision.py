"""The study of images: a smoke run on each task, and the augmentation."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from experiments.__main__ import main
from experiments.studies.vision import Settings
from experiments.studies.vision.augmentation import crop_and_flip
from experiments.studies.vision.recipes import recipes
from tests.experiments.data.disk import real


def smoke(runs, *flags):
    main(["vision", "--scale", "smoke", "--runs", str(runs), *flags])
    (folder,) = (runs / "vision").iterdir()
    return folder, json.loads((folder / "run.json").read_text())


def test_a_smoke_run_on_digits_has_its_pictures_and_its_table(tmp_path):
    methods = ["adam_cosine", "schedule_free", "self_tuning", "agents"]
    folder, run = smoke(tmp_path, "--tasks", "digits", "--methods", *methods)
    assert [*run["results"]["digits"]] == methods
    assert {path.name for path in folder.glob("*.png")} >= {
        "1_compute.png",
        "2_steps.png",
        "3_profile.png",
    }
    assert run["verdict"].startswith("digits: self-tuning Adam has ")
    rows = {row[0]: row for row in run["table"]["rows"]}
    assert rows["Adam, cosine"][5] == "3"
    assert rows["agents, pruned"][5] == "4"


def test_a_smoke_run_on_images_of_the_data_folder(tmp_path):
    flags = ["--tasks", "mnist", "--methods", "self_tuning_sgd"]
    _, run = smoke(tmp_path, *flags, "--data-dir", str(real("mnist")))
    assert np.isfinite(run["results"]["MNIST"]["self_tuning_sgd"]["loss"]).all()


def test_the_residual_network_has_its_published_schedule():
    settings = Settings(tasks=("resnet20",), data_dir=real("cifar10_subset.npz"))
    ((recipe,), _) = recipes(settings)
    assert recipe.steps == 350  # 10 epochs of 4,500 images
    (tx,), params = recipe.published.values(), {"w": jnp.ones(2)}
    zeros, state = {"w": jnp.zeros(2)}, tx.init(params)
    moved = []
    for _ in range(recipe.steps):
        updates, state = tx.update(zeros, state, params)
        state = jax.tree.map(lambda x: 0 * x if x.ndim else x, state)  # without momentum
        moved.append(float(updates["w"][0]))
    expected = np.repeat([0.1, 0.01, 0.001], [175, 87, 88])
    np.testing.assert_allclose(moved, -1e-4 * expected, rtol=1e-5)


def test_a_task_without_its_data_is_named(tmp_path):
    flags = ["--tasks", "digits", "mnist", "--methods", "self_tuning", "--data-dir", str(tmp_path)]
    _, run = smoke(tmp_path, *flags)
    assert any(note.startswith("mnist was left out: ") for note in run["notes"])


def test_crops_move_images_and_flips_mirror_them():
    image = jnp.arange(1.0, 37).reshape(6, 6, 1)
    images = jnp.broadcast_to(image, (500, 6, 6, 1))
    found = np.asarray(crop_and_flip(jax.random.key(0), images))[..., 0]
    padded = np.pad(np.asarray(image[..., 0]), 4)
    crops = [padded[i : i + 6, j : j + 6] for i in range(9) for j in range(9)]
    allowed = {crop.tobytes() for crop in [*crops, *(crop[:, ::-1].copy() for crop in crops)]}
    seen = [image.tobytes() for image in found]
    assert set(seen) <= allowed
    assert len(set(seen)) > 140  # of 162
    mirrored = {crop[:, ::-1].tobytes() for crop in crops}
    assert 0.4 < np.mean([each in mirrored for each in seen]) < 0.6
