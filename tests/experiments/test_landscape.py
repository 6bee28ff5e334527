"""The landscape of a run shows what the run has, and leaves the run as it is."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

import jaxdescent as jd
from experiments import runner, saved_runs
from experiments.__main__ import main
from experiments.studies import landscape
from tests.experiments.run_folders import write_run

pytestmark = pytest.mark.usefixtures("quick_to_compile")

NETWORKS = ["--width", "8", "--seeds", "2", "--batch-size", "32", "--learning-rate", "0.02"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["train", "--scale", "smoke", "--runs", str(runs), *NETWORKS])
    (folder,) = runs.glob("train/*")
    return folder


def look(saved, runs, *flags):
    """Runs the study; the folder that it wrote."""
    before = {*runs.glob("landscape/*")}
    main(["landscape", str(saved), "--scale", "smoke", "--runs", str(runs), *flags])
    (folder,) = {*runs.glob("landscape/*")} - before
    return folder


@pytest.fixture(scope="module")
def seen(trained, tmp_path_factory):
    return look(trained, tmp_path_factory.mktemp("seen"))


@pytest.fixture(scope="module")
def subject(trained):
    return landscape.subject_of(landscape.Settings(saved=trained, scale="smoke"))


def description(folder):
    return json.loads((folder / "run.json").read_text())


def everything(folder):
    """Every path with its content, and when it was last written."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def test_a_training_run_keeps_the_path_of_its_first_network(trained):
    saved = saved_runs.load(trained)
    assert saved.path.steps.tolist() == [0, 10, 20]
    assert saved.step == 20
    start, *_, end = saved.path.trees
    for kept, network in ((start, saved.start), (end, saved.networks)):
        first = jax.tree.map(lambda leaf: leaf[0], network)
        assert jax.tree.structure(kept) == jax.tree.structure(first)
        for one, other in zip(*map(jax.tree.leaves, (kept, first)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_nothing_of_the_run_is_changed(trained):
    before = everything(trained)
    saved_runs.load(trained)
    assert everything(trained) == before


def test_its_losses_are_those_of_the_network_by_hand(subject):
    arrays, _, state = subject.batch
    batch = arrays, np.arange(1078, dtype=np.int32), state
    labels = subject.saved.task.train.arrays.targets
    layers = [
        (np.asarray(layer["kernel"][...]), np.asarray(layer["bias"][...]))
        for layer in subject.end["model"]["layers"].values()
    ]
    x, _ = subject.saved.task.prepare(subject.saved.task.train.arrays)
    hidden = np.maximum(np.asarray(x) @ layers[0][0] + layers[0][1], 0)
    logits = hidden @ layers[1][0] + layers[1][1]
    logits -= logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    assert float(subject.loss_fn(subject.end, batch)) == pytest.approx(losses.mean(), 1e-5)
    right = 100 * np.mean(logits.argmax(1) == labels)
    assert float(subject.metric_fn(subject.end, batch)) == pytest.approx(right, 1e-5)


def test_the_numbers_are_those_of_the_network(subject, seen):
    found = description(seen)["results"]
    assert {*found} == {*landscape.PARTS}
    here = float(subject.loss_fn(subject.end, subject.batch))
    assert found["random"]["values"][2][2] == pytest.approx(here, rel=1e-5)
    assert found["hessian"]["values"][2][2] == pytest.approx(here, rel=1e-5)
    path = found["principal"]
    assert path["steps"] == [0, 10, 20]
    assert sum(path["explained"]) == pytest.approx(1, abs=1e-5)
    assert path["true_losses"][-1] == pytest.approx(here, rel=1e-5)
    assert path["plane_losses"] == pytest.approx(path["true_losses"], rel=1e-3)  # three points
    assert found["start to end"]["ends"] == pytest.approx([path["true_losses"][0], here], rel=1e-5)
    other = jax.tree.map(np.asarray, subject.saved.network(1)["params"])
    there = float(subject.loss_fn(other, subject.batch))
    assert found["two networks"]["ends"] == pytest.approx([here, there], rel=1e-5)
    curved = found["hessian"]
    assert curved["converged"] == [True, True]
    assert curved["eigenvalues"][0] > curved["eigenvalues"][1] > 0
    rise = path["true_losses"][0] - here  # how far the plane reaches, by the eigenvalue alone
    assert curved["x"][-1] == pytest.approx((2 * rise / curved["eigenvalues"][0]) ** 0.5, rel=1e-4)
    assert found["box"]["full"][0] > found["box"]["full"][1] > 0
    assert found["box"]["full"][0] > found["box"]["subspace"][0]


def test_one_report_has_every_picture_and_needs_no_network(seen):
    html = (seen / "report.html").read_text()
    names = ("random_plane", "random_surface", "hessian_plane", "principal_plane", "lines")
    for name in names:
        assert f'alt="{name}"' in html
        assert (seen / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert html.count("Plotly.newPlot(") >= 2
    tags = re.findall(r"<(?:script|link|img)\b[^>]*>", html)
    assert not any(re.search(r"(src|href)\s*=\s*.http", tag) for tag in tags)
    notes = "\n".join(description(seen)["notes"])
    assert "network 1 of 2 at step 20" in notes
    assert "A random walk of as many points (3)" in notes
    quantities = [row[1] for row in description(seen)["table"]["rows"]]
    for quantity in ("variance explained, two directions", "greatest eigenvalue", "barrier"):
        assert quantity in quantities


def test_a_run_without_a_path_has_its_start_drawn_again_and_it_is_said(subject, monkeypatch):
    older = subject.saved._replace(path=runner.Snapshots(np.array([], int), []))
    monkeypatch.setattr(saved_runs, "load", lambda *_, **__: older)
    found = landscape.subject_of(landscape.Settings(saved=older.folder, scale="smoke"))
    assert found.steps.tolist() == [0, 20]
    for whole, again in zip(*map(jax.tree.leaves, (subject.path, found.path)), strict=True):
        np.testing.assert_array_equal(again, whole[np.array([0, 2])])
    assert [name for name in landscape.PARTS if not landscape._possible(name, found)] == [
        "principal"
    ]
    (said,) = landscape._lacking(found)
    assert said.startswith("The run has no path")


def test_a_resumed_landscape_computes_nothing_again(seen, monkeypatch):
    before = description(seen)
    (seen / "run.json").write_text(json.dumps({**before, "status": "interrupted"}))
    for name in landscape.PARTS:
        monkeypatch.setitem(landscape.PARTS, name, lambda *_: pytest.fail("computed again"))
    main(["landscape", "--resume", str(seen)])
    assert description(seen)["results"] == before["results"]


def one_line(capsys, *flags):
    with pytest.raises(SystemExit) as stop:
        main(["landscape", *flags])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1, said
    return said


def test_what_cannot_be_looked_at_is_one_line(tmp_path, capsys):
    runs = ["--runs", str(tmp_path)]
    assert "there is no run of train under" in one_line(capsys, *runs)
    assert "is not a run's folder" in one_line(capsys, "/no/where", *runs)
    other = write_run(tmp_path / "other", [], study="quickstart")
    said = one_line(capsys, str(other), *runs)
    assert f"{other} is a run of quickstart, which keeps no networks; name a run of train" in said
    assert not (tmp_path / "landscape").exists()
    assert "--points must be in [2, inf), got 1" in one_line(capsys, str(other), "--points", "1")


def test_a_run_whose_data_has_changed_or_that_saved_nothing_is_one_line(trained, tmp_path, capsys):
    changed = tmp_path / "changed"
    shutil.copytree(trained, changed)
    told = description(changed)
    told["pins"]["data"] = "another"
    (changed / "run.json").write_text(json.dumps(told))
    runs = ["--scale", "smoke", "--runs", str(tmp_path)]
    assert "was trained on other data" in one_line(capsys, str(changed), *runs)
    shutil.rmtree(changed / "checkpoints")
    told["pins"].pop("data")
    (changed / "run.json").write_text(json.dumps(told))
    assert "there is no checkpoint in" in one_line(capsys, str(changed), *runs)


def test_the_newest_training_run_is_taken_unless_one_is_named(tmp_path):
    for name, began in (("new", "2090-01-01T00:00:00+00:00"), ("old", "2020-01-01T00:00:00+00:00")):
        path = write_run(tmp_path / "train" / name, []) / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "began": began}))
    assert landscape.Settings(runs=tmp_path).saved == tmp_path / "train" / "new"


@pytest.mark.parametrize("points", [3, 10, 300])
def test_a_random_walk_has_the_shares_that_walks_have(points):
    walks = np.random.default_rng(0).normal(size=(points, 5_000)).cumsum(0)
    found = jd.landscape.principal_plane(walks).explained[:2]
    np.testing.assert_allclose(landscape.random_walk_shares(points), found, atol=0.02)
