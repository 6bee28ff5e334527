"""A run that was killed, stopped or damaged resumes to the same end, bit for bit."""

import shutil
import signal
import time

import numpy as np
import pytest

from experiments import runner
from experiments.runner.log import Log
from tests.experiments.runner import small_study
from tests.experiments.runner.small_study import CHUNKS, SEEDS, STEPS

KILLS = 20


def start(runs, **arguments):
    """Returns a child process that starts or resumes the run in a folder."""
    runs.mkdir(exist_ok=True)
    child = small_study.processes().Process(
        target=small_study.work, args=(str(runs),), kwargs=arguments
    )
    child.start()
    return child


def finish(runs):
    """Starts or resumes the run and lets it end, with few checkpoints on the way."""
    child = start(runs, save_every=0.3)
    child.join()
    assert child.exitcode == 0, (runs / "stderr.txt").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run without interruptions."""
    runs = tmp_path_factory.mktemp("runs") / "undisturbed"
    finish(runs)
    return runs


def only_run(runs):
    (folder,) = (runs / "small").iterdir()
    return folder


def being_saved(runs):
    return list(runs.glob("small/*/checkpoints/*/*orbax-checkpoint-tmp*"))


def records(runs):
    clocks = ("seconds", "steps_per_second")
    return [
        {name: value for name, value in record.items() if name not in clocks}
        for record in Log(only_run(runs) / "metrics.jsonl").read()
    ]


def assert_same_end(runs, undisturbed):
    found, expected = (np.load(each / "final.npz") for each in (runs, undisturbed))
    assert {*found} == {*expected}
    for name in expected:
        assert found[name].tobytes() == expected[name].tobytes(), name
    assert records(runs) == records(undisturbed)


def logged(runs):
    return sum(path.stat().st_size for path in runs.glob("small/*/metrics.jsonl"))


def wait_for_progress(runs, child):
    before = logged(runs)
    while logged(runs) <= before:
        assert child.is_alive(), (runs / "stderr.txt").read_text()
        time.sleep(0.001)


def start_and_kill(runs, moment):
    """Starts or resumes the run and kills it; returns whether a save was in progress.

    Args:
      runs: the folder.
      moment: seconds after the first chunk, or None for the next save.
    """
    child = start(runs)
    wait_for_progress(runs, child)
    if moment is not None:
        time.sleep(moment)
    while moment is None and not being_saved(runs):
        assert child.is_alive()
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    return bool(being_saved(runs))


def test_the_small_study_logs_every_chunk_and_keeps_the_best(undisturbed):
    steps = [record["step"] for record in records(undisturbed)]
    assert steps == [STEPS * (chunk + 1) for chunk in range(CHUNKS)]
    assert len(records(undisturbed)[0]["loss"]) == SEEDS
    assert any("best" in name for name in np.load(undisturbed / "final.npz"))


def test_a_run_killed_at_20_random_moments_ends_as_an_undisturbed_run(tmp_path, undisturbed):
    moments, runs = np.random.default_rng(0), tmp_path / "killed"
    in_a_save = [
        start_and_kill(runs, None if i % 2 else moments.uniform(0, 0.1)) for i in range(KILLS)
    ]
    assert sum(in_a_save) >= KILLS // 4
    finish(runs)
    assert_same_end(runs, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_saves_its_last_chunk(tmp_path, undisturbed, number):
    runs = tmp_path / "stopped"
    child = start(runs)
    wait_for_progress(runs, child)
    child._popen._send_signal(number)
    child.join()
    assert child.exitcode == 1  # the command line catches this exception
    assert f"Interrupted: {number.name}" in (runs / "stderr.txt").read_text()
    last = records(runs)[-1]["step"]
    assert last < STEPS * CHUNKS
    (checkpoints,) = only_run(runs).glob("checkpoints/*")
    assert max(int(path.name) for path in checkpoints.iterdir()) == last
    finish(runs)
    assert_same_end(runs, undisturbed)


def test_a_full_disk_is_reported_and_keeps_the_earlier_checkpoints(tmp_path, undisturbed):
    runs = tmp_path / "full"
    child = start(runs, largest_file=100_000)
    child.join()
    assert child.exitcode == 1  # the command line catches this exception
    messages = (runs / "stderr.txt").read_text().splitlines()
    assert "could not save a checkpoint" in messages[0]
    assert "the last good one is step" in messages[0]
    assert messages[-1] == "OSError: could not save the last state of small"
    assert records(runs) == records(undisturbed)
    (checkpoints,) = only_run(runs).glob("checkpoints/*")
    assert max(int(path.name) for path in checkpoints.iterdir()) < STEPS * CHUNKS
    assert not being_saved(runs)
    finish(runs)  # without the limit it resumes from there
    assert_same_end(runs, undisturbed)


@pytest.mark.parametrize("harm", ["truncate", "delete", "flip"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(tmp_path, undisturbed, harm, capsys):
    runs = tmp_path / "damaged"
    shutil.copytree(undisturbed, runs)
    (checkpoints,) = only_run(runs).glob("checkpoints/*")
    before, newest = sorted(checkpoints.iterdir(), key=lambda path: int(path.name))
    largest = max((newest / "carry").rglob("*"), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    if harm == "delete":
        largest.unlink()
    else:
        half = len(content) // 2
        rest = bytes([content[half] ^ 1]) + content[half + 1 :] if harm == "flip" else b""
        largest.write_bytes(content[:half] + rest)
    run = small_study.open_run(runs)
    loop = small_study.train(run, chunks=0)
    run.close()
    assert loop.step == int(before.name)
    assert f"checkpoint {newest} is damaged: " in capsys.readouterr().err
    assert (checkpoints / f"unusable-{newest.name}").is_dir()
    assert records(runs)[-1]["step"] == loop.step


def test_a_full_disk_is_reported_in_one_line_before_anything_is_written(
    tmp_path, monkeypatch, capsys
):
    checkpoints = runner.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"x": np.ones(1_000_000, np.float32)})
    assert checkpoints.wait()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    checkpoints.save(2, {"x": np.zeros(1_000_000, np.float32)})
    assert not checkpoints.close()
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the disk is full: 5 MiB are needed, 0 are free; the last good one is step 1" in printed
    assert checkpoints.restore({"x": np.zeros(1_000_000, np.float32)}).carry["x"].all()
