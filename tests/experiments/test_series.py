"""A series tells its progress whether its outcome was computed now or read."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runner
from experiments.runner import progress as progress_module
from experiments.runner import run as run_module

NAMES = ("first", "second", "third", "fourth")
STEPS = 10


class Outcome(NamedTuple):
    losses: np.ndarray


class Clock:
    """A clock that goes on when told."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (progress_module, run_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def opened(tmp_path):
    """Starts the run at the first call and resumes it at later ones."""
    settings = runner.Settings(runs=tmp_path, save_every=float("inf"))
    runs = []

    def open_run():
        if runs:
            runs[-1].close()
        run = runner.Run.resume(runs[-1].folder, settings) if runs else None
        runs.append(run or runner.Run.start("study", settings))
        return runs[-1]

    yield open_run
    runs[-1].close()


def study(run, clock, names=NAMES):
    """Four series of ten steps, of which each takes half a second; reading takes none."""

    def compute():
        clock.now += 0.5 * STEPS
        return Outcome(np.array([4.0, 2.0]))

    with runner.Progress(total=len(NAMES) * STEPS, every=0.0) as progress:
        for name in names:
            run.series(
                name,
                Outcome,
                compute,
                progress=progress,
                steps=STEPS,
                loss=lambda outcome: outcome.losses[-1],
            )
    return progress


def test_each_computed_series_counts_its_steps_and_time(opened, clock, capsys):
    study(opened(), clock)
    assert capsys.readouterr().out.splitlines() == [
        "first: 10/40 steps, loss 2, 2 steps/s, 15 s left",
        "second: 20/40 steps, loss 2, 2 steps/s, 10 s left",
        "third: 30/40 steps, loss 2, 2 steps/s, 5 s left",
        "fourth: 40/40 steps, loss 2, 2 steps/s, 0 s left",
    ]


def test_after_a_resume_with_half_of_the_series_done_speed_and_time_left_are_right(
    opened, clock, capsys
):
    study(opened(), clock, NAMES[:2])
    capsys.readouterr()
    clock.now += 1_000.0  # between the two processes
    study(opened(), clock)
    assert capsys.readouterr().out.splitlines() == [
        "third: 30/40 steps, loss 2, 2 steps/s, 5 s left",
        "fourth: 40/40 steps, loss 2, 2 steps/s, 0 s left",
    ]


def test_a_finished_study_that_is_resumed_invents_no_speed(opened, clock, capsys):
    study(opened(), clock)
    capsys.readouterr()
    progress = study(opened(), clock)
    assert progress.done == progress.total
    assert capsys.readouterr().out == ""


def looped(run, progress, **options):
    """A series whose loop counts its own steps: five chunks of ten."""
    start = jnp.zeros((), jnp.int32)
    program = runner.Program(lambda x, _: (x + 1, x), start, steps_per_chunk=STEPS)

    def compute():
        loop = runner.Loop(run, "loop", program, start, chunks=5, progress=progress, **options)
        for _ in loop:
            loop.log(loss=1.0)
            loop.judge(1.0, keep=())
        return Outcome(np.asarray(loop.carry))

    return run.series("loop", Outcome, compute, progress=progress, steps=5 * STEPS)


def test_steps_that_a_loop_counts_are_counted_once(opened, capsys):
    with runner.Progress(total=50, every=0.0) as progress:
        looped(opened(), progress)
    assert progress.done == 50
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_steps_that_a_loop_leaves_out_are_skipped(opened):
    with runner.Progress(total=50, every=0.0) as progress:
        assert looped(opened(), progress, patience=1).losses == 2
    assert progress.done == 50
