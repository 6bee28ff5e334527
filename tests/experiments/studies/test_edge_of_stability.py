"""The study of the edge runs from end to end, and its figures and verdicts are exact."""

import json
import types

import jax
import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.models import tanh_network
from experiments.studies.edge_of_stability import study, training
from experiments.studies.edge_of_stability.training import Case, Path

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs, nowhere = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("nothing")
    flags = ["--scale", "smoke", "--seeds", "2", "--data-dir", str(nowhere), "--runs", str(runs)]
    main(["edge_of_stability", *flags])
    (folder,) = (runs / "edge_of_stability").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_line_has_a_path_of_each_seed(folder):
    found = description(folder)["results"]["32 digits images, GD, rate 0.2"]
    first, second = found["seeds"]
    assert first["step"] == [0, 20, 40]
    assert first["threshold"] == [10.0] * 3
    assert first["sharpness"] != second["sharpness"]


def test_what_is_far_below_is_not_flagged_and_cifar_is_told_to_be_missing(folder):
    rows = {(row[1], row[2]): row for row in description(folder)["table"]["rows"]}
    assert rows["GD, rate 0.01", "far below"][-3] == "0 of 2"
    assert rows["GD, ridden at 0.9", "ride"][-3] == "0 of 2"
    assert "CIFAR-10 is left out: " in "\n".join(description(folder)["notes"])


def test_a_quadratic_must_be_flagged_where_it_diverges_and_only_there():
    states = {
        ratio: types.SimpleNamespace(outcome=outcome)
        for ratio, outcome in ((0.9, 1), (1.1, 3), (3.0, 4))
    }
    (verdict,) = study.verdicts([], [], states)[-1:]
    assert verdict == "A quadratic is flagged where its ratio is above 1, and only there."
    states[0.99] = states[1.1]
    states[1.01] = states[0.9]
    assert study.verdicts([], [], states)[-1].endswith("; not at 0.99, 1.01.")


def test_there_is_a_picture(folder):
    (picture,) = folder.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_computes_nothing_again(folder, monkeypatch):
    before = description(folder)
    path = folder / "run.json"
    path.write_text(json.dumps({**before, "status": "interrupted"}))
    monkeypatch.setattr(training.Runs, "_compute", lambda *_: pytest.fail("computed again"))
    main(["edge_of_stability", "--resume", str(folder)])
    assert description(folder)["results"] == before["results"]


def path_of(ratio, reached, outcome=jd.StabilityOutcome.EDGE, last_loss=0.1):
    """A path of 10 probes, every 20 steps, with a threshold of 5."""
    ratio = np.broadcast_to(ratio, 10)
    return Path(
        step=20 * np.arange(10),
        loss=np.linspace(1.0, last_loss, 10),
        learning_rate=np.full(10, 0.4),
        sharpness=5 * ratio,
        residual=np.full(10, 0.05),
        threshold=np.full(10, 5.0),
        converged=np.array([False] + [True] * 9),
        rises=np.linspace(0, 0.9, 10),
        reached=np.int32(reached),
        left=np.int32(-1),
        not_finite=np.int32(-1),
        outcome=np.int32(outcome),
        unconverged=np.int32(1),
    )


def line_of(role, *paths, value=0.4):
    return study.Line("a task", Case("GD", value, role), paths)


