"""The study of streams runs end to end, and logistic regression has the accuracy of river's."""

import json

import numpy as np
import pytest

import jaxdescent as jd
from experiments.__main__ import main
from experiments.benchmarks import streams
from experiments.data import river_streams
from experiments.studies.streaming import Settings
from experiments.studies.streaming.evaluation import LAST_CLASS, MOST_FREQUENT, baselines, evaluate
from experiments.studies.streaming.learners import LEARNERS
from experiments.studies.streaming.tasks import Stream, load


def write_elec2(folder, rows=700):
    rng = np.random.default_rng(0)
    numbers, label, lines = rng.random((rows, 8)).round(4), 0, []
    for row in numbers:
        label = label if rng.random() < 0.85 else 1 - label
        lines.append(",".join([*map(str, row), ("DOWN", "UP")[label]]))
    (folder / "elec2.csv").write_text("\n".join(lines) + "\n")


def test_a_stream_from_a_file_gives_curves_alarms_and_a_verdict(tmp_path):
    write_elec2(tmp_path)
    flags = ["--tasks", "elec2", "--learners", "sgd", "self_tuning", "--data-dir", str(tmp_path)]
    main(["streaming", "--scale", "smoke", "--runs", str(tmp_path / "runs"), *flags])
    (folder,) = (tmp_path / "runs" / "streaming").iterdir()
    description = json.loads((folder / "run.json").read_text())
    rows = description["table"]["rows"]
    learned = [(model, learner) for model in ("linear", "mlp") for learner in flags[3:5]]
    first = [("", LAST_CLASS), ("", MOST_FREQUENT)]
    assert [tuple(row[1:3]) for row in rows][:6] == [*first, *learned]
    accuracy = description["results"]["accuracy"]["elec2"]
    assert accuracy[LAST_CLASS] == pytest.approx(0.85, abs=0.05)
    # The next label is random given the last one: more than its share would be look-ahead.
    assert 0.6 < accuracy["linear, sgd"][0] < 0.9
    note = description["notes"][0]
    assert "The label of the previous example is a feature in every row" in note
    assert note.endswith("Published accuracies are without it.")
    assert (folder / "elec2.png").read_bytes().startswith(b"\x89PNG")


def test_the_last_class_and_the_most_frequent_class_use_earlier_labels_only():
    labels = np.array([0, 1, 1, 2, 1])
    found = baselines(Stream(np.zeros((5, 1)), labels, 3))
    assert found == {LAST_CLASS: 2 / 5, MOST_FREQUENT: 2 / 5}  # 0, 0, 1, 1, 2; 0, 0, 0, 1, 1


def test_every_row_has_the_same_number_of_previous_labels(tmp_path):
    write_elec2(tmp_path, 20)
    for lag in (0, 3):
        settings = Settings(tasks=("elec2",), data_dir=tmp_path, label_lag=lag)
        stream = load(settings, "elec2")
        assert stream.features.shape == (20, 8 + lag)
        for k in range(1, lag + 1):
            assert stream.features[k:, 7 + k].tolist() == stream.labels[:-k].tolist()
            assert not stream.features[:k, 7 + k].any()


def test_an_alarm_resets_the_learner_that_reacts_to_it():
    features = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    labels = (features[:, 0] * np.where(np.arange(400) < 200, 1, -1) > 0).astype(np.int32)
    stream = Stream(features, labels, 2)
    reset, plain = (evaluate(stream, "linear", each, "ddm", 0) for each in ("adam_reset", "adam"))
    assert 200 <= reset.alarms[0] == plain.alarms[0] < 300
    first = reset.alarms[0] // 4 + 1
    assert (reset.recent[:first] == plain.recent[:first]).all()
    assert reset.loss != plain.loss


@pytest.mark.parametrize("case", streams.CASES, ids=lambda case: f"{case.stream}-{case.name}")
def test_our_logistic_regression_has_the_score_of_river(case):
    pytest.importorskip("river")
    stream = river_streams.load(case.stream)
    ours = streams.score(streams.make_loop(stream, case), stream)
    theirs, count = streams.run_river(case)
    assert [f"{100 * each:.2f}%" for each in (ours, theirs)] == [case.published] * 2
    assert count == len(stream.labels)


def test_the_rule_of_a_generated_stream_changes_after_each_quarter():
    pytest.importorskip("river")
    stream = river_streams.generate("sea", 4000)
    assert stream.features.shape == (4000, 3)
    assert set(stream.labels.tolist()) == {0, 1}
    sums = stream.features[:, 0] + stream.features[:, 1]
    for part, limit in enumerate((8, 9, 7, 9.5)):
        here = slice(1000 * part, 1000 * (part + 1))
        for other in (7, 8, 9, 9.5):
            wrong = np.mean((sums[here] > other) != stream.labels[here])
            assert wrong == pytest.approx(0.1, abs=0.02) if other == limit else wrong > 0.12
    np.testing.assert_array_equal(
        stream.labels[:1000], river_streams.generate("sea", 4000).labels[:1000]
    )
    for name, width in (("agrawal", 9), ("hyperplane", 10)):
        stream = river_streams.generate(name, 30)
        assert stream.features.shape == (30, width)
        assert np.isfinite(stream.features).all()


@pytest.mark.parametrize("name", [n for n, each in LEARNERS.items() if not each.learning_rate])
def test_learners_without_a_learning_rate_of_ours_learn(name):
    features = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    stream = Stream(features, (features @ [1.0, 0.5] > 0).astype(np.int32), 2)
    for model in LEARNERS[name].models[:1]:
        course = evaluate(stream, model, name, "", 0)
        assert course.accuracy > 0.8
        assert course.nonfinite == 0


def test_without_river_its_streams_are_refused_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "river", None)
    monkeypatch.setitem(__import__("sys").modules, "river.datasets", None)
    with pytest.raises(jd.extras.MissingPackageError):
        river_streams.load("phishing")
    with pytest.raises(SystemExit):
        main(["streaming", "--tasks", "phishing", "--runs", str(tmp_path)])
    message = capsys.readouterr().err.strip()
    assert message == "river is not installed; install it with: pip install 'jaxdescent[river]'"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--tasks", "tides"],
            "--tasks must be among phishing, bananas, sea, agrawal, hyperplane, elec2, got tides",
        ),
        (["--learners", "none"], "--learners must be among sgd, adam"),
        (["--label-lag", "-1"], "--label-lag must be in [0, inf), got -1"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(flags, message, capsys):
    with pytest.raises(SystemExit):
        main(["streaming", *flags])
    assert message in capsys.readouterr().err
