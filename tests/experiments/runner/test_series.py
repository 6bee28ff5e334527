"""A series has a typed outcome, and counts computed and cached steps as such."""

import signal
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runner
from experiments.runner import progress as progress_module
from experiments.runner import run as run_module
from experiments.runner.outcomes import to_numpy


@pytest.fixture
def run(tmp_path):
    run = runner.Run.start("study", runner.Settings(runs=tmp_path))
    yield run
    run.close()


def resumed(run):
    """Returns the run as another process that resumes it has it."""
    return runner.Run(run.folder, run.description, run.settings, run._lock)


class Number(NamedTuple):
    x: Any


class Pair(NamedTuple):
    x: np.ndarray
    y: int


class Nested(NamedTuple):
    losses: np.ndarray
    by_name: Mapping[str, np.ndarray]
    pairs: dict[str, Pair]
    pair: Pair
    missing: Pair | None
    present: Pair | None


def described(outcome):
    """Returns the outcome with the dtype and the values of each array."""
    return jax.tree.map(lambda array: (array.dtype, array.tolist()), outcome)


def never():
    pytest.fail("computed again")


def error_of(run, *arguments):
    """Returns the one line of the error that a series named s raises."""
    with pytest.raises(runner.SeriesError) as raised:
        run.series("s", *arguments)
    assert "\n" not in str(raised.value)
    assert not run._outcome_file("s").exists()
    return str(raised.value)


def test_names_must_be_strings_because_a_read_outcome_has_no_others(run):
    assert error_of(run, Number, lambda: Number({1: np.ones(2)})) == (
        "names in field x of series 's' must be strings, got 1"
    )


def test_a_name_runs_once_in_a_process_and_is_read_in_the_next(run):
    assert run.series("s", Number, lambda: Number(0)).x == 0
    for process in (run, resumed(run)):
        if process is not run:
            assert process.series("s", Number, never).x == 0
        with pytest.raises(runner.SeriesError) as raised:
            process.series("s", Number, lambda: Number(1))
        assert str(raised.value) == (
            "series 's' was already run; names must be unique, such as f'adam, seed {seed}'"
        )
        assert process.series("s, seed 1", Number, lambda: Number(1)).x == 1


def test_a_function_must_return_the_type_of_the_outcome(run):
    assert error_of(run, Number, lambda: jnp.ones(3)) == (
        "series 's' must return Number, got ArrayImpl"
    )
    assert error_of(run, Number, lambda: Pair(np.ones(1), 2)) == (
        "series 's' must return Number, got Pair"
    )
    assert error_of(run, Number, lambda: None) == "series 's' must return Number, got NoneType"


def test_an_outcome_in_place_of_its_function_is_refused(run):
    assert error_of(run, Number, Number(1)) == (
        "series 's': compute must be a function without arguments, got Number"
    )


def test_a_type_that_is_not_a_named_tuple_is_refused(run):
    words = "series 's': outcome_type must be a NamedTuple class, got "
    assert error_of(run, float, lambda: 1.0) == f"{words}float"
    assert error_of(run, Number(1), lambda: Number(1)) == f"{words}Number(x=1)"


def test_checkpoints_that_a_killed_run_left_are_removed(run):
    run.series("a", Number, lambda: Number(1))
    run.checkpoints_folder("a").mkdir(parents=True)
    resumed(run).series("a", Number, never)
    assert not run.checkpoints_folder("a").exists()


@pytest.mark.parametrize(
    "value",
    [2, 0.5, True, np.float32([1, 2]), jnp.arange(3), np.zeros((0, 2)), jnp.ones(2, jnp.bfloat16)],
    ids=["count", "number", "bool", "array", "device", "empty", "bfloat16"],
)
def test_a_read_outcome_equals_the_computed_one(run, value):
    computed = run.series("a", Number, lambda: Number(value))
    read = resumed(run).series("a", Number, never)
    assert isinstance(computed, Number)
    assert isinstance(read, Number)
    array = np.asarray(value)
    assert described(read) == described(computed) == Number((array.dtype, array.tolist()))


def test_fields_of_an_outcome_may_be_mappings_and_named_tuples(run):
    pair = Pair(np.arange(2.0), 3)
    outcome = Nested(np.ones(2), {}, {"a/b": pair, "": pair}, pair, None, pair)
    computed = run.series("a", Nested, lambda: outcome)
    read = resumed(run).series("a", Nested, never)
    assert described(read) == described(computed)
    assert jax.tree.structure(read) == jax.tree.structure(outcome)
    assert read.pairs["a/b"].y == 3


@pytest.mark.parametrize("value", ["text", object(), [1, "a"], [[1.0], [1.0, 2.0]]])
def test_fields_of_an_outcome_must_be_numbers_or_arrays(run, value):
    words = "of series 's' must be a number or an array, got "
    assert error_of(run, Number, lambda: Number(value)).startswith(f"field x {words}")
    nested = error_of(run, Number, lambda: Number({"a": Pair(np.ones(1), value)}))
    assert nested.startswith(f"field y of field a of field x {words}")
    assert run.series("s", Number, lambda: Number(1)).x == 1


class Triple(NamedTuple):
    x: np.ndarray
    y: int
    z: int


