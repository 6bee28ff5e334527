"""The landscape has the networks that the run has, and does not change the run."""

import json
import re
import shutil
import sys

import jax
import numpy as np
import pytest

import jaxdescent as jd
from experiments import runner
from experiments.__main__ import main
from experiments.studies import landscape
from experiments.studies.landscape import Settings
from experiments.studies.landscape.report import notes_on_missing_networks, random_walk_shares
from experiments.studies.landscape.slices import SLICES
from experiments.studies.landscape.subject import load_subject
from experiments.studies.train import saved_runs
from tests.experiments.run_folders import write_run

NETWORKS = ["--width", "8", "--seeds", "2", "--batch-size", "32", "--learning-rate", "0.02"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["train", "--scale", "smoke", "--runs", str(runs), *NETWORKS])
    (folder,) = runs.glob("train/*")
    return folder


def run_landscape(saved, runs, *flags):
    """Runs the study and returns the folder of its run."""
    before = {*runs.glob("landscape/*")}
    main(["landscape", str(saved), "--scale", "smoke", "--runs", str(runs), *flags])
    (folder,) = {*runs.glob("landscape/*")} - before
    return folder


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory):
    return run_landscape(trained, tmp_path_factory.mktemp("landscapes"))


@pytest.fixture(scope="module")
def subject(trained):
    return load_subject(Settings(saved=trained, scale="smoke"))


def description(folder):
    return json.loads((folder / "run.json").read_text())


