"""Progress is a bar in a terminal and plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from experiments.runner import Progress
from experiments.runner import progress as module


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_plain_lines_are_printed_without_a_terminal(capsys):
    with Progress(total=4, every=0.0) as progress:
        progress.advance("adam", steps=2, loss=0.125, steps_per_second=1234.5)
        progress.advance("adam", steps=2, loss=0.1, steps_per_second=1000.0)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("adam: 2/4 steps, loss 0.125, 1,234 steps/s, ")
    assert last == "adam: 4/4 steps, loss 0.1, 1,000 steps/s, 0 s left"


def test_the_time_left_is_the_time_per_step_times_the_steps_left(capsys, clock):
    with Progress(total=40, every=0.0) as progress:
        clock.now += 20.0
        progress.advance("adam", steps=10, loss=0.0, steps_per_second=0.5)
    assert capsys.readouterr().out.endswith(" 60 s left\n")


def test_skipped_steps_are_done_but_not_timed(capsys, clock):
    with Progress(total=40, every=0.0) as progress:
        progress.skip(20)
        clock.now += 10.0
        progress.advance("adam", steps=10, loss=0.0, steps_per_second=1.0)
    assert capsys.readouterr().out == "adam: 30/40 steps, loss 0, 1 steps/s, 10 s left\n"


def test_no_time_left_is_shown_before_a_computed_step(capsys, clock):
    with Progress(total=40, every=0.0) as progress:
        progress.skip(20)
        clock.now += 10.0
        progress.advance("adam", steps=0, steps_per_second=1.0)
    assert capsys.readouterr().out == "adam: 20/40 steps, 1 steps/s\n"


def test_lines_are_printed_at_the_interval_and_at_the_end(capsys, clock):
    with Progress(total=10, every=5.0) as progress:
        for _ in range(10):
            clock.now += 2.0
            progress.advance("adam", steps=1, loss=0.0, steps_per_second=1.0)
    done = [line.split("/")[0] for line in capsys.readouterr().out.splitlines()]
    assert done == ["adam: 3", "adam: 6", "adam: 9", "adam: 10"]


def test_a_terminal_shows_a_bar_and_no_lines(monkeypatch, capsys):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(module, "Console", lambda: console)
    with Progress(total=4, every=0.0) as progress:
        progress.skip(1)
        progress.advance("some series", steps=2, loss=0.125, steps_per_second=1234.5)
    assert "some series" in screen.getvalue()
    assert "75%  loss 0.125, 1,234 steps/s, 0 s left" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_a_slow_speed_is_not_shown_as_zero(capsys):
    with Progress(total=2, every=0.0) as progress:
        progress.advance("demo", steps=2, steps_per_second=0.125)
    assert "0.12 steps/s" in capsys.readouterr().out
