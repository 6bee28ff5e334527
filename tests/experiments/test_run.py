"""A run's folder says what it takes to repeat it, belongs to one process, and keeps outcomes."""

import dataclasses
import json
import re
import signal
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import runner
from experiments.runner import run as module
from experiments.runner.outcomes import to_numpy
from experiments.runner.run import WHERE_AND_WHEN, new_folder


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    width: int = 3


@pytest.fixture
def run(tmp_path):
    run = runner.Run.start("study", Settings(runs=tmp_path, seed=7))
    yield run
    run.close()


@pytest.fixture
def left(run):
    """The folder of a run that its process has left."""
    folder = run.folder
    run.close()
    run.close = lambda: None
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_run_says_what_it_takes_to_repeat_it(run):
    saved = description(run.folder)
    assert saved["settings"]["seed"] == 7
    assert saved["settings"]["width"] == 3
    assert len(saved["identity"]) == 32
    assert saved["status"] == "running"
    assert saved["environment"]["jax"] == jax.__version__
    assert saved["environment"]["device"].startswith("cpu")
    assert saved["environment"]["git_commit"]
    assert runner.read_description(run.folder) == saved == run.description


def test_its_folder_is_named_by_study_and_time(run, tmp_path):
    assert run.folder.parent == tmp_path / "study"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", run.folder.name)


def test_runs_that_start_in_one_second_do_not_share_a_folder(tmp_path):
    folders = [new_folder(tmp_path / "study", "now") for _ in range(5)]
    assert [folder.name for folder in folders] == ["now", "now_1", "now_2", "now_3", "now_4"]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        runner.Run.start("study", Settings(runs=tmp_path / "file"))


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_a_run_says_how_it_ended(run, status):
    run.mark(status)
    assert description(run.folder)["status"] == status


def test_two_processes_cannot_have_one_run(run):
    with pytest.raises(runner.RunError) as raised:
        runner.Run.resume(run.folder, run.settings)
    assert str(raised.value) == f"{run.folder} is in use by another process; end that one first"
    assert description(run.folder)["resumed"] == []
    run.close()
    again = runner.Run.resume(run.folder, run.settings)
    again.close()
    run.close = lambda: None


def test_a_run_that_is_resumed_says_so_and_is_running_again(left, tmp_path, capsys):
    settings = Settings(runs=tmp_path, seed=7)
    for times in (1, 2):
        again = runner.Run.resume(left, settings)
        again.mark("interrupted")
        again.close()
        resumed = description(left)["resumed"]
        assert len(resumed) == times
        assert resumed[-1]["jax"] == jax.__version__
        assert "at" in resumed[-1]
    assert capsys.readouterr().err == ""
    again = runner.Run.resume(left, settings)
    again.close()
    assert description(left)["status"] == "running"


def test_a_run_goes_on_with_its_own_settings(left, tmp_path):
    before = (left / "run.json").read_bytes()
    with pytest.raises(runner.RunError) as raised:
        runner.Run.resume(left, Settings(runs=tmp_path, seed=8))
    assert "was started with seed = 7, which is now 8" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (left / "run.json").read_bytes() == before


def test_a_setting_that_is_new_has_its_default_and_one_that_is_gone_is_left_out(left, tmp_path):
    saved = {**description(left), "settings": {"seed": 7, "gone": 1, "runs": str(tmp_path)}}
    settings = runner.saved_settings(Settings, saved)
    assert settings == Settings(runs=tmp_path, seed=7)
    runner.Run.resume(left, settings).close()


def test_settings_that_are_not_allowed_any_more_are_told_in_one_line(left):
    saved = {**description(left), "settings": {"keep": 0}}
    with pytest.raises(runner.RunError, match=r"not allowed any more: --keep must be in \[1, inf"):
        runner.saved_settings(Settings, saved)


def test_what_a_run_is_pinned_to_must_stay(left, tmp_path):
    run = runner.Run.resume(left, Settings(runs=tmp_path, seed=7))
    for _ in range(2):
        run.pin("data", "abc")
    with pytest.raises(runner.RunError, match="was started with another data"):
        run.pin("data", "abd")
    run.close()
    assert description(left)["pins"] == {"data": "abc"}


def test_a_run_may_be_moved_and_go_on_with_other_habits(left, tmp_path):
    moved = left.rename(tmp_path / "moved")
    others = Settings(runs=tmp_path / "elsewhere", seed=7, save_every=0.5, keep=9, tensorboard=True)
    changed = {f.name for f in dataclasses.fields(others) if f.name not in ("scale", "seed")}
    assert {*WHERE_AND_WHEN} == changed - {"width"}
    run = runner.Run.resume(moved, others)
    run.close()
    assert run.folder == moved


def test_what_has_changed_around_a_run_is_told_when_it_goes_on(left, tmp_path, monkeypatch, capsys):
    here = {**module.environment(), "jax": "0.0", "device": "abacus"}
    monkeypatch.setattr(module, "environment", lambda: here)
    runner.Run.resume(left, Settings(runs=tmp_path, seed=7)).close()
    said = capsys.readouterr().err
    assert said.startswith("the last digits may differ: jax was ")
    assert f"jax was {jax.__version__}, is 0.0; device was cpu" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is no run's folder: run.json: No such file"),
        ("", "is damaged: "),
        ('{"study": "tra', "is damaged: "),
        ("\xff", "is damaged: "),
        ("null", "is no run's: it does not say study, identity, status, began"),
        ("7", "is no run's: it does not say study"),
        ("[]", "is no run's: it does not say study"),
        ('{"study": "train"}', "is no run's: it does not say identity, status, began, command"),
        ('{"study": 7}', "is no run's: it does not say study"),
    ],
)
def test_a_folder_that_is_no_runs_is_told_in_one_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(runner.RunError) as raised:
        runner.read_description(tmp_path)
    assert words in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_or_nothing_in_place_of_a_folder_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "nothing"):
        with pytest.raises(runner.RunError, match="is no run's folder"):
            runner.read_description(tmp_path / name)


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
    """The outcome with the dtype and the values of each array."""
    return jax.tree.map(lambda array: (array.dtype, array.tolist()), outcome)


