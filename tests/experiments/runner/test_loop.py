"""A loop resumes from its checkpoints, keeps the best, and stops and saves when it should."""

import signal
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runner
from experiments.data.batches import Batches
from experiments.runner import loop as module
from experiments.runner import run as run_module
from experiments.runner.footprint_log import flops_per_step, read_footprint
from experiments.runner.log import Log

STEPS = 10


@pytest.fixture(scope="module")
def program():
    """A program that counts chunks in its carry and returns its feed as metrics."""
    return runner.Program(lambda carry, feed: (carry + 1, feed), start(), steps_per_chunk=STEPS)


@pytest.fixture
def settings(tmp_path):
    return runner.Settings(runs=tmp_path, save_every=float("inf"))


@pytest.fixture
def opened(settings):
    """A function that starts a run, or resumes the given one, with changed settings."""
    runs = []

    def open_run(before=None, **changes):
        if runs:
            runs[-1].close()
        changed = runner.Settings(**{**vars(settings), **changes})
        resumed = runner.Run.resume(before.folder, changed) if before else None
        runs.append(resumed or runner.Run.start("study", changed))
        return runs[-1]

    yield open_run
    runs[-1].close()


def start():
    return jnp.zeros((), jnp.int32)


def make(run, program, **options):
    return runner.Loop(
        run, "main", program, start(), **{"chunks": 5, "save_final": True, **options}
    )


def train(loop, values=(), interrupt_at=None):
    """Runs the loop with a value per chunk; returns whether each was the best up to then."""
    better = []
    for chunk in loop:
        loop.log(loss=0.5)
        if values:
            keep = {"count": chunk.carry}
            better.append(loop.update_best(values[loop.chunk - 1], keep=keep))
        if loop.chunk == interrupt_at:
            signal.raise_signal(signal.SIGINT)
    return better


def interrupt_at_chunk(run, program, chunk, values=(), **options):
    loop = make(run, program, **options)
    with pytest.raises(runner.Interrupted), run.interruption:
        train(loop, values, interrupt_at=chunk)
    return loop


def checkpoint_steps(run):
    return runner.Checkpoints(run.checkpoints_folder("main")).steps()


def test_each_chunk_has_its_step_and_speed(opened, program):
    loop = make(opened(), program)
    chunks = list(loop)
    assert [chunk.step for chunk in chunks] == [10, 20, 30, 40, 50]
    assert [int(chunk.metrics) for chunk in chunks] == [0, 1, 2, 3, 4]  # the chunks' numbers
    seconds = [chunk.seconds for chunk in chunks]
    assert sorted(seconds) == seconds
    for before, chunk in zip([0.0, *seconds], chunks, strict=False):
        assert chunk.steps_per_second * (chunk.seconds - before) == pytest.approx(STEPS)
    assert (loop.step, loop.chunk, int(loop.carry)) == (50, 5, 5)


def test_each_record_has_its_series_and_step(opened, program):
    run = opened()
    train(make(run, program, chunks=2))
    first, second = run.log.read("main")
    assert [*first] == ["series", "step", "loss", "seconds", "steps_per_second"]
    assert (first["step"], second["step"]) == (10, 20)
    assert 0 < first["seconds"] < second["seconds"]


def test_progress_advances_with_each_logged_chunk(opened, program, capsys):
    with runner.Progress(total=50, every=0.0) as progress:
        train(make(opened(), program, progress=progress))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" steps")[0] for line in lines] == [
        f"main: {n}/50" for n in range(10, 60, 10)
    ]


def test_the_best_is_kept_at_the_lowest_value(opened, program):
    loop = make(opened(), program)
    assert loop.best({"count": start()}) is None
    assert loop.best_value == float("inf")
    assert train(loop, [3.0, 1.0, 1.0, 2.0, 1.5]) == [True, True, False, False, False]
    assert (loop.best_value, loop.best_step) == (1.0, 20)
    assert loop.best({"count": start()})["count"] == 2


def test_a_non_finite_value_is_never_better(opened, program):
    loop = make(opened(), program)
    values = [float("nan"), float("inf"), 2.0, -float("inf"), float("nan")]
    assert train(loop, values) == [False, False, True, False, False]
    assert (loop.best_value, loop.best_step) == (2.0, 30)


