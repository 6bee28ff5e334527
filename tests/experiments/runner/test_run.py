"""A run's folder describes how to reproduce it, and belongs to one process at a time."""

import dataclasses
import errno
import fcntl
import json
import re
from typing import ClassVar

import jax
import pytest
from matplotlib.figure import Figure

from experiments import runner
from experiments.runner import run as module
from experiments.runner.run_folder import new_folder
from experiments.runner.settings import NOT_IN_RESULTS


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    width: int = 3


@pytest.fixture
def run(tmp_path):
    run = runner.Run.start("study", Settings(runs=tmp_path, seed=7))
    yield run
    run.close()


@pytest.fixture
def closed(run):
    """The folder of a run that its process has closed."""
    folder = run.folder
    run.close()
    run.close = lambda: None
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_the_description_has_what_is_needed_to_reproduce_the_run(run):
    saved = description(run.folder)
    assert saved["settings"]["seed"] == 7
    assert saved["settings"]["width"] == 3
    assert len(saved["identity"]) == 32
    assert saved["status"] == "running"
    assert saved["environment"]["jax"] == jax.__version__
    assert saved["environment"]["device"].startswith("cpu")
    assert saved["environment"]["git_commit"]
    assert runner.read_description(run.folder) == saved == run.description


def test_the_folder_is_named_by_study_and_time(run, tmp_path):
    assert run.folder.parent == tmp_path / "study"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", run.folder.name)


def test_runs_started_in_the_same_second_have_their_own_folders(tmp_path):
    folders = [new_folder(tmp_path / "study", "now") for _ in range(5)]
    assert [folder.name for folder in folders] == ["now", "now_1", "now_2", "now_3", "now_4"]


def test_a_folder_that_cannot_be_created_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        runner.Run.start("study", Settings(runs=tmp_path / "file"))


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_the_description_has_the_final_status(run, status):
    run.mark(status)
    assert description(run.folder)["status"] == status


def test_a_run_cannot_be_opened_twice(run):
    with pytest.raises(runner.RunError) as raised:
        runner.Run.resume(run.folder, run.settings)
    assert str(raised.value) == f"{run.folder} is in use by another process; end that process first"
    assert description(run.folder)["resumed"] == []
    run.close()
    again = runner.Run.resume(run.folder, run.settings)
    again.close()
    run.close = lambda: None