def never():
    pytest.fail("it was computed again")


@pytest.mark.parametrize(
    "value",
    [2, 0.5, True, np.float32([1, 2]), jnp.arange(3), np.zeros((0, 2)), jnp.ones(2, jnp.bfloat16)],
    ids=["count", "number", "bool", "array", "device", "empty", "bfloat16"],
)
def test_an_outcome_is_the_same_whether_computed_or_read(run, value):
    computed = run.series("a", Number, lambda: Number(value))
    read = run.series("a", Number, never)
    assert isinstance(computed, Number)
    assert isinstance(read, Number)
    array = np.asarray(value)
    assert described(read) == described(computed) == Number((array.dtype, array.tolist()))


def test_an_outcome_may_hold_mappings_and_records(run):
    pair = Pair(np.arange(2.0), 3)
    outcome = Nested(np.ones(2), {}, {"a/b": pair, "": pair}, pair, None, pair)
    computed = run.series("a", Nested, lambda: outcome)
    read = run.series("a", Nested, never)
    assert described(read) == described(computed)
    assert jax.tree.structure(read) == jax.tree.structure(outcome)
    assert read.pairs["a/b"].y == 3


@pytest.mark.parametrize("value", ["word", object()])
def test_an_outcome_holds_no_words_or_objects(run, value):
    with pytest.raises(TypeError, match="an outcome must hold numbers and arrays, got "):
        run.series("a", Number, lambda: Number(value))
    assert run.series("a", Number, lambda: Number(1)).x == 1


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
        (Triple(np.zeros(1), 2, 3), "does not fit Triple: z missing on one side"),
        (Number(1), "does not fit Number: y missing on one side"),
        (Records(Pair(np.zeros(1), 2), 3), "does not fit Records: x has another type"),
    ],
)
def test_an_outcome_whose_type_has_changed_is_computed_again(run, capsys, outcome, words):
    run.series("a", Pair, lambda: Pair(np.zeros(1), 2))
    computed = run.series("a", type(outcome), lambda: outcome)
    assert described(computed) == described(to_numpy(outcome))
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    run.series("a", type(outcome), never)


def test_a_run_that_was_asked_to_stop_begins_no_series(run):
    with run.interruption:
        run.series("done", Number, lambda: Number(1))
        signal.raise_signal(signal.SIGTERM)
        assert run.series("done", Number, never).x == 1
        with pytest.raises(runner.Interrupted):
            run.series("next", Number, never)
    assert len([*(run.folder / "outcomes").iterdir()]) == 1


def test_series_whose_names_a_file_system_would_mix_up_are_told_apart(run):
    names = ["a b", "a/b", "a_b", "a  b", "adam x 0.01", "adam x 0.01.partial", "../a"]
    for number, name in enumerate(names):
        run.series(name, Number, lambda number=number: Number(number))
    for number, name in enumerate(names):
        assert run.series(name, Number, never).x == number
    assert len({run.checkpoints_folder(name) for name in names}) == len(names)
    for name in names:
        assert run.checkpoints_folder(name).resolve().is_relative_to(run.folder / "checkpoints")


def test_the_checkpoints_of_a_series_are_removed_when_its_outcome_is_saved(run):
    own, other = run.checkpoints_folder("series a"), run.checkpoints_folder("series b")

    def compute():
        for folder in (own, other):
            folder.mkdir(parents=True)
        return Number(1)

    run.series("series a", Number, compute)
    assert not own.exists()
    assert other.exists()


def test_the_checkpoints_of_a_series_that_fails_stay(run):
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
    content = path.read_bytes()
    # Bits of the same weight in every byte, each weight in some.
    for place in range(len(content)):
        flipped = content[place] ^ (1 << place % 8)
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        outcome = run.series("a", Pair, lambda: pair)
        assert described(outcome) == described(to_numpy(pair)), place
    assert "it is computed again" in capsys.readouterr().err


def test_an_outcome_that_was_cut_short_is_computed_again(run, capsys):
    run.series("a", Number, lambda: Number(1))
    (path,) = (run.folder / "outcomes").iterdir()
    content = path.read_bytes()
    for length in (0, 1, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert run.series("a", Number, lambda: Number(2)).x == 2
        assert "is damaged" in capsys.readouterr().err
        assert run.series("a", Number, never).x == 2


def test_once_reads_what_it_computed(run):
    assert run.once("a", lambda: {"x": 1, "y/z": [2.0]})["y/z"] == 2.0
    assert run.once("a", never)["y/z"] == 2.0


def test_a_figure_is_a_picture_in_the_folder(run):
    figure = Figure()
    figure.subplots().plot([1, 2])
    path = run.save_figure("curve", figure)
    assert path == run.folder / "curve.png"
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": -1}, r"--seed must be in \[0, 4294967296\), got -1"),
        ({"seed": 2**32}, r"--seed must be in \[0, 4294967296\), got 4294967296"),
        ({"save_every": -0.1}, r"--save-every must be in \[0, inf\), got -0.1"),
        ({"save_every": float("nan")}, r"--save-every must be in \[0, inf\), got nan"),
        ({"keep": 0}, r"--keep must be in \[1, inf\), got 0"),
    ],
)
def test_settings_name_the_flag_that_is_out_of_range(wrong, words):
    with pytest.raises(ValueError, match=words):
        runner.Settings(**wrong)