def snapshot(folder):
    """Returns the content and the modification time of every path."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def test_a_training_run_saves_the_trajectory_of_its_first_network(trained):
    saved = saved_runs.load(trained)
    assert saved.trajectory.steps.tolist() == [0, 10, 20]
    assert saved.step == 20
    initial, *_, last = saved.trajectory.trees
    for kept, network in ((initial, saved.initial), (last, saved.networks)):
        first = jax.tree.map(lambda leaf: leaf[0], network)
        assert jax.tree.structure(kept) == jax.tree.structure(first)
        for one, other in zip(*map(jax.tree.leaves, (kept, first)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_saved_run_is_not_changed(trained):
    before = snapshot(trained)
    saved_runs.load(trained)
    assert snapshot(trained) == before


def test_the_loss_and_the_accuracy_equal_numpys(subject):
    arrays, _, state = subject.batch
    batch = arrays, np.arange(1078, dtype=np.int32), state
    labels = subject.saved.task.train.arrays.targets
    layers = [
        (np.asarray(layer["kernel"][...]), np.asarray(layer["bias"][...]))
        for layer in subject.last["model"]["layers"].values()
    ]
    x, _ = subject.saved.task.prepare(subject.saved.task.train.arrays)
    hidden = np.maximum(np.asarray(x) @ layers[0][0] + layers[0][1], 0)
    logits = hidden @ layers[1][0] + layers[1][1]
    logits -= logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    assert float(subject.loss_fn(subject.last, batch)) == pytest.approx(losses.mean(), 1e-5)
    right = 100 * np.mean(logits.argmax(1) == labels)
    assert float(subject.metric_fn(subject.last, batch)) == pytest.approx(right, 1e-5)


def test_results_equal_the_losses_of_the_networks(subject, finished):
    found = description(finished)["results"]
    assert {*found} == {*SLICES}
    last = float(subject.loss_fn(subject.last, subject.batch))
    assert found["random"]["values"][2][2] == pytest.approx(last, rel=1e-5)
    assert found["hessian"]["values"][2][2] == pytest.approx(last, rel=1e-5)
    path = found["principal"]
    assert path["steps"] == [0, 10, 20]
    assert sum(path["explained"]) == pytest.approx(1, abs=1e-5)
    assert path["true_losses"][-1] == pytest.approx(last, rel=1e-5)
    assert path["plane_losses"] == pytest.approx(path["true_losses"], rel=1e-3)  # three points
    assert found["initial to last"]["ends"] == pytest.approx(
        [path["true_losses"][0], last], rel=1e-5
    )
    other = jax.tree.map(np.asarray, subject.saved.network(1)["params"])
    second = float(subject.loss_fn(other, subject.batch))
    assert found["two networks"]["ends"] == pytest.approx([last, second], rel=1e-5)
    curved = found["hessian"]
    assert curved["converged"] == [True, True]
    assert curved["eigenvalues"][0] > curved["eigenvalues"][1] > 0
    rise = path["true_losses"][0] - last  # the eigenvalue determines the extent of the plane
    assert curved["x"][-1] == pytest.approx((2 * rise / curved["eigenvalues"][0]) ** 0.5, rel=1e-4)
    assert found["box"]["full"][0] > found["box"]["full"][1] > 0
    assert found["box"]["full"][0] > found["box"]["subspace"][0]


def test_the_report_has_every_figure_and_no_links(finished):
    html = (finished / "report.html").read_text()
    names = ("random_plane", "random_surface", "hessian_plane", "principal_plane", "lines")
    for name in names:
        assert f'alt="{name}"' in html
        assert (finished / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert html.count("Plotly.newPlot(") >= 2
    tags = re.findall(r"<(?:script|link|img)\b[^>]*>", html)
    assert not any(re.search(r"(src|href)\s*=\s*.http", tag) for tag in tags)
    notes = "\n".join(description(finished)["notes"])
    assert "network 1 of 2 at step 20" in notes
    assert "A random walk with the same number of points (3)" in notes
    quantities = [row[1] for row in description(finished)["table"]["rows"]]
    for quantity in ("variance explained, two directions", "greatest eigenvalue", "barrier"):
        assert quantity in quantities


def test_without_a_trajectory_the_initial_parameters_are_drawn_again(subject, monkeypatch):
    older = subject.saved._replace(trajectory=runner.Snapshots(np.array([], int), []))
    monkeypatch.setattr(saved_runs, "load", lambda *_, **__: older)
    found = load_subject(Settings(saved=older.folder, scale="smoke"))
    assert found.steps.tolist() == [0, 20]
    trajectories = subject.trajectory, found.trajectory
    for whole, again in zip(*map(jax.tree.leaves, trajectories), strict=True):
        np.testing.assert_array_equal(again, whole[np.array([0, 2])])
    assert [name for name, each in SLICES.items() if not each.possible(found)] == ["principal"]
    (note,) = notes_on_missing_networks(found)
    assert note.startswith("The run has no trajectory")


def test_a_resumed_run_reads_saved_results(finished, monkeypatch):
    before = description(finished)
    (finished / "run.json").write_text(json.dumps({**before, "status": "interrupted"}))
    for name, part in SLICES.items():
        failing = part._replace(evaluate=lambda *_: pytest.fail("computed again"))
        monkeypatch.setitem(SLICES, name, failing)
    main(["landscape", "--resume", str(finished)])
    assert description(finished)["results"] == before["results"]


def test_a_resumed_run_without_plotly_is_one_line_before_any_work(finished, capsys, monkeypatch):
    before = {**description(finished), "status": "interrupted"}
    (finished / "run.json").write_text(json.dumps(before))
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr(landscape, "load_subject", lambda _: pytest.fail("work is done"))
    message = error_of(capsys, "--resume", str(finished))
    assert (
        "plotly is not installed; install it with: pip install 'jaxdescent[landscape]'" in message
    )
    assert description(finished) == before


def error_of(capsys, *flags):
    with pytest.raises(SystemExit) as stop:
        main(["landscape", *flags])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert message.count("\n") == 1, message
    return message


def test_folders_without_a_training_run_are_rejected(tmp_path, capsys):
    runs = ["--runs", str(tmp_path)]
    assert "has no runs of train" in error_of(capsys, *runs)
    assert "is not a run's folder" in error_of(capsys, "/no/where", *runs)
    other = write_run(tmp_path / "other", [], study="quickstart")
    message = error_of(capsys, str(other), *runs)
    assert (
        f"{other} is a run of quickstart, which does not save networks; name a run of train"
        in message
    )
    assert not (tmp_path / "landscape").exists()
    assert "--points must be in [2, inf), got 1" in error_of(capsys, str(other), "--points", "1")


def test_runs_with_changed_data_or_without_checkpoints_are_rejected(trained, tmp_path, capsys):
    changed = tmp_path / "changed"
    shutil.copytree(trained, changed)
    edited = description(changed)
    edited["pins"]["data"] = "another"
    (changed / "run.json").write_text(json.dumps(edited))
    runs = ["--scale", "smoke", "--runs", str(tmp_path)]
    assert "was trained on other data" in error_of(capsys, str(changed), *runs)
    shutil.rmtree(changed / "checkpoints")
    edited["pins"].pop("data")
    (changed / "run.json").write_text(json.dumps(edited))
    assert "there is no checkpoint in" in error_of(capsys, str(changed), *runs)


def test_the_default_is_the_newest_training_run(tmp_path):
    for name, began in (("new", "2090-01-01T00:00:00+00:00"), ("old", "2020-01-01T00:00:00+00:00")):
        path = write_run(tmp_path / "train" / name, []) / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "began": began}))
    assert Settings(runs=tmp_path).saved == tmp_path / "train" / "new"


@pytest.mark.parametrize("points", [3, 10, 300])
def test_the_shares_of_a_random_walk_equal_those_of_simulated_walks(points):
    walks = np.random.default_rng(0).normal(size=(points, 5_000)).cumsum(0)
    found = jd.landscape.principal_plane(walks).explained[:2]
    np.testing.assert_allclose(random_walk_shares(points), found, atol=0.02)