def test_the_ratio_is_the_median_from_the_edge_on():
    risen = np.array([0.1, 0.2, 0.3, 0.4, 1.0, 1.1, 1.0, 1.0, 1.0, 1.2])
    found = study.summary(line_of("edge", path_of(risen, 80), path_of(1.06, 0)))
    assert found.ratio == pytest.approx(1.06)  # of six below or at 1.1 and ten of 1.06
    assert (found.least, found.greatest) == (pytest.approx(1.0), pytest.approx(1.06))
    assert found.last == pytest.approx(1.06)
    assert found.reached == 40
    assert found.rises == pytest.approx(100 * (sum(range(10)) + sum(range(4, 10))) / 160)
    assert found.loss == pytest.approx(0.1)
    assert found.unconverged == pytest.approx(10.0)
    assert found.residual == pytest.approx(0.05 / (5 * 0.2))
    assert found.kept


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (line_of("edge", path_of(0.949, 0)), False),
        (line_of("edge", path_of(0.951, 0)), True),
        (line_of("edge", path_of(1.101, 0)), False),
        (line_of("edge", path_of(1.0, 0), path_of(1.0, -1)), False),
        (line_of("edge", path_of(1.0, 0, jd.StabilityOutcome.DIVERGING)), False),
        (line_of("far below", path_of(0.5, -1)), True),
        (line_of("far below", path_of([9.0] + [0.5] * 9, -1)), True),
        (line_of("far below", path_of([0.5] * 9 + [0.96], -1)), False),
        (line_of("far below", path_of(0.5, -1, jd.StabilityOutcome.NOT_FINITE)), False),
        (line_of("too large", path_of(2, 0, 3, 1.1), path_of(np.nan, 0, 4, np.nan)), True),
        (line_of("too large", path_of(2, 0, 3, 1.1), path_of(2, 0)), True),
        (line_of("too large", path_of(2, 0, 2, 1.1)), False),
        (line_of("too large", path_of(2, 0, 3, 0.9)), False),
        (line_of("ride", path_of(0.9, -1), value=0.9), True),
        (line_of("ride", path_of(1.0, -1), value=0.9), False),
    ],
)
def test_a_line_is_as_it_should_be_or_not(line, kept):
    assert study.summary(line).kept is kept
    (verdict,) = [
        text
        for text in study.verdicts([line], [study.summary(line)], {})
        if text.startswith(f"Role {line.case.role}")
    ]
    assert f"in {int(kept)} of 1 lines" in verdict
    assert ("not in a task, GD" in verdict) is not kept


def test_a_ride_stands_beside_the_best_fixed_rate():
    lines = [
        line_of("edge", path_of(1.0, 0, last_loss=0.3), value=0.1),
        line_of("edge", path_of(1.0, 0, last_loss=0.2), value=0.2),
        line_of("ride", path_of(0.9, -1, last_loss=0.25), value=0.9),
    ]
    (said,) = study._rides(lines, [study.summary(line) for line in lines])
    assert "ridden at 0.9 ends at a loss of 0.2500" in said
    assert "GD, rate 0.2, at 0.2000" in said


def test_the_network_is_the_published_one():
    params = tanh_network.init_params(jax.random.key(0), (3072, 200, 200, 10))
    assert [layer["kernel"].shape for layer in params] == [(3072, 200), (200, 200), (200, 10)]
    for layer in params:
        bound = 1 / np.sqrt(len(layer["kernel"]))
        assert np.abs(layer["kernel"]).max() == pytest.approx(bound, rel=0.01)
        assert np.abs(layer["bias"]).max() == 0
    x, targets = np.ones((2, 3072), np.float32), np.eye(10, dtype=np.float32)[:2]
    zero = jax.tree.map(np.zeros_like, params)
    assert float(tanh_network.squared_error(zero, (x, targets))) == pytest.approx(0.5)


def test_a_task_takes_as_many_images_as_it_is_told():
    task = training.Task.load("digits", 50)
    assert task.inputs.shape == (50, 64)
    assert task.targets.sum() == 50
    assert task.title == "50 digits images"
    np.testing.assert_array_equal(task.inputs[:20], training.Task.load("digits", 20).inputs)


@pytest.mark.parametrize(
    ("flags", "words"), [(["--seeds", "0"], "--seeds must be in [1, inf), got 0")]
)
def test_bad_settings_are_told(flags, words, capsys):
    with pytest.raises(SystemExit):
        main(["edge_of_stability", *flags])
    assert words in capsys.readouterr().err
