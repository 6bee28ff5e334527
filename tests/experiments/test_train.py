"""The plain training run does what its flags say, and goes on to the same end."""

import gzip
import json
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import runner, tasks
from experiments.__main__ import main
from experiments.runner.log import Log
from experiments.studies import train
from tests.experiments.data.disk import write
from tests.experiments.data.test_medmnist import archive
from tests.experiments.run_folders import write_run

pytestmark = pytest.mark.usefixtures("quick_to_compile")

# A rate at which the validation loss soon gets worse, on two networks.
NETWORKS = ["--width", "8", "--seeds", "2", "--batch-size", "32"]
FLAGS = [*NETWORKS, "--optimizer", "momentum", "--learning-rate", "0.2"]
STOPPING = [*FLAGS, "--steps", "400", "--patience", "2"]


def start(runs, *flags):
    """Runs the study; the folder that it wrote."""
    before = {*runs.glob("train/*")}
    main(["train", "--scale", "smoke", "--runs", str(runs), *flags])
    (folder,) = {*runs.glob("train/*")} - before
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def results(folder):
    return description(folder)["results"]


def log(folder):
    """The records without what a clock told."""
    clocks = ("seconds", "steps_per_second")
    return [
        {name: value for name, value in record.items() if name not in clocks}
        for record in Log(folder / "metrics.jsonl").read()
    ]


def checkpoint(folder):
    """The arrays of the last checkpoint: of the state and of the best."""
    checkpoints = folder / "checkpoints" / train.LINE
    read = ocp.args.StandardRestore()
    with ocp.CheckpointManager(checkpoints) as manager:
        items = manager.restore(
            manager.latest_step(), args=ocp.args.Composite(carry=read, best=read)
        )
    return {name: {k: _data(a) for k, a in item.items()} for name, item in items.items()}


def _data(array):
    is_key = jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(array) if is_key else array)