def test_a_decrease_below_min_delta_is_not_better(opened, program):
    loop = make(opened(), program, min_delta=0.5)
    assert train(loop, [4.0, 3.5, 3.25, 3.0, 2.5]) == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("values", "patience", "step", "stalled"),
    [
        ([3.0, 2.0, 2.0, 2.0, 1.0], 1, 30, True),
        ([3.0, 2.0, 2.0, 2.0, 1.0], 2, 40, True),
        ([3.0, 2.0, 2.0, 2.0, 1.0], 3, 50, False),
        ([2.0, 3.0, 1.0, 3.0, 3.0], 2, 50, True),
        ([float("nan")] * 5, 2, 20, True),
        ([1.0, 2.0, 2.0, 2.0, 2.0], None, 50, False),
    ],
)
def test_the_loop_stops_when_its_patience_is_exhausted(
    opened, program, values, patience, step, stalled
):
    loop = make(opened(), program, patience=patience)
    train(loop, values)
    assert (loop.step, loop.stalled) == (step, stalled)


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_must_be_positive(opened, program, patience):
    with pytest.raises(
        ValueError, match=rf"patience must be in \[1, inf\) or None, got {patience}"
    ):
        make(opened(), program, patience=patience)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_a_loop_interrupted_after_any_chunk_resumes_to_the_same_end(opened, program, at):
    values = [3.0, 1.0, 2.0, 2.0, 0.5]
    run = opened()
    interrupt_at_chunk(run, program, at, values, patience=3)
    assert checkpoint_steps(run) == [at * STEPS]
    run = opened(run)
    loop = make(run, program, patience=3)
    assert (loop.chunk, loop.step, int(loop.carry)) == (at, at * STEPS, at)
    train(loop, values)
    assert (loop.chunk, int(loop.carry)) == (5, 5)
    assert (loop.best_value, loop.best_step) == (0.5, 50)
    assert loop.best({"count": start()})["count"] == 5
    assert [record["step"] for record in run.log.read("main")] == [10, 20, 30, 40, 50]


def test_the_best_and_the_patience_are_restored(opened, program):
    values = [1.0, 3.0, 3.0, 3.0, 3.0]
    run = opened()
    interrupt_at_chunk(run, program, 3, values, patience=3)
    loop = make(opened(run), program, patience=3)
    assert (loop.best_value, loop.best_step) == (1.0, 10)
    assert loop.best({"count": start()})["count"] == 1
    train(loop, values)
    assert loop.step == 40  # the third evaluation without improvement
    assert loop.stalled


def test_a_finished_loop_has_no_chunks_after_a_resume(opened, program):
    run = opened()
    train(make(run, program, patience=1), [1.0, 2.0, 0.0, 0.0, 0.0])
    loop = make(opened(run), program, patience=1)
    assert list(loop) == []
    assert (loop.step, loop.best_value) == (20, 1.0)


def test_seconds_are_restored_and_progress_skips_restored_steps(opened, program, capsys):
    run = opened()
    before = interrupt_at_chunk(run, program, 2)
    with runner.Progress(total=50, every=0.0) as progress:
        loop = make(opened(run), program, progress=progress)
        assert loop.seconds == before.seconds > 0
        train(loop)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("main: 30/50 steps")
    assert loop.mean_speed == pytest.approx(50 / loop.seconds)


def test_records_after_the_last_checkpoint_are_dropped_on_resume(opened, program):
    run = opened()
    interrupt_at_chunk(run, program, 2)
    for step in (30, 40):  # as if the process was killed before its next checkpoint
        run.log.append(series="main", step=step, loss=0.0)
    run.log.append(series="other", step=40, loss=0.0)
    run = opened(run)
    make(run, program)
    assert [record["step"] for record in run.log.read("main")] == [10, 20]
    assert [record["step"] for record in run.log.read("other")] == [40]


def test_a_loop_without_a_checkpoint_says_that_it_starts_again(opened, program, capsys):
    run = opened()
    run.log.append(series="main", step=10, loss=0.0)
    loop = make(opened(run), program)
    assert (loop.chunk, loop.best_value) == (0, float("inf"))
    assert loop.run.log.read("main") == []
    kept = run.folder / "metrics.1.jsonl"
    assert capsys.readouterr().err == (
        f"main has no checkpoint and starts again; its earlier records are in {kept}\n"
    )
    make(opened(run), program)
    assert capsys.readouterr().err == ""
    run.log.append(series="main", step=20, loss=1.0)
    make(opened(run), program)
    copies = [Log(run.folder / f"metrics.{number}.jsonl").read() for number in (1, 2)]
    assert [records[0]["step"] for records in copies] == [10, 20]


@pytest.fixture
def saves(monkeypatch):
    """The steps of all calls of `Checkpoints.save`."""
    steps = []
    real = runner.Checkpoints.save

    def save(self, step, *rest, **options):
        steps.append(step)
        return real(self, step, *rest, **options)

    monkeypatch.setattr(runner.Checkpoints, "save", save)
    return steps


@pytest.mark.parametrize(
    ("save_every", "steps"),
    [
        (0.0, [10, 20, 30, 40, 50, 60, 70]),
        (10.0, [10, 20, 30, 40, 50, 60, 70]),
        (25.0, [30, 60, 70]),
        (70.0, [70]),
        (float("inf"), [70]),
    ],
)
def test_checkpoints_are_saved_at_the_interval_and_at_the_end(
    opened, program, saves, monkeypatch, save_every, steps
):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(runner.Checkpoints, "busy", False)
    for chunk in make(opened(save_every=save_every), program, chunks=7):
        clock.now = float(chunk.step)  # ten seconds a chunk
    assert saves == steps


def test_no_checkpoint_is_started_while_another_is_written(opened, program, saves, monkeypatch):
    monkeypatch.setattr(runner.Checkpoints, "busy", property(lambda self: len(saves) == 1))
    run = opened(save_every=0.0)
    for _ in make(run, program):
        pass
    assert saves == [10, 50]


