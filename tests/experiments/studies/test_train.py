"""The training run follows its flags, and a resumed run has the same results."""

import dataclasses
import gzip
import json
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tyro

from experiments import runner, tasks
from experiments.__main__ import main
from experiments.data.batches import data_seeds
from experiments.runner.log import Log
from experiments.studies.train import Settings, training
from experiments.studies.train.settings import SERIES
from experiments.studies.train.training import load_task, optimizer
from tests.experiments.data.disk import write
from tests.experiments.data.test_medmnist import archive
from tests.experiments.run_folders import write_run

# A learning rate at which the validation loss of both networks soon increases.
NETWORKS = ["--width", "8", "--seeds", "2", "--batch-size", "32"]
FLAGS = [*NETWORKS, "--optimizer", "momentum", "--learning-rate", "0.2"]
STOPPING = [*FLAGS, "--steps", "400", "--patience", "2"]


def run_train(runs, *flags):
    """Runs the study and returns the folder of its run."""
    before = {*runs.glob("train/*")}
    main(["train", "--scale", "smoke", "--runs", str(runs), *flags])
    (folder,) = {*runs.glob("train/*")} - before
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def results(folder):
    return description(folder)["results"]


def log(folder):
    """Returns the records without the measured times."""
    clocks = ("seconds", "steps_per_second")
    return [
        {name: value for name, value in record.items() if name not in clocks}
        for record in Log(folder / "metrics.jsonl").read()
    ]


def checkpoint(folder):
    """Returns the arrays of the last checkpoint: of the state and of the best networks."""
    checkpoints = folder / "checkpoints" / SERIES
    read = ocp.args.StandardRestore()
    with ocp.CheckpointManager(checkpoints) as manager:
        items = manager.restore(
            manager.latest_step(), args=ocp.args.Composite(carry=read, best=read)
        )
    return {name: {k: _data(a) for k, a in item.items()} for name, item in items.items()}


def _data(array):
    is_key = jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(array) if is_key else array)