def stopped_in_a_line(capsys, *flags):
    """What is said of flags that are a mistake."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "--scale", "smoke", *flags])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.count("\n") == 1, said
    return said


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def stopped(runs):
    """A run that ended early."""
    return start(runs, *STOPPING)


def test_it_stops_when_its_patience_ends(stopped):
    records = log(stopped)
    means = [np.mean(record["validation_loss"]) for record in records]
    best = int(np.argmin(means))
    assert best > 0
    assert len(means) == best + 1 + 2  # the two that brought nothing better
    assert [record["step"] for record in records] == [10 * (i + 1) for i in range(len(means))]
    found = results(stopped)
    assert (found["steps"], found["best_step"]) == (10 * len(means), 10 * (best + 1))
    assert found["steps"] < 400
    assert "Stopped early: 2 evaluations" in (stopped / "report.html").read_text()


def test_the_results_are_of_the_last_state_and_of_the_best(stopped):
    records, found = log(stopped), results(stopped)
    best = next(record for record in records if record["step"] == found["best_step"])
    assert found["loss"] == records[-1]["loss"]
    for title, record in (("last", records[-1]), ("best", best)):
        judged = found[f"validation, {title}"]
        np.testing.assert_allclose(judged["loss"], record["validation_loss"], rtol=1e-6)
        np.testing.assert_allclose(judged["accuracy"], record["validation_accuracy"], rtol=1e-6)
    assert found["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert min(found["test, at the best"]["accuracy"]) > 30
    assert len({*found["test, at the best"]["loss"]}) == 2


def test_the_report_has_the_table_the_picture_and_the_footprint(stopped):
    html = (stopped / "report.html").read_text()
    for part in ("training, last", "validation, last", "validation, best", "test, at the best"):
        assert f"<td>{part}</td>" in html
    assert "<h2>Footprint</h2>" in html
    assert 'alt="losses"' in html
    assert description(stopped)["status"] == "finished"


@pytest.mark.parametrize("at", [2, 6])  # before the best, and while the patience ends
def test_an_interrupted_run_goes_on_to_the_same_results(runs, stopped, monkeypatch, capsys, at):
    with monkeypatch.context() as patch:
        patch.setattr(runner.Loop, "log", interrupting(runner.Loop.log, at))
        before = {*runs.glob("train/*")}
        with pytest.raises(SystemExit) as stop:
            start(runs, *STOPPING)
    assert stop.value.code == 128 + signal.SIGINT
    (folder,) = {*runs.glob("train/*")} - before
    said = capsys.readouterr().err
    assert f"resume with: python -m experiments train --resume {folder}" in said
    assert description(folder)["status"] == "interrupted"
    assert len(log(folder)) == at
    assert "results" not in description(folder)

    main(["train", "--resume", str(folder)])
    assert results(folder) == results(stopped)
    assert log(folder) == log(stopped)
    for item, arrays in checkpoint(stopped).items():
        for name, array in arrays.items():
            assert checkpoint(folder)[item][name].tobytes() == array.tobytes(), name


def interrupting(method, at):
    """The method; its n-th call asks the run to stop."""
    calls = []

    def call(*arguments, **options):
        method(*arguments, **options)
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)

    return call


def test_a_finished_run_that_is_resumed_comes_to_the_same_results(stopped):
    before = results(stopped), log(stopped)
    main(["train", "--resume", str(stopped)])
    assert (results(stopped), log(stopped)) == before


def test_a_warm_start_begins_with_the_parameters_of_the_best(runs, stopped):
    still = ["--optimizer", "sgd", "--learning-rate", "1e-30", "--steps", "1"]
    folder = start(runs, *NETWORKS, *still, "--warm-start", str(stopped))
    found, before = results(folder), results(stopped)
    assert before["best_step"] < before["steps"]
    assert found["validation, last"] == before["validation, best"]
    assert found["test, at the best"] == before["test, at the best"]
    taken, best = checkpoint(folder)["carry"], checkpoint(stopped)["best"]
    assert {name for name in taken if name.startswith("params.")} == {*best}
    for name, array in best.items():
        np.testing.assert_array_equal(taken[name], array)


@pytest.fixture(scope="module")
def warm(runs, stopped):
    """A run that was not interrupted and began with the parameters of another."""
    return start(runs, *FLAGS, "--steps", "20", "--warm-start", str(stopped))


@pytest.fixture
def interrupted(tmp_path, stopped, monkeypatch):
    """The same run, interrupted after its first evaluation; and where its parameters are from."""
    source = tmp_path / "source"
    shutil.copytree(stopped, source)
    with monkeypatch.context() as patch:
        patch.setattr(runner.Loop, "log", interrupting(runner.Loop.log, 1))
        with pytest.raises(SystemExit):
            start(tmp_path, *FLAGS, "--steps", "20", "--warm-start", str(source))
    (folder,) = tmp_path.glob("train/*")
    return folder, source


def test_a_warm_start_needs_its_source_only_once(interrupted, warm):
    folder, source = interrupted
    shutil.rmtree(source)
    main(["train", "--resume", str(folder)])
    assert results(folder) == results(warm)


def test_a_warm_start_that_was_killed_in_its_first_save_is_a_warm_start_again(interrupted, warm):
    folder, _ = interrupted
    (complete,) = (folder / "checkpoints" / train.LINE).iterdir()
    complete.rename(complete.with_name(f"{complete.name}.orbax-checkpoint-tmp"))
    main(["train", "--resume", str(folder)])
    assert results(folder) == results(warm)


def test_a_run_whose_data_has_changed_does_not_go_on(interrupted, monkeypatch, capsys):
    folder, _ = interrupted
    monkeypatch.setattr(tasks.Task, "digest", lambda self: "another")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", str(folder)])
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"data must be the same as when {folder} was started; restore it to resume"


def test_a_warm_start_of_another_network_is_one_line(stopped, runs, capsys):
    flags = ["--width", "9", "--seeds", "2", "--runs", str(runs), "--warm-start", str(stopped)]
    said = stopped_in_a_line(capsys, *flags)
    assert re.search(
        r"belongs to another run or other settings: params\.\S+ is float32\[2,\S*8\] there, "
        r"expected float32\[2,\S*9\]",
        said,
    )


def test_a_warm_start_from_what_is_no_run_of_it_is_one_line(tmp_path, capsys):
    other = write_run(tmp_path / "other", [], study="quickstart")
    flags = [*FLAGS, "--runs", str(tmp_path)]
    said = stopped_in_a_line(capsys, *flags, "--warm-start", str(other))
    assert f"--warm-start takes a run of train, got {other} of quickstart" in said
    said = stopped_in_a_line(capsys, *flags, "--warm-start", str(tmp_path / "nothing"))
    assert "is not a run's folder" in said
    empty = write_run(tmp_path / "empty", [])
    said = stopped_in_a_line(capsys, *flags, "--warm-start", str(empty))
    assert "there is no checkpoint in" in said


def test_examples_that_are_sent_from_the_host_give_the_same_numbers(runs, stopped):
    folder = start(runs, *FLAGS, "--steps", "20", "--stream")
    assert log(folder) == log(stopped)[:2]


@pytest.fixture(scope="module")
def narrow(runs):
    """A tower in bfloat16 whose batches come in parts."""
    optimizer = "--optimizer adamw --learning-rate 0.01 --b2 0.99 --weight-decay 0.1 --clip 1"
    others = "--steps 20 --precision bfloat16 --tower 2 --accumulate 2 --evaluate-on 50"
    return start(runs, *NETWORKS, *optimizer.split(), *others.split())


def test_a_tower_learns_the_rate_of_each_network(narrow):
    rates = [record["learning_rate"] for record in log(narrow)]
    assert len(rates) == 2
    seen = {0.01, *rates[0], *rates[1]}
    assert len(seen) == 5
    assert all(0.001 < rate < 0.1 for rate in seen)
    assert min(results(narrow)["validation, last"]["accuracy"]) > 20


def test_an_evaluation_takes_no_more_examples_than_it_is_told_to(narrow):
    assert "Judged on at most 50 examples of a part." in description(narrow)["notes"]
    for record in log(narrow):
        right = np.array(record["validation_accuracy"]) * 50 / 100
        np.testing.assert_allclose(right, np.round(right), atol=1e-4)


def test_in_bfloat16_parameters_and_optimizer_stay_in_float32(narrow):
    found = checkpoint(narrow)
    for item in found.values():
        assert {array.dtype.name for array in item.values()} <= {
            "float32",
            "int32",
            "uint32",
            "bool",
        }
    assert np.isfinite(results(narrow)["loss"]).all()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt.gz"
    path.write_bytes(gzip.compress(b"the cat sat on the mat. " * 80))
    return str(path)


@pytest.fixture(scope="module")
def of_text(runs, text):
    flags = "--model gru --width 8 --depth 1 --context 8 --batch-size 16 --learning-rate 0.03"
    return start(runs, "--data", text, *flags.split(), "--sample", "12", "--dropout", "0.1")


def test_a_text_is_learned_and_written(of_text):
    found = results(of_text)
    assert found["loss"][0] < np.log(11)  # less than of eleven characters, all as likely
    assert "accuracy" not in found["test, at the best"]
    (sample,) = [note for note in description(of_text)["notes"] if note.startswith("A sample: ")]
    written = sample.removeprefix("A sample: ").strip("'")
    assert len(written) == 1 + 12
    assert {*written} <= {*"the cat sat on the mat. "}


def test_a_series_is_learned(runs):
    flags = "--data goog --width 4 --window 3 --batch-size 16 --steps 10 --seeds 2"
    found = results(start(runs, *flags.split()))
    assert len(found["validation, best"]["loss"]) == 2
    assert np.isfinite(found["test, at the best"]["loss"]).all()


def test_images_are_learned_by_convolutions_a_step_at_a_time(runs, tmp_path):
    write(tmp_path / "pneumoniamnist.npz", archive())
    data = ["--data", "pneumoniamnist", "--data-dir", str(tmp_path), "--model", "cnn"]
    flags = "--seeds 2 --batch-size 4 --steps 4 --evaluate-every 2 --dropout 0.1"
    folder = start(runs, *data, *flags.split())
    assert [record["step"] for record in log(folder)] == [2, 4]
    found = results(folder)
    assert len({*found["loss"]}) == len({*found["test, at the best"]["loss"]}) == 2
    assert np.isfinite([*found["loss"], *found["test, at the best"]["loss"]]).all()
    bill = json.loads((folder / "footprint.json").read_text())
    flops = bill["parts"][0]["quantities"]["training FLOPs"]["value"]
    assert flops == 4 * bill["flops_per_step"][train.LINE]


def test_a_text_is_read_by_a_transformer_unless_it_is_told_otherwise(runs, text):
    # Of a single token, which leaves no room for a sample.
    folder = start(runs, "--data", text, "--context", "1", "--batch-size", "2", "--steps", "1")
    assert results(folder)["parameters"] > 90_000
    assert results(folder)["steps"] == 1


@pytest.mark.parametrize("steps", [1, 15, 20, 60, 101, 1_000, 2_000, 20_000])
def test_evaluations_are_some_forty_however_many_steps_there_are(steps):
    settings = train.Settings(steps=steps, evaluate_every=101 if steps == 101 else None)
    assert steps % settings.steps_per_chunk == 0
    assert steps / settings.steps_per_chunk <= 80


def test_a_number_of_steps_that_cannot_be_cut_is_refused():
    # Or it would be judged after every step.
    with pytest.raises(ValueError, match="--steps 2003 is no multiple of a good number of steps"):
        train.Settings(steps=2_003)
    assert train.Settings(steps=2_003, evaluate_every=2_003).steps_per_chunk == 2_003


def test_it_takes_as_many_steps_as_it_is_told_to(runs):
    found = results(start(runs, *NETWORKS, "--steps", "15"))
    assert found["steps"] == 15


def test_losses_that_are_not_finite_are_counted_and_the_run_says_so(runs):
    folder = start(
        runs, *NETWORKS, "--optimizer", "sgd", "--learning-rate", "1e30", "--steps", "10"
    )
    (record,) = log(folder)
    assert record["loss"] == [None, None]
    assert 0 < min(record["not_finite_steps"]) <= max(record["not_finite_steps"]) < 10
    found = results(folder)
    assert found["best_step"] is None
    assert "validation, best" not in found
    assert found["test, at the last"]["loss"] == [None, None]
    html = (folder / "report.html").read_text()
    assert "No validation loss was finite" in html
    assert "In 1 of 1 chunks the loss was not finite" in html


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-size", "5000"], ["batch", "1078", "5000"]),
        (["--data", "digitz"], ["unknown data set 'digitz'", "did you mean digits?"]),
        (["--data", "no-such.txt"], ["no-such.txt"]),
        (["--data", "mnist", "--data-dir", "/no/where"], ["/no/where"]),
        (["--model", "cnn"], ["model 'cnn' does not take digits"]),
        (["--dropout", "0.5"], ["--dropout must be left out with mlp, which takes width, depth"]),
        (["--data", "goog", "--dropout", "1.5"], ["dropout must be in [0, 1), got 1.5"]),
        (["--window", "7"], ["--window must be left out with digits, which is no series"]),
        (["--steps", "60", "--evaluate-every", "50"], ["--evaluate-every must divide the 60"]),
        (["--data", "TEXT", "--size", "7M"], ["size", "7M"]),
        (["--data", "TEXT", "--model", "mlp"], ["model 'mlp' does not take text"]),
        (["--data", "TEXT", "--context", "9999"], ["too short", "9999"]),
        (["--data", "goog", "--window", "9999"], ["too short", "9999"]),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, text, capsys, flags, words):
    flags = [text if flag == "TEXT" else flag for flag in flags]
    said = stopped_in_a_line(capsys, *flags, "--runs", str(tmp_path))
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--width", "0"], "--width must be in [1, inf), got 0"),
        (["--batch-size", "0"], "--batch-size must be in [1, inf), got 0"),
        (["--evaluate-every", "0"], "--evaluate-every must be in [1, inf), got 0"),
        (["--patience", "0"], "--patience must be in [1, inf), got 0"),
        (["--tower", "-1"], "--tower must be in [0, inf), got -1"),
        (["--learning-rate", "0"], "--learning-rate must be in (0, inf), got 0"),
        (["--learning-rate", "inf"], "--learning-rate must be in (0, inf), got inf"),
        (["--clip", "0"], "--clip must be in (0, inf), got 0"),
        (["--b2", "0.9", "--optimizer", "sgd"], "--b2 must be left out with sgd"),
        (["--weight-decay", "0.1"], "--weight-decay must be left out with adam"),
        (["--tower", "1", "--schedule", "cosine"], "--schedule must be constant with --tower"),
        (["--accumulate", "3"], "--accumulate must divide --batch-size 64, got 3"),
        (["--optimizer", "adagrad"], "--optimizer"),
        (["--model", "vgg"], "--model"),
    ],
)
def test_a_flag_out_of_range_is_one_line_and_makes_no_folder(tmp_path, capsys, flags, words):
    said = stopped_in_a_line(capsys, *flags, "--runs", str(tmp_path / "runs"))
    assert words in said
    assert not (tmp_path / "runs").exists()


def rates(**settings):
    """The steps that the optimizer takes from a gradient of one, over 100 steps."""
    tx = train.optimizer(train.Settings(optimizer="sgd", learning_rate=0.5, **settings), 100)
    state, found = tx.init(0.0), []
    for _ in range(100):
        update, state = tx.update(jax.numpy.ones(()), state, 0.0)
        found.append(-float(update))
    return found


def test_a_constant_rate_stays():
    assert {*rates()} == {0.5}


def test_a_cosine_warms_up_over_a_twentieth_and_decays_to_a_tenth():
    found = rates(schedule="cosine")
    np.testing.assert_allclose(found[:6], 0.5 * np.arange(6) / 5, rtol=1e-5)
    decay = 0.05 + 0.45 * (1 + np.cos(np.pi * np.arange(95) / 95)) / 2
    np.testing.assert_allclose(found[5:], decay, rtol=1e-4)