class Records(NamedTuple):
    x: Pair
    y: int


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Triple(np.zeros(1), 2, 3), "does not fit Triple: one of them lacks z"),
        (Number(1), "does not fit Number: one of them lacks y"),
        (Records(Pair(np.zeros(1), 2), 3), "does not fit Records: the type of x differs"),
    ],
)
def test_an_outcome_whose_type_has_changed_is_computed_again(run, capsys, outcome, words):
    run.series("a", Pair, lambda: Pair(np.zeros(1), 2))
    computed = resumed(run).series("a", type(outcome), lambda: outcome)
    assert described(computed) == described(to_numpy(outcome))
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert "kept as a.1.npz" in message
    resumed(run).series("a", type(outcome), never)
    (run.folder / "outcomes" / "a.1.npz").replace(run.folder / "outcomes" / "a.npz")
    assert resumed(run).series("a", Pair, never).y == 2


def test_no_series_is_started_after_a_signal(run):
    run.series("done", Number, lambda: Number(1))
    run = resumed(run)
    with run.interruption:
        signal.raise_signal(signal.SIGTERM)
        assert run.series("done", Number, never).x == 1
        with pytest.raises(runner.Interrupted):
            run.series("next", Number, never)
    assert len([*(run.folder / "outcomes").iterdir()]) == 1


def test_names_that_are_not_file_names_are_distinguished(run):
    names = ["a b", "a/b", "a_b", "a  b", "adam x 0.01", "adam x 0.01.partial", "../a"]
    for number, name in enumerate(names):
        run.series(name, Number, lambda number=number: Number(number))
    for number, name in enumerate(names):
        assert resumed(run).series(name, Number, never).x == number
    assert len({run.checkpoints_folder(name) for name in names}) == len(names)
    for name in names:
        assert run.checkpoints_folder(name).resolve().is_relative_to(run.folder / "checkpoints")


def test_the_checkpoints_of_a_series_are_removed_with_its_outcome_saved(run):
    own, other = run.checkpoints_folder("series a"), run.checkpoints_folder("series b")

    def compute():
        for folder in (own, other):
            folder.mkdir(parents=True)
        return Number(1)

    run.series("series a", Number, compute)
    assert not own.exists()
    assert other.exists()


def test_the_checkpoints_of_a_series_that_fails_are_kept(run):
    folder = run.checkpoints_folder("a")
    folder.mkdir(parents=True)
    with pytest.raises(ZeroDivisionError):
        run.series("a", Number, lambda: Number(1 / 0))
    assert folder.exists()
    assert run.series("a", Number, lambda: Number(1)).x == 1


def test_an_outcome_with_any_bit_flipped_is_the_same_or_is_computed_again(run, capsys):
    pair = Pair(np.arange(2.0), 2)
    run.series("a", Pair, lambda: pair)
    (path,) = (run.folder / "outcomes").iterdir()
    content, footprint = path.read_bytes(), run.folder / "footprint.json"
    # One bit of each byte; the bits differ between bytes.
    for place in range(len(content)):
        flipped = content[place] ^ (1 << place % 8)
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        outcome = resumed(run).series("a", Pair, lambda: pair)
        assert described(outcome) == described(to_numpy(pair)), place
        path.with_suffix(".1.npz").unlink(missing_ok=True)
        footprint.unlink(missing_ok=True)  # which has a part of each process, all read by the next
    assert "it is computed again" in capsys.readouterr().err


def test_an_outcome_that_was_cut_short_is_computed_again(run, capsys):
    run.series("a", Number, lambda: Number(1))
    (path,) = (run.folder / "outcomes").iterdir()
    content = path.read_bytes()
    for length in (0, 1, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert resumed(run).series("a", Number, lambda: Number(2)).x == 2
        assert "is damaged" in capsys.readouterr().err
        assert resumed(run).series("a", Number, never).x == 2


NAMES = ("first", "second", "third", "fourth")
STEPS = 10


class Outcome(NamedTuple):
    losses: np.ndarray


class Clock:
    """A clock that the test sets."""

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
    """A function that starts the run at its first call, and resumes it at later calls."""
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
    """Runs series of ten steps; a computed step takes half a second, reading no time."""

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


def test_after_a_resume_with_half_of_the_series_done_only_the_other_half_is_timed(
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


def test_a_resume_with_all_series_done_shows_no_speed(opened, clock, capsys):
    study(opened(), clock)
    capsys.readouterr()
    progress = study(opened(), clock)
    assert progress.done == progress.total
    assert capsys.readouterr().out == ""


def looped(run, progress, **options):
    """Runs a series with a loop of five chunks, which advances the progress itself."""
    start = jnp.zeros((), jnp.int32)
    program = runner.Program(lambda x, _: (x + 1, x), start, steps_per_chunk=STEPS)

    def compute():
        loop = runner.Loop(run, "loop", program, start, chunks=5, progress=progress, **options)
        for _ in loop:
            loop.log(loss=1.0)
            loop.update_best(1.0, keep=())
        return Outcome(np.asarray(loop.carry))

    return run.series("loop", Outcome, compute, progress=progress, steps=5 * STEPS)


def test_steps_of_a_loop_are_counted_once(opened, capsys):
    with runner.Progress(total=50, every=0.0) as progress:
        looped(opened(), progress)
    assert progress.done == 50
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_steps_after_an_early_stop_are_skipped(opened):
    with runner.Progress(total=50, every=0.0) as progress:
        assert looped(opened(), progress, patience=1).losses == 2
    assert progress.done == 50
