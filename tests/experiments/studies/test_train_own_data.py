"""A user's table is trained on, and the network loads back to predict in the user's units."""

import csv
import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.data import csv_table
from experiments.runner.run_folder import RunError
from experiments.studies.train import Settings, load_network
from experiments.studies.train.training import batch_size, load_task
from tests.experiments.data.disk import npz, pictures
from tests.experiments.run_folders import write_run
from tests.experiments.studies.test_train import error_of, log, results, run_train

CLASSIFICATION = ["--target", "taste"]
REGRESSION = ["--target", "price"]


def write_table(path):
    """Writes a table with columns of numbers, a column of texts and two possible targets."""
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["weight", "color", "price", "taste"])
        for _ in range(100):
            weight, color = random.normal(300, 50), random.choice(["red", "green"])
            price = weight / 10 + 20 * (color == "red") + random.normal(0, 1)
            writer.writerow([f"{weight:.2f}", color, f"{price:.2f}", ["sour", "sweet"][price > 40]])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "my.csv")


@pytest.fixture(scope="module")
def trained(table):
    """Returns a run of a schedule-free optimizer, two networks, of a file that is gone by then."""
    flags = "--ignore price --optimizer schedule_free --learning-rate 0.1 --seeds 2 --width 8"
    copy = table.with_name("copy.csv")
    copy.write_bytes(table.read_bytes())
    others = ["--batch-size", "16", "--steps", "20"]
    folder = run_train(table.parent, "--data", str(copy), *CLASSIFICATION, *flags.split(), *others)
    copy.unlink()
    return folder


def test_advice_about_a_table_is_printed_at_the_start_and_in_the_verdict(tmp_path, capsys):
    path = tmp_path / "my.csv"
    path.write_text("\n".join(["id,taste", *(f"{i},{'ab'[i % 2]}" for i in range(30))]))
    folder = run_train(tmp_path, "--data", str(path), *CLASSIFICATION, "--width", "2")
    advice = "Column 'id' counts up from row to row"
    assert capsys.readouterr().err.startswith(advice)
    assert advice in json.loads((folder / "run.json").read_text())["verdict"]


def test_a_table_is_learned(trained):
    found = results(trained)
    assert found["parameters"] == 3 * 8 + 8 + 8 * 2 + 2
    assert min(found["test, at the best"]["accuracy"]) > 60
    html = (trained / "report.html").read_text()
    assert "classification of &#39;taste&#39;, which has 2 different texts" in html
    assert "one for each text of color (green, red)" in html
    assert f"load_network(&#39;{trained}&#39;)" in html


@pytest.mark.parametrize("index", [0, 1])
def test_a_network_that_is_loaded_back_has_the_test_score_of_the_run(trained, table, index):
    test = csv_table.load(table, "taste", ignore=["price"]).test
    network = load_network(trained, index=index)
    assert network.labels == ("sour", "sweet")
    assert network.features == ("weight", "color=green", "color=red")
    scores = results(trained)["test, at the best"]
    right = network(test.inputs) == np.array(network.labels)[test.targets]
    np.testing.assert_allclose(100 * right.mean(), scores["accuracy"][index], rtol=1e-5)
    chosen = network.probabilities(test.inputs)[np.arange(len(right)), test.targets]
    np.testing.assert_allclose(-np.log(chosen).mean(), scores["loss"][index], rtol=1e-4)
    np.testing.assert_allclose(network.probabilities(test.inputs).sum(1), 1, rtol=1e-5)


