"""The study runs on both data sets, and reports the metrics of the probabilities that it saves."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import runner
from experiments.__main__ import main
from experiments.methods import Outcome
from experiments.runner.outcomes import read_outcome
from experiments.runner.run_folder import file_name
from experiments.studies.medical import diagnoses
from experiments.studies.medical.assessment import assess
from experiments.studies.medical.predictions import BATCH, predictions
from experiments.studies.medical.recipes import recipes
from experiments.studies.medical.report import DISCLAIMER
from experiments.studies.medical.settings import Settings
from experiments.tasks import ModelConfig, supervised
from tests.experiments.data.disk import real

SERIES = {"self_tuning": "self-tuning Adam", "agents": "agents, pruned, population 0"}


@pytest.mark.parametrize("data", ["breast_cancer", "pneumoniamnist"])
def test_the_study_reports_what_its_saved_probabilities_give(data, tmp_path, capsys):
    flags = ["--data", data, "--scale", "smoke", "--runs", str(tmp_path)]
    methods = ["self_tuning"]
    if data == "pneumoniamnist":
        flags += ["--data-dir", str(real("pneumoniamnist.npz"))]
    else:
        methods.append("agents")
    main(["medical", *flags, "--methods", *methods])
    (folder,) = (tmp_path / "medical").iterdir()
    description = json.loads((folder / "run.json").read_text())
    diagnosis = diagnoses.load(runner.saved_settings(Settings, description))
    weighted, unweighted = diagnosis.name, f"{diagnosis.name}, unweighted loss"
    found = description["results"]
    assert {title: [*by_method] for title, by_method in found.items()} == {
        weighted: methods,
        unweighted: ["self_tuning"],
    }
    parts = diagnosis.task.validation, diagnosis.task.test
    labels = tuple(part.arrays.targets == diagnosis.positive for part in parts)
    for title, by_method in found.items():
        for method, values in by_method.items():
            path = folder / "outcomes" / f"{file_name(f'{title}, {SERIES[method]}')}.npz"
            kept = read_outcome(path, Outcome).kept
            probabilities = kept["validation"][0], kept["test"][0]
            assessment = assess(labels, probabilities, diagnosis.positive)
            diagnosed = values["diagnosis"]
            assert diagnosed["auc"]["value"] == assessment.auc.value
            wanted = {point: each.test._asdict() for point, each in assessment.points.items()}
            assert {point: each["test"] for point, each in diagnosed["points"].items()} == wanted
    for name in ("4_roc", "5_reliability", "6_confusion"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert DISCLAIMER in description["verdict"]
    assert DISCLAIMER in capsys.readouterr().out
    report = (folder / "report.html").read_text()
    assert ("published: ResNet-18" in report) == (data == "pneumoniamnist")


def test_predictions_are_of_every_seed_and_do_not_depend_on_batches():
    task = diagnoses.load(Settings(data="breast_cancer")).task
    inputs = np.resize(task.train.arrays.inputs, (BATCH + 7, 30))
    longer = task.test._replace(arrays=task.test.arrays._replace(inputs=inputs))
    models = [task.build(nnx.Rngs(seed)) for seed in (0, 1)]
    states = [nnx.split(model, nnx.Param, ...)[1:] for model in models]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    found = predictions(task._replace(test=longer))(*both)
    for seed, model in enumerate(models):
        for name, arrays in (("validation", task.validation.arrays.inputs), ("test", inputs)):
            wanted = jax.jit(task.predict)(model, arrays)
            np.testing.assert_allclose(found[name][seed], wanted, rtol=1e-5)
    assert found["test"].shape == (2, BATCH + 7, 2)


def test_labels_are_of_the_disease():
    diagnosis = diagnoses.load(Settings(data="breast_cancer"))
    task = diagnosis.task
    malignant = [int(diagnosis.labels(part).sum()) for part in task[6:9]]
    assert malignant == [127, 43, 42]
    assert sum(malignant) == 212  # published: 212 malignant, 357 benign
    empty = np.zeros((3, 28, 28, 1), np.uint8)
    part = type(task.train.arrays)(empty, np.array([0, 1, 1], np.int32))
    made = task.dataset._replace(train=part, validation=part, test=part)
    small = supervised(made, ModelConfig("cnn"))
    pneumonia = diagnoses.POSITIVE["pneumoniamnist"]
    assert diagnosis._replace(positive=pneumonia).labels(small.train).tolist() == [
        False,
        True,
        True,
    ]


def test_the_data_is_that_of_the_folder_if_there_is_one(monkeypatch, tmp_path):
    monkeypatch.delenv("JAXDESCENT_DATA", raising=False)
    assert Settings().data == "breast_cancer"
    assert Settings(data_dir=tmp_path).data == "pneumoniamnist"
    monkeypatch.setenv("JAXDESCENT_DATA", str(tmp_path))
    assert (Settings().data, Settings().model_name) == ("pneumoniamnist", "cnn")
    assert Settings(scale="full").model_name == "resnet"
    assert Settings(data="breast_cancer", scale="full").model_name == "mlp"
    with pytest.raises(ValueError, match="--model must be mlp with breast_cancer, got cnn"):
        Settings(data="breast_cancer", model="cnn")


def test_a_missing_file_is_one_line_before_any_work(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["medical", "--data-dir", str(tmp_path), "--runs", str(tmp_path)])
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{tmp_path / 'pneumoniamnist.npz'}: missing" in message
    assert not (tmp_path / "medical").exists()


def test_a_full_training_on_x_rays_has_the_published_length():
    settings = Settings(data="pneumoniamnist", scale="full", data_dir=real("pneumoniamnist.npz"))
    weighted, unweighted = recipes(settings, diagnoses.load(settings))
    for recipe in (weighted, unweighted):
        examples = recipe.steps * recipe.batch_size
        assert examples / recipe.task.train.examples == pytest.approx(100, rel=0.001)  # epochs
    assert weighted.methods is None  # every method of the settings
    assert "adam_cosine" not in unweighted.methods


def test_only_methods_that_train_once_train_without_class_weights():
    settings = Settings(data="breast_cancer", methods=("adam", "agents"))
    assert [recipe.title for recipe in recipes(settings, diagnoses.load(settings))] == [
        "breast cancer"
    ]