def test_a_folder_that_cannot_be_locked_is_not_said_to_be_in_use(closed, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        with pytest.raises(OSError, match="No locks available"):
            runner.Run.resume(closed, Settings(runs=tmp_path, seed=7))


def test_the_description_is_read_when_no_other_process_can_change_it(closed, tmp_path, monkeypatch):
    lock = module._lock

    def finish_and_lock(folder):
        changed = {**description(folder), "status": "finished", "results": {"x": 1}}
        (folder / "run.json").write_text(json.dumps(changed))
        return lock(folder)

    monkeypatch.setattr(module, "_lock", finish_and_lock)
    runner.Run.resume(closed, Settings(runs=tmp_path, seed=7)).close()
    assert description(closed)["results"] == {"x": 1}


def test_a_refused_resume_leaves_the_folder_unlocked_and_makes_no_file(closed, tmp_path):
    for _ in range(2):
        with pytest.raises(runner.RunError, match="seed must be 7"):
            runner.Run.resume(closed, Settings(runs=tmp_path, seed=8))
    runner.Run.resume(closed, Settings(runs=tmp_path, seed=7)).close()
    with pytest.raises(runner.RunError, match="is not a run's folder"):
        runner.Run.resume(tmp_path, Settings(runs=tmp_path))
    assert not (tmp_path / "lock").exists()


def test_a_reverted_run_is_as_before_it_was_resumed(closed, tmp_path):
    before = (closed / "run.json").read_bytes()
    run = runner.Run.resume(closed, Settings(runs=tmp_path, seed=7, keep=5))
    run.pin("data", "abc")
    assert description(closed)["settings"]["keep"] == 5
    run.revert()
    run.close()
    assert (closed / "run.json").read_bytes() == before


@dataclasses.dataclass(frozen=True)
class SettingsWithTasks(runner.Settings):
    may_change: ClassVar = (*runner.Settings.may_change, "tasks")
    tasks: tuple[str, ...] = ("a", "b")


def test_a_setting_with_several_values_may_only_gain_some(tmp_path):
    run = runner.Run.start("study", SettingsWithTasks(runs=tmp_path))
    run.close()
    with pytest.raises(
        runner.RunError, match=r"--tasks must include a, b, as when .*, got \['a'\]"
    ):
        runner.Run.resume(run.folder, SettingsWithTasks(runs=tmp_path, tasks=("a",)))
    more = SettingsWithTasks(runs=tmp_path, tasks=("c", "b", "a"))
    runner.Run.resume(run.folder, more).close()
    saved = runner.saved_settings(SettingsWithTasks, description(run.folder))
    assert saved.tasks == ("c", "b", "a")


def test_each_resume_is_in_the_description(closed, tmp_path, capsys):
    settings = Settings(runs=tmp_path, seed=7)
    for times in (1, 2):
        again = runner.Run.resume(closed, settings)
        again.mark("interrupted")
        again.close()
        resumed = description(closed)["resumed"]
        assert len(resumed) == times
        assert resumed[-1]["jax"] == jax.__version__
        assert "at" in resumed[-1]
    assert capsys.readouterr().err == ""
    again = runner.Run.resume(closed, settings)
    again.close()
    assert description(closed)["status"] == "running"


def test_a_run_resumes_only_with_its_own_settings(closed, tmp_path):
    before = (closed / "run.json").read_bytes()
    with pytest.raises(runner.RunError) as raised:
        runner.Run.resume(closed, Settings(runs=tmp_path, seed=8))
    assert str(raised.value) == (
        f"--seed must be 7, as when {closed} was started, got 8; start a new run to change it"
    )
    assert "\n" not in str(raised.value)
    assert (closed / "run.json").read_bytes() == before


def test_added_settings_have_their_default_and_removed_ones_are_ignored(closed, tmp_path):
    saved = {**description(closed), "settings": {"seed": 7, "gone": 1, "runs": str(tmp_path)}}
    settings = runner.saved_settings(Settings, saved)
    assert settings == Settings(runs=tmp_path, seed=7)
    runner.Run.resume(closed, settings).close()


def test_settings_that_are_no_longer_allowed_are_an_error(closed):
    saved = {**description(closed), "settings": {"keep": 0}}
    with pytest.raises(runner.RunError, match=r"no longer allowed: --keep must be in \[1, inf"):
        runner.saved_settings(Settings, saved)


def test_a_pinned_value_must_stay_the_same(closed, tmp_path):
    run = runner.Run.resume(closed, Settings(runs=tmp_path, seed=7))
    for _ in range(2):
        run.pin("data", "abc")
    with pytest.raises(
        runner.RunError, match=r"data must be the same as when .* was started; restore it"
    ):
        run.pin("data", "abd")
    run.close()
    assert description(closed)["pins"] == {"data": "abc"}


def test_a_moved_run_resumes_with_other_settings_that_no_result_depends_on(closed, tmp_path):
    moved = closed.rename(tmp_path / "moved")
    others = Settings(runs=tmp_path / "elsewhere", seed=7, save_every=0.5, keep=9, tensorboard=True)
    changed = {f.name for f in dataclasses.fields(others) if f.name not in ("scale", "seed")}
    assert {*NOT_IN_RESULTS} == changed - {"width"}
    run = runner.Run.resume(moved, others)
    run.close()
    assert run.folder == moved


def test_changes_of_the_environment_are_reported_on_resume(closed, tmp_path, monkeypatch, capsys):
    changed = {**module.environment(), "jax": "0.0", "device": "abacus"}
    monkeypatch.setattr(module, "environment", lambda _: changed)
    runner.Run.resume(closed, Settings(runs=tmp_path, seed=7)).close()
    message = capsys.readouterr().err
    assert message.startswith("the last digits may differ: jax was ")
    assert f"jax was {jax.__version__}, is 0.0; device was cpu" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not a run's folder: run.json: No such file"),
        ("", "is damaged: "),
        ('{"study": "tra', "is damaged: "),
        ("\xff", "is damaged: "),
        ("null", "is not a run's description: it lacks study, identity, status, began"),
        ("7", "is not a run's description: it lacks study"),
        ("[]", "is not a run's description: it lacks study"),
        (
            '{"study": "train"}',
            "is not a run's description: it lacks identity, status, began, command",
        ),
        ('{"study": 7}', "is not a run's description: it lacks study"),
        pytest.param("[" * 100_000, "is damaged: ", id="nested too deeply"),
    ],
)
def test_an_unusable_description_is_reported_in_one_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(runner.RunError) as raised:
        runner.read_description(tmp_path)
    assert words in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_folder_or_a_file_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "missing"):
        with pytest.raises(runner.RunError, match="is not a run's folder"):
            runner.read_description(tmp_path / name)


def test_a_figure_that_cannot_be_written_leaves_the_earlier_one(run):
    class Broken(Figure):
        def savefig(self, path, **_):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    before = run.save_figure("curve", Figure()).read_bytes()
    with pytest.raises(OSError, match="No space left"):
        run.save_figure("curve", Broken())
    assert (run.folder / "curve.png").read_bytes() == before


def test_a_figure_is_saved_as_png(run):
    figure = Figure()
    figure.subplots().plot([1, 2])
    path = run.save_figure("curve", figure)
    assert path == run.folder / "curve.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_any_text_names_a_figure_of_its_own_in_the_folder(run):
    paths = [run.save_figure(name, Figure()) for name in ("a/b", "a_b", "../a", "loss, test")]
    assert len({*paths}) == 4
    assert {path.parent for path in paths} == {run.folder}
    assert run.save_fragment("a/b", "<b>").parent == run.folder
    for name in ("", None, 3):
        with pytest.raises(ValueError, match=f"name must be a text .*, got {name!r}"):
            run.save_figure(name, Figure())


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
def test_settings_out_of_range_are_reported_with_their_flag(wrong, words):
    with pytest.raises(ValueError, match=words):
        runner.Settings(**wrong)


@dataclasses.dataclass(frozen=True)
class SettingsWithLimits(runner.Settings):
    least: ClassVar = {**runner.Settings.least, "layers": 2}
    steps: int | None = 10
    layers: int = 2
    learning_rate: float = 0.1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 0}, r"--steps must be in \[1, inf\), got 0"),
        ({"steps": -3}, r"--steps must be in \[1, inf\), got -3"),
        ({"layers": 1}, r"--layers must be in \[2, inf\), got 1"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a number, got nan"),
    ],
)
def test_numbers_of_any_study_are_checked(wrong, words):
    with pytest.raises(ValueError, match=words):
        SettingsWithLimits(**wrong)
    SettingsWithLimits(steps=None, learning_rate=float("inf"))