def test_files_columns_and_arrays_are_predicted_alike(trained, table):
    network, rows = load_network(trained), [*csv.DictReader(table.read_text().splitlines())]
    columns = {name: [row[name] for row in rows] for name in ("color", "weight")}
    arrays = [[float(r["weight"]), r["color"] == "green", r["color"] == "red"] for r in rows]
    expected = network.probabilities(table)
    assert expected.shape == (100, 2)
    np.testing.assert_array_equal(network.probabilities(columns), expected)
    np.testing.assert_array_equal(network.probabilities(arrays), expected)
    numbers = {"color": columns["color"], "weight": np.array(columns["weight"], float)}
    np.testing.assert_array_equal(network.probabilities(numbers), expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"weight": [1.0]}, "inputs: must have the columns weight, color; it lacks color"),
        ({"weight": [1, 2], "color": ["red", "blue"]}, "line 2, column 'color': must be one of"),
        ({"weight": [1, "x"], "color": ["red"] * 2}, "line 2, column 'weight': must be a finite"),
        (
            {"weight": [1, 2], "color": ["red"]},
            r"columns of one length, got \[1, 2\] cells",
        ),
        ({}, "must be columns of one length"),
        (
            {"weight": 50, "color": ["red"]},
            r"'weight' must be a list of cells, got 50; write \[50\]",
        ),
        ({"weight": [50], "color": "red"}, r"'color' must be a list .* 'red'; write \['red'\]"),
        (np.ones((4, 2)), r"shape \[n, 3\]: weight, color=green, color=red, got \(4, 2\)"),
        ([], "must have shape"),
        ([["a"]], "must be an array of numbers, got list"),
        (
            np.array([[1.0, "red", 0]], object),
            "got ndarray of dtype object; pass the DataFrame or a dict of columns",
        ),
        (
            [[1, 0, 1], [np.nan, 1, 0]],
            r"finite numbers in float32, got nan at \[1, 0\]; fill it in",
        ),
        (np.array([[1e300, 1, 0]]), r"finite numbers in float32, got inf at \[0, 0\]"),
        (np.array([[None, 1, 0]], object), r"finite numbers in float32, got nan at \[0, 0\]"),
        ({"weight": ["", 2], "color": ["red"] * 2}, r"line 1, .*rows lack one\); fill it in$"),
        ("no-such.csv", "no-such.csv: cannot be read"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(trained, inputs, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_network(trained)(inputs)
    assert "\n" not in str(caught.value)


def test_a_run_without_such_a_network_is_refused(trained, tmp_path):
    with pytest.raises(RunError, match=r"index must be in \[0, 2\), the networks of .*, got 2"):
        load_network(trained, index=2)
    with pytest.raises(RunError, match="is not a run's folder"):
        load_network(tmp_path)
    other = write_run(tmp_path / "other", [], study="quickstart")
    with pytest.raises(RunError, match="is a run of quickstart, which does not save networks"):
        load_network(other)
    (trained / "data_set.json").rename(trained / "aside")
    try:
        with pytest.raises(RunError, match=r"has no data_set.json, as it was made by an earlier"):
            load_network(trained)
    finally:
        (trained / "aside").rename(trained / "data_set.json")


def test_the_newest_run_is_loaded_as_last(trained, table, monkeypatch, tmp_path):
    (tmp_path / "runs").symlink_to(trained.parent.parent)
    monkeypatch.chdir(tmp_path)
    expected = load_network(trained).probabilities(table)
    np.testing.assert_array_equal(load_network("last").probabilities(table), expected)


def test_a_small_table_is_one_batch_by_default(table, tmp_path):
    flags = ["--data", str(table), *CLASSIFICATION, "--width", "4"]
    folder = run_train(tmp_path, *flags, "--steps", "10")
    main(["train", "--resume", str(folder), "--steps", "20"])
    explicit = run_train(tmp_path, *flags, "--steps", "20", "--batch-size", "60")
    assert log(folder)[-1]["loss"] == log(explicit)[-1]["loss"]
    task = load_task(Settings(data=str(table), target="taste", accumulate=8))
    assert [batch_size(Settings(accumulate=parts), task) for parts in (1, 8)] == [60, 56]
    with pytest.raises(ValueError, match=r"--accumulate must be in \[1, 60\].* got 64"):
        batch_size(Settings(accumulate=64), task)


def test_pictures_of_a_user_are_learned_and_predicted(tmp_path):
    path = tmp_path / "my.npz"
    images, labels = pictures(40, 4, 4), np.array(["cat", "dog"] * 20)
    path.write_bytes(npz(x=images, y=labels))
    flags = ["--width", "4", "--batch-size", "8", "--steps", "10"]
    folder = run_train(tmp_path, "--data", str(path), *flags)
    network = load_network(folder)
    assert {*network(images)} <= {"cat", "dog"}
    np.testing.assert_array_equal(network(images), network(images[..., None]))
    assert len(log(folder)) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "TABLE"], "--target must name the column of TABLE to predict, one of weight"),
        (["--data", "TABLE", "--target", "tast"], "got 'tast'; did you mean taste?"),
        (["--data", "TABLE", *CLASSIFICATION, "--model", "cnn"], "model 'cnn' does not take my"),
        (["--data", "TABLE", *CLASSIFICATION, "--window", "3"], "--window must be left out with"),
        (["--data", "my.xlsx"], "or a file that ends in .txt, .txt.gz, .csv, .csv.gz, .npz, got"),
        (["--data", "no-such.csv", *CLASSIFICATION], "no-such.csv: cannot be read"),
        (["--target", "x"], "--target must be left out with digits, which is not a .csv file"),
        (["--ignore", "x"], "--ignore must be left out with digits, which is not a .csv file"),
        (["--task", "regression"], "--task must be left out with digits, which is not a .csv or"),
    ],
)
def test_flags_that_do_not_fit_the_file_are_refused(table, tmp_path, capsys, flags, message):
    flags = [str(table) if flag == "TABLE" else flag for flag in flags]
    error = error_of(capsys, *flags, "--runs", str(tmp_path))
    assert message.replace("TABLE", str(table)) in error
    assert not [*tmp_path.iterdir()]