def test_the_final_state_is_saved_once(opened, program, saves):
    for _ in make(opened(save_every=0.0), program):
        pass
    assert saves.count(50) == 1


def test_only_the_newest_checkpoints_are_kept(opened, program, monkeypatch):
    monkeypatch.setattr(runner.Checkpoints, "busy", False)
    run = opened(save_every=0.0, keep=3)
    for _ in make(run, program):
        pass
    assert checkpoint_steps(run) == [30, 40, 50]


class Count(NamedTuple):
    value: int


def test_without_save_final_there_is_no_final_checkpoint(opened, program, saves):
    run = opened()

    def compute():
        loop = make(run, program, save_final=False)
        train(loop)
        return Count(loop.carry)

    assert run.series("main", Count, compute) == Count(5)
    assert saves == []
    assert checkpoint_steps(run) == []


def test_a_series_killed_before_its_outcome_is_saved_repeats_the_last_chunks(
    opened, program, monkeypatch
):
    chunks = []

    def compute(run):
        loop = make(run, program, save_final=False)
        for chunk in loop:
            chunks.append(chunk.step)
            loop.log(loss=0.0)
            if chunk.step == 20 and len(chunks) == 2:
                loop._save()
        return Count(loop.carry)

    def kill(*_, **__):
        raise KeyboardInterrupt

    run = opened()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_outcome", kill)
        with pytest.raises(KeyboardInterrupt):
            run.series("main", Count, lambda: compute(run))
    run = opened(run)
    assert run.series("main", Count, lambda: compute(run)) == Count(5)
    assert chunks == [10, 20, 30, 40, 50, 30, 40, 50]
    assert [record["step"] for record in run.log.read("main")] == [10, 20, 30, 40, 50]
    assert checkpoint_steps(run) == []


def test_failing_checkpoints_do_not_stop_the_run_but_raise_at_its_end(
    opened, program, monkeypatch, capsys
):
    def fail(*_):
        raise OSError("no room")

    run = opened(save_every=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(module.Checkpoints, "_start", fail)
        loop = make(run, program)
        with pytest.raises(OSError, match="could not save the last state of main"):
            train(loop)
    assert loop.step == 50
    # Reported once, because all have the same reason.
    assert capsys.readouterr().err.count("could not save a checkpoint") == 1
    assert checkpoint_steps(run) == []


def test_resumed_batches_continue_with_the_next_example(opened):
    batches = Batches(7, 2, seeds=[0, 1])
    shape = batches.chunk(0, STEPS)
    program = runner.Program(lambda c, f: (c + 1, f), start(), steps_per_chunk=STEPS, feed=shape)

    def fed(run, at=None):
        loop = make(run, program, batches=batches)
        found = []
        with run.interruption:
            try:
                for chunk in loop:
                    found.append(chunk.metrics)
                    if loop.chunk == at:
                        signal.raise_signal(signal.SIGINT)
            except runner.Interrupted:
                pass
        return found

    run = opened()
    first = fed(run, at=2)
    second = fed(opened(run))
    assert (len(first), len(second)) == (2, 3)
    for number, chunk in enumerate([*first, *second]):
        np.testing.assert_array_equal(chunk, batches.chunk(number, STEPS))


def test_a_checkpoint_of_another_program_is_an_error(opened, program):
    run = opened()
    interrupt_at_chunk(run, program, 2)
    other = runner.Program(lambda c, f: (c, f), jnp.zeros(3), steps_per_chunk=STEPS)
    with pytest.raises(runner.CheckpointError) as raised:
        runner.Loop(run, "main", other, jnp.zeros(3), chunks=5)
    assert "belongs to another run or other settings" in str(raised.value)
    assert ". is int32[] there, expected float32[3]" in str(raised.value)
    assert checkpoint_steps(run) == [20]


def test_the_best_must_match_the_example(opened, program):
    loop = make(opened(), program)
    train(loop, [1.0] * 5)
    with pytest.raises(Exception, match="the best of main belongs to another run") as raised:
        loop.best({"count": jnp.zeros(3)})
    assert "\n" not in str(raised.value)


def test_the_flops_of_all_chunks_are_in_the_footprint(opened):
    program = runner.Program(lambda x, _: (x @ x, ()), jnp.eye(3), steps_per_chunk=1)
    run = opened()
    list(runner.Loop(run, "main", program, jnp.eye(3), chunks=4))
    run.footprint.save()
    assert read_footprint(run.folder)["training FLOPs"].startswith(f"{4 * 2 * 27} FLOP ")
    assert flops_per_step(run.folder) == {"main": 2 * 27}


def test_a_loop_compiles_nothing_after_its_first_chunk(opened, program):
    compiled = []

    def listen(name, *_, **__):
        if "backend_compile" in name:
            compiled.append(name)

    loop = make(opened(save_every=0.0), program)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + 1)(0)
        assert compiled  # the listener works
        for chunk in loop:
            loop.log(loss=chunk.metrics)
            loop.update_best(1.0 / chunk.step, keep=chunk.carry)
            if loop.chunk == 1:
                compiled.clear()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
