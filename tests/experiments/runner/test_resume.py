"""A run goes on to the same end, to the bit, whatever befell it."""

import shutil
import signal
import time

import numpy as np
import pytest

from experiments import runner
from experiments.runner.log import Log
from tests.experiments import small_study
from tests.experiments.small_study import CHUNKS, SEEDS, STEPS

KILLS = 20


def start(runs, **arguments):
    """A child process that starts or resumes the run in a folder."""
    runs.mkdir(exist_ok=True)
    child = small_study.processes().Process(
        target=small_study.work, args=(str(runs),), kwargs=arguments
    )
    child.start()
    return child


def finish(runs, **arguments):
    child = start(runs, **arguments)
    child.join()
    assert child.exitcode == 0, (runs / "stderr.txt").read_text()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run that nothing befell."""
    runs = tmp_path_factory.mktemp("runs") / "alone"
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


def assert_same_end(runs, alone):
    ours, theirs = (np.load(each / "final.npz") for each in (runs, alone))
    assert {*ours} == {*theirs}
    for name in theirs:
        assert ours[name].tobytes() == theirs[name].tobytes(), name
    assert records(runs) == records(alone)


def logged(runs):
    return sum(path.stat().st_size for path in runs.glob("small/*/metrics.jsonl"))


def wait_for_progress(runs, child):
    before = logged(runs)
    while logged(runs) <= before:
        assert child.is_alive(), (runs / "stderr.txt").read_text()
        time.sleep(0.001)


def kill_one(runs, moment):
    """Starts or resumes the run and kills it; whether that was in the middle of a save.

    Args:
      runs: the folder.
      moment: seconds after the first chunk; None for the next time that it saves.
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


def test_what_the_small_study_logs_and_keeps(alone):
    steps = [record["step"] for record in records(alone)]
    assert steps == [STEPS * (chunk + 1) for chunk in range(CHUNKS)]
    assert len(records(alone)[0]["loss"]) == SEEDS
    assert any("best" in name for name in np.load(alone / "final.npz"))


def test_a_run_killed_at_20_random_moments_ends_as_one_left_alone(tmp_path, alone):
    moments, runs = np.random.default_rng(0), tmp_path / "killed"
    in_a_save = [kill_one(runs, None if i % 2 else moments.uniform(0, 0.2)) for i in range(KILLS)]
    assert sum(in_a_save) >= KILLS // 4
    finish(runs)
    assert_same_end(runs, alone)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_saves_the_chunk_it_was_in(tmp_path, alone, number):
    runs = tmp_path / "stopped"
    child = start(runs)
    wait_for_progress(runs, child)
    child._popen._send_signal(number)
    child.join()
    assert child.exitcode == 1  # the exception that the command line turns into words
    assert f"Interrupted: {number.name}" in (runs / "stderr.txt").read_text()
    last = records(runs)[-1]["step"]
    assert last < STEPS * CHUNKS
    (checkpoints,) = only_run(runs).glob("checkpoints/*")
    assert max(int(path.name) for path in checkpoints.iterdir()) == last
    finish(runs)
    assert_same_end(runs, alone)


def test_a_disk_that_stays_full_is_told_and_costs_nothing_that_was_saved(tmp_path, alone):
    runs = tmp_path / "full"
    child = start(runs, largest_file=100_000)
    child.join()
    assert child.exitcode == 1  # the exception that the command line turns into words
    said = (runs / "stderr.txt").read_text().splitlines()
    assert "could not save a checkpoint" in said[0]
    assert "the last good one is step" in said[0]
    assert said[-1] == "OSError: the last state of small could not be saved"
    assert records(runs) == records(alone)
    (checkpoints,) = only_run(runs).glob("checkpoints/*")
    assert max(int(path.name) for path in checkpoints.iterdir()) < STEPS * CHUNKS
    assert not being_saved(runs)
    finish(runs)  # with room again it goes on from there
    assert_same_end(runs, alone)


@pytest.mark.parametrize("harm", ["truncate", "delete", "flip"])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, alone, harm, capsys):
    runs = tmp_path / "damaged"
    shutil.copytree(alone, runs)
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


def test_a_disk_without_room_is_told_in_a_line_before_anything_is_written(
    tmp_path, monkeypatch, capsys
):
    checkpoints = runner.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"x": np.ones(1_000_000, np.float32)})
    assert checkpoints.wait()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    checkpoints.save(2, {"x": np.zeros(1_000_000, np.float32)})
    assert not checkpoints.close()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the disk is full: 5 MiB are needed, 0 are free; the last good one is step 1" in said
    assert checkpoints.restore({"x": np.zeros(1_000_000, np.float32)}).carry["x"].all()