def error_of(capsys, *flags):
    """Returns the one-line error message of invalid flags."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "--scale", "smoke", *flags])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert message.count("\n") == 1, message
    return message


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def stopped(runs):
    """Returns a run that stopped early."""
    return run_train(runs, *STOPPING)


def test_a_run_stops_after_its_patience(stopped):
    records = log(stopped)
    means = [np.mean(record["validation_loss"]) for record in records]
    best = int(np.argmin(means))
    assert best > 0
    assert len(means) == best + 1 + 2  # the two without improvement
    assert [record["step"] for record in records] == [10 * (i + 1) for i in range(len(means))]
    found = results(stopped)
    assert (found["steps"], found["best_step"]) == (10 * len(means), 10 * (best + 1))
    assert found["steps"] < 400
    assert (
        "Stopped early: 2 evaluations without improvement" in (stopped / "report.html").read_text()
    )


def test_results_are_of_the_last_and_of_the_best_state(stopped):
    records, found = log(stopped), results(stopped)
    best = next(record for record in records if record["step"] == found["best_step"])
    assert found["loss"] == records[-1]["loss"]
    for title, record in (("last", records[-1]), ("best", best)):
        scores = found[f"validation, {title}"]
        np.testing.assert_allclose(scores["loss"], record["validation_loss"], rtol=1e-6)
        np.testing.assert_allclose(scores["accuracy"], record["validation_accuracy"], rtol=1e-6)
    assert found["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert min(found["test, at the best"]["accuracy"]) > 30
    assert len({*found["test, at the best"]["loss"]}) == 2


def test_the_report_has_the_table_the_figure_and_the_footprint(stopped):
    html = (stopped / "report.html").read_text()
    for part in ("training, last", "validation, last", "validation, best", "test, at the best"):
        assert f"<td>{part}</td>" in html
    assert "<h2>Footprint</h2>" in html
    found = description(stopped)
    assert found["title"] == "digits, SGD with momentum"
    assert found["more_tables"] == []
    (_, step, _, accuracy), baseline = found["table"]["rows"][-2:]
    name = load_task(Settings()).baseline[0]
    assert baseline[:3] == [f"test, {name}", "-", "-"]
    assert f" Baseline, the {name}: accuracy {baseline[3]}%." in found["verdict"]
    assert f"Use the network of step {step} in Python" in found["notes"][-1]
    assert found["verdict"].startswith(f"On the test part: accuracy {accuracy}%, loss ")
    assert f"at step {step} (with the best validation loss)." in found["verdict"]
    assert 'alt="losses"' in html
    assert description(stopped)["status"] == "finished"


@pytest.mark.parametrize("at", [2, 6])  # before the best evaluation, and during the patience
def test_an_interrupted_run_resumes_to_the_same_results(runs, stopped, monkeypatch, capsys, at):
    with monkeypatch.context() as patch:
        patch.setattr(runner.Loop, "log", interrupting(runner.Loop.log, at))
        before = {*runs.glob("train/*")}
        with pytest.raises(SystemExit) as stop:
            run_train(runs, *STOPPING)
    assert stop.value.code == 128 + signal.SIGINT
    (folder,) = {*runs.glob("train/*")} - before
    message = capsys.readouterr().err
    assert f"resume with: python -m experiments train --resume {folder}" in message
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
    """Returns the method; its n-th call interrupts the run."""
    calls = []

    def call(*arguments, **options):
        method(*arguments, **options)
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)

    return call


def test_resuming_a_finished_run_changes_nothing(stopped):
    before = results(stopped), log(stopped)
    main(["train", "--resume", str(stopped)])
    assert (results(stopped), log(stopped)) == before


@pytest.fixture(scope="module")
def long(runs):
    """Returns an uninterrupted run of 40 steps."""
    return run_train(runs, *FLAGS, "--steps", "40")


def assert_same_end(folder, expected):
    assert results(folder) == results(expected)
    assert log(folder) == log(expected)
    for item, arrays in checkpoint(expected).items():
        for name, array in arrays.items():
            assert checkpoint(folder)[item][name].tobytes() == array.tobytes(), name
    trajectories = (sorted((each / "trajectory").rglob("*.npz")) for each in (folder, expected))
    for own, other in zip(*trajectories, strict=True):
        assert own.name == other.name
        assert own.read_bytes() == other.read_bytes()


def test_a_finished_run_goes_on_as_if_it_had_been_started_with_more_steps(runs, long, monkeypatch):
    folder = run_train(runs, *FLAGS, "--steps", "20")
    before = results(folder)
    with monkeypatch.context() as patch:
        patch.setattr(runner.Loop, "log", interrupting(runner.Loop.log, 1))
        with pytest.raises(SystemExit):
            main(["train", "--resume", str(folder), "--steps", "40"])
    assert results(folder) == before
    assert description(folder)["status"] == "interrupted"
    main(["train", "--resume", str(folder)])
    assert_same_end(folder, long)
    assert "<td>40</td>" in (folder / "report.html").read_text()


def test_a_run_that_is_given_more_steps_keeps_its_interval_of_evaluations(tmp_path):
    first = Settings(steps=2_000)
    assert first.evaluate_every == 50
    assert dataclasses.replace(first, steps=4_000).steps_per_chunk == 50


@pytest.mark.parametrize(
    ("started", "flags", "words"),
    [
        ([], ["--steps", "10"], "--steps must be at least the 20 steps that RUN has done, got 10"),
        ([], ["--steps", "45"], "--evaluate-every must divide the 45 steps, got 10; --steps 40 or"),
        ([], ["--evaluate-every", "5"], "--evaluate-every must be 10, as when RUN was started"),
        ([], ["--patience", "9"], "--patience must be left out, as when RUN was started, got 9"),
        (["--patience", "3"], ["--patience", "2"], "--patience must be at least 3, as when RUN"),
        (
            ["--schedule", "cosine"],
            ["--steps", "40"],
            "--steps must be 20 with --schedule cosine, whose learning rate depends on the number "
            "of steps, got 40; start a new run to change it",
        ),
    ],
)
def test_a_change_that_a_started_run_cannot_have_is_refused(
    tmp_path, capsys, started, flags, words
):
    main_flags = ["--scale", "smoke", "--runs", str(tmp_path), *started]
    settings = tyro.cli(Settings, args=main_flags)
    run = runner.Run.start("train", settings)
    (run.checkpoints_folder(SERIES) / "20").mkdir(parents=True)
    run.mark("finished")
    run.close()
    before = (run.folder / "run.json").read_bytes()
    message = error_of_resume(capsys, run.folder, *flags)
    assert words.replace("RUN", str(run.folder)) in message
    assert (run.folder / "run.json").read_bytes() == before


def error_of_resume(capsys, folder, *flags):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", str(folder), *flags])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert message.count("\n") == 1, message
    return message


def test_a_stopped_run_goes_on_with_more_patience(runs, stopped):
    folder = shutil.copytree(stopped, runs / "train" / "copy")
    main(["train", "--resume", str(folder), "--patience", "3"])
    assert results(folder)["steps"] > results(stopped)["steps"]
    assert log(folder)[: len(log(stopped))] == log(stopped)


def test_a_warm_start_has_the_best_parameters(runs, stopped):
    still = ["--optimizer", "sgd", "--learning-rate", "1e-30", "--steps", "1"]
    folder = run_train(runs, *NETWORKS, *still, "--warm-start", str(stopped))
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
    """Returns an uninterrupted run with a warm start."""
    return run_train(runs, *FLAGS, "--steps", "20", "--warm-start", str(stopped))


@pytest.fixture
def interrupted(tmp_path, stopped, monkeypatch):
    """Returns the same run, interrupted after its first evaluation, and its source."""
    source = tmp_path / "source"
    shutil.copytree(stopped, source)
    with monkeypatch.context() as patch:
        patch.setattr(runner.Loop, "log", interrupting(runner.Loop.log, 1))
        with pytest.raises(SystemExit):
            run_train(tmp_path, *FLAGS, "--steps", "20", "--warm-start", str(source))
    (folder,) = tmp_path.glob("train/*")
    return folder, source


def test_a_resumed_warm_start_does_not_need_its_source(interrupted, warm):
    folder, source = interrupted
    shutil.rmtree(source)
    main(["train", "--resume", str(folder)])
    assert results(folder) == results(warm)


def test_a_warm_start_has_its_own_data_order_and_random_keys(stopped, warm):
    steps = results(stopped)["steps"]
    assert description(warm)["pins"]["steps before the warm start"] == str(steps)
    fed = [data_seeds(0, 2, before) for before in (0, steps)]
    assert not {*fed[0]} & {*fed[1]}
    keys = [checkpoint(each)["carry"]["key"] for each in (stopped, warm)]
    assert not (keys[0] == keys[1]).all(-1).any()


def test_each_warm_start_of_a_chain_has_another_order(runs, warm, stopped, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "data_seeds", record_calls(training.data_seeds, seen))
    folder = run_train(runs, *FLAGS, "--steps", "10", "--warm-start", str(warm))
    steps = results(stopped)["steps"] + 20
    assert description(folder)["pins"]["steps before the warm start"] == str(steps)
    assert seen[-1] == (0, 2, steps)
    main(["train", "--resume", str(folder), "--steps", "20"])
    assert seen[-1] == (0, 2, steps)


def record_calls(function, calls):
    def call(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return call


def test_a_warm_start_killed_in_its_first_save_starts_again(interrupted, warm):
    folder, _ = interrupted
    (complete,) = (folder / "checkpoints" / SERIES).iterdir()
    complete.rename(complete.with_name(f"{complete.name}.orbax-checkpoint-tmp"))
    main(["train", "--resume", str(folder)])
    assert results(folder) == results(warm)


def test_a_run_with_changed_data_is_not_resumed(interrupted, monkeypatch, capsys):
    folder, _ = interrupted
    monkeypatch.setattr(tasks.Task, "digest", lambda self: "another")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", str(folder)])
    assert stop.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == f"data must be the same as when {folder} was started; restore it to resume"


def test_a_warm_start_from_another_network_is_rejected(stopped, runs, capsys):
    flags = ["--width", "9", "--seeds", "2", "--runs", str(runs), "--warm-start", str(stopped)]
    message = error_of(capsys, *flags)
    assert re.search(
        r"belongs to another run or other settings: params\.\S+ is float32\[2,\S*8\] there, "
        r"expected float32\[2,\S*9\]",
        message,
    )


def test_a_warm_start_needs_a_checkpoint_of_a_training_run(tmp_path, capsys):
    other = write_run(tmp_path / "other", [], study="quickstart")
    flags = [*FLAGS, "--runs", str(tmp_path)]
    message = error_of(capsys, *flags, "--warm-start", str(other))
    assert f"--warm-start must be a run of train, got {other}, a run of quickstart" in message
    message = error_of(capsys, *flags, "--warm-start", str(tmp_path / "nothing"))
    assert "is not a run's folder" in message
    empty = write_run(tmp_path / "empty", [])
    message = error_of(capsys, *flags, "--warm-start", str(empty))
    assert "there is no checkpoint in" in message


def test_streaming_gives_the_same_numbers(runs, stopped):
    folder = run_train(runs, *FLAGS, "--steps", "20", "--stream")
    assert log(folder) == log(stopped)[:2]


@pytest.fixture(scope="module")
def narrow(runs):
    """Returns a run of a tower in bfloat16 with accumulated gradients."""
    optimizer = "--optimizer adamw --learning-rate 0.01 --b2 0.99 --weight-decay 0.1 --clip 1"
    others = "--steps 20 --precision bfloat16 --tower 2 --accumulate 2 --evaluate-on 50"
    return run_train(runs, *NETWORKS, *optimizer.split(), *others.split())


def test_a_tower_learns_a_learning_rate_for_each_network(narrow):
    rates = [record["learning_rate"] for record in log(narrow)]
    assert len(rates) == 2
    seen = {0.01, *rates[0], *rates[1]}
    assert len(seen) == 5
    assert all(0.001 < rate < 0.1 for rate in seen)
    assert min(results(narrow)["validation, last"]["accuracy"]) > 20


def test_the_report_of_a_tower_has_its_learned_hyperparameters(narrow):
    found = description(narrow)
    assert found["title"] == ("digits, AdamW with a tower of height 2")
    (table,) = found["more_tables"]
    assert [row[:2] for row in table["rows"]] == [
        ["learning rate", "0.01"],
        ["learning rate of level 2", "0.05"],
    ]
    learned = results(narrow)["learned"]
    last = log(narrow)[-1]
    assert learned["learning rate"] == [[pytest.approx(0.01)] * 2, last["learning_rate"]]
    assert learned["learning rate of level 2"][1] == last["learning_rate_of_level_2"]
    assert last["learning_rate_of_level_2"][0] not in (0.05, last["learning_rate"][0])
    assert 'alt="tuned"' in (narrow / "report.html").read_text()


def test_evaluations_use_at_most_the_given_number_of_examples(narrow):
    assert "Each part is evaluated on at most 50 examples." in description(narrow)["notes"]
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
def text_run(runs, text):
    flags = "--model gru --width 8 --depth 1 --context 8 --batch-size 16 --learning-rate 0.03"
    return run_train(runs, "--data", text, *flags.split(), "--sample", "12", "--dropout", "0.1")


def test_a_text_is_learned_and_sampled(text_run):
    found = results(text_run)
    assert found["loss"][0] < np.log(11)  # the loss of eleven equally likely characters
    assert "accuracy" not in found["test, at the best"]
    (sample,) = [note for note in description(text_run)["notes"] if note.startswith("A sample: ")]
    written = sample.removeprefix("A sample: ").strip("'")
    assert len(written) == 1 + 12
    assert {*written} <= {*"the cat sat on the mat. "}


def test_a_series_is_learned(runs):
    flags = "--data goog --width 4 --window 3 --batch-size 16 --steps 10 --seeds 2"
    found = results(run_train(runs, *flags.split()))
    assert len(found["validation, best"]["loss"]) == 2
    assert np.isfinite(found["test, at the best"]["loss"]).all()


def test_images_are_learned_by_convolutions(runs, tmp_path):
    write(tmp_path / "pneumoniamnist.npz", archive())
    data = ["--data", "pneumoniamnist", "--data-dir", str(tmp_path), "--model", "cnn"]
    flags = "--seeds 2 --batch-size 4 --steps 4 --evaluate-every 2 --dropout 0.1"
    folder = run_train(runs, *data, *flags.split())
    assert [record["step"] for record in log(folder)] == [2, 4]
    found = results(folder)
    assert len({*found["loss"]}) == len({*found["test, at the best"]["loss"]}) == 2
    assert np.isfinite([*found["loss"], *found["test, at the best"]["loss"]]).all()
    footprint = json.loads((folder / "footprint.json").read_text())
    flops = footprint["parts"][0]["quantities"]["training FLOPs"]["value"]
    assert flops == 4 * footprint["flops_per_step"][SERIES]


def test_the_default_model_of_a_text_is_a_transformer(runs, text):
    # A context of one token leaves no room for a sample.
    folder = run_train(runs, "--data", text, "--context", "1", "--batch-size", "2", "--steps", "1")
    assert results(folder)["parameters"] > 90_000
    assert results(folder)["steps"] == 1


@pytest.mark.parametrize("steps", [1, 15, 20, 60, 101, 1_000, 2_000, 20_000])
def test_there_are_about_forty_evaluations_for_any_number_of_steps(steps):
    settings = Settings(steps=steps, evaluate_every=101 if steps == 101 else None)
    assert steps % settings.steps_per_chunk == 0
    assert steps / settings.steps_per_chunk <= 80


def test_a_number_of_steps_without_a_suitable_divisor_is_rejected():
    # It would be evaluated after every step.
    with pytest.raises(
        ValueError, match="--steps must have a divisor near a fortieth of it, got 2003"
    ):
        Settings(steps=2_003)
    assert Settings(steps=2_003, evaluate_every=2_003).steps_per_chunk == 2_003


def test_a_run_takes_the_given_number_of_steps(runs):
    found = results(run_train(runs, *NETWORKS, "--steps", "15"))
    assert found["steps"] == 15


def test_losses_that_are_not_finite_are_counted_and_reported(runs):
    folder = run_train(
        runs, *NETWORKS, "--optimizer", "sgd", "--learning-rate", "1e30", "--steps", "10"
    )
    (record,) = log(folder)
    assert max(record["loss"]) < 10  # means of the first losses, which were finite
    assert 0 < min(record["not_finite_steps"]) <= max(record["not_finite_steps"]) < 10
    found = results(folder)
    assert found["best_step"] is None
    assert "validation, best" not in found
    assert found["test, at the last"]["loss"] == [None, None]
    html = (folder / "report.html").read_text()
    assert "The validation loss was never finite" in html
    assert "In 1 of 1 chunks some losses were not finite" in html


def test_a_seed_that_diverges_does_not_hide_the_others(runs, monkeypatch):
    evaluate = training.Evaluator.__call__

    def second_seed_diverges(self, part, **model):
        return {
            name: np.where(np.arange(2) == 1, np.nan, scores)
            for name, scores in evaluate(self, part, **model).items()
        }

    monkeypatch.setattr(training.Evaluator, "__call__", second_seed_diverges)
    folder = run_train(runs, *NETWORKS, "--steps", "20", "--evaluate-every", "10")
    losses = [record["validation_loss"] for record in log(folder)]
    assert [second for _, second in losses] == [None, None]
    first = [loss for loss, _ in losses]
    found = results(folder)
    assert found["best_step"] == 10 * (1 + int(np.argmin(first)))
    assert found["validation, best"]["loss"] == [pytest.approx(min(first)), None]
    assert f"{min(first):.4g} ± 0 (1 of 2 seeds)" in (folder / "report.html").read_text()


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
        (["--window", "7"], ["--window must be left out with digits, which is not a series"]),
        (["--steps", "60", "--evaluate-every", "50"], ["--evaluate-every must divide the 60"]),
        (["--data", "TEXT", "--size", "7M"], ["size", "7M"]),
        (["--data", "TEXT", "--model", "mlp"], ["model 'mlp' does not take text"]),
        (["--data", "TEXT", "--context", "9999"], ["too short", "9999"]),
        (["--data", "goog", "--window", "9999"], ["too short", "9999"]),
    ],
)
def test_settings_that_do_not_fit_the_data_are_rejected(tmp_path, text, capsys, flags, words):
    flags = [text if flag == "TEXT" else flag for flag in flags]
    message = error_of(capsys, *flags, "--runs", str(tmp_path))
    for word in words:
        assert word in message


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
        (["--self-tuning", "--schedule", "cosine"], "--schedule must be constant with --self-tun"),
        (["--self-tuning", "--tower", "1"], "--tower must be 0 with --self-tuning, got 1"),
        (["--accumulate", "3"], "--accumulate must divide --batch-size 64, got 3"),
        (["--optimizer", "adagrad"], "--optimizer"),
        (["--model", "vgg"], "--model"),
    ],
)
def test_a_flag_out_of_range_is_rejected_before_the_folder_is_made(tmp_path, capsys, flags, words):
    message = error_of(capsys, *flags, "--runs", str(tmp_path / "runs"))
    assert words in message
    assert not (tmp_path / "runs").exists()


def rates(**settings):
    """Returns the learning rates of 100 steps."""
    tx = optimizer(Settings(optimizer="sgd", learning_rate=0.5, **settings), 100)
    state, found = tx.init(0.0), []
    for _ in range(100):
        update, state = tx.update(jax.numpy.ones(()), state, 0.0)
        found.append(-float(update))
    return found


def test_a_constant_schedule_is_constant():
    assert {*rates()} == {0.5}


def test_a_cosine_schedule_warms_up_over_a_twentieth_and_decays_to_a_tenth():
    found = rates(schedule="cosine")
    np.testing.assert_allclose(found[:6], 0.5 * np.arange(6) / 5, rtol=1e-5)
    decay = 0.05 + 0.45 * (1 + np.cos(np.pi * np.arange(95) / 95)) / 2
    np.testing.assert_allclose(found[5:], decay, rtol=1e-4)
