"""The study runs on both data sets, and reports the metrics of the probabilities that it saves."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import runner
from experiments.__main__ import main
from experiments.runner.outcomes import read_outcome
from experiments.runner.run_folder import file_name
from experiments.studies.medical import diagnoses
from experiments.studies.medical.assessment import assess
from experiments.studies.medical.report import DISCLAIMER
from experiments.studies.medical.settings import LENGTHS, Settings
from experiments.studies.medical.training import BATCH, Trained, predictor
from experiments.tasks import ModelConfig, supervised
from tests.experiments.data.disk import real

NAMES = ["self-tuning, balanced loss", "self-tuning, unweighted loss"]


@pytest.mark.parametrize("data", ["breast_cancer", "pneumoniamnist"])
def test_the_study_reports_what_its_saved_probabilities_give(data, tmp_path, capsys):
    flags = ["--data", data, "--scale", "smoke", "--runs", str(tmp_path)]
    if data == "pneumoniamnist":
        flags += ["--data-dir", str(real("pneumoniamnist.npz"))]
    main(["medical", *flags])
    (folder,) = (tmp_path / "medical").iterdir()
    description = json.loads((folder / "run.json").read_text())
    assert [*description["results"]] == NAMES
    diagnosis = diagnoses.load(runner.saved_settings(Settings, description))
    parts = diagnosis.task.validation, diagnosis.task.test
    labels = tuple(part.arrays.targets == diagnosis.positive for part in parts)
    for name, found in description["results"].items():
        saved = read_outcome(folder / "outcomes" / f"{file_name(name)}.npz", Trained)
        assessment = assess(labels, (saved.validation, saved.test), diagnosis.positive)
        assert found["auc"]["value"] == assessment.auc.value
        wanted = {point: each.test._asdict() for point, each in assessment.points.items()}
        assert {point: each["test"] for point, each in found["points"].items()} == wanted
        assert 0 < found["step"] <= LENGTHS[data]["smoke"].steps
    for name in ("roc", "reliability", "confusion"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert DISCLAIMER in description["verdict"]
    assert DISCLAIMER in capsys.readouterr().out
    published = [row for row in description["table"]["rows"] if row[0].startswith("published")]
    assert len(published) == (3 if data == "pneumoniamnist" else 0)


def test_predictions_in_batches_equal_predictions_at_once():
    task = diagnoses.load(Settings(data="breast_cancer")).task
    model = task.build(nnx.Rngs(0))
    inputs = np.resize(task.train.arrays.inputs, (2 * BATCH + 7, 30))
    found = predictor(task, *nnx.split(model, nnx.Param, ...)[1:])(inputs)
    wanted = jax.jit(task.predict)(model, inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found.shape == (2 * BATCH + 7, 2)


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
    assert Settings(data="breast_cancer").model_name == "mlp"
    with pytest.raises(ValueError, match="--model must be mlp with breast_cancer, got cnn"):
        Settings(data="breast_cancer", model="cnn")


def test_a_missing_file_is_one_line_before_any_work(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["medical", "--data-dir", str(tmp_path), "--runs", str(tmp_path)])
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"{tmp_path / 'pneumoniamnist.npz'}: missing" in message
    assert not (tmp_path / "medical").exists()


@pytest.mark.parametrize("data", LENGTHS)
@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_evaluations_divide_the_steps(data, scale):
    length = LENGTHS[data][scale]
    assert length.every * length.evaluations == length.steps
