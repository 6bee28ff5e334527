"""A study in a file of its own has all that the studies of the package have."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import main
from tests.experiments import parabola

SOURCE = Path(parabola.__file__)
ROOT = SOURCE.parents[2]
HEAD = "import dataclasses\nfrom experiments import runner\n"
SETTINGS = """@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    'Settings.'
"""
RUN = "def run(settings, run):\n    return 1\n"


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        del sys.modules[name]


@pytest.fixture
def study(tmp_path):
    """Path of the file, relative to the current folder."""
    (tmp_path / "studies").mkdir()
    shutil.copy(SOURCE, tmp_path / "studies" / "parabola.py")
    return "studies/parabola.py"


def call(capsys, *arguments):
    """Returns exit code, standard output and standard error."""
    try:
        main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def error_line(capsys, *arguments):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    return err.rstrip()


@pytest.fixture
def folder(study, capsys):
    """The folder of a finished run at scale smoke."""
    code, out, _ = call(capsys, study, "--scale", "smoke", "--start", "4")
    assert code == 0, out
    (folder,) = Path("runs/parabola").iterdir()
    assert f"parabola at scale smoke, results in {folder}" in out
    assert f"report: {folder / 'report.html'}" in out
    return folder


def test_a_run_has_its_results_its_scale_and_its_report(folder):
    description = json.loads((folder / "run.json").read_text())
    assert description["results"] == {"losses": [16.0, 4.0, 1.0]}
    assert description["study"] == "parabola"
    html = (folder / "report.html").read_text()
    assert "The loss falls to 1." in html
    assert "too short to judge" in html


def test_help_has_the_flags_and_the_docstring(study, capsys):
    code, out, err = call(capsys, study, "--help")
    assert (code, err) == (0, "")
    for words in (
        "--learning-rate",
        "First point.",
        "Descent of a parabola",
        "--scale",
        "--resume",
    ):
        assert words in out
    assert out.startswith(f"usage: python -m experiments {study}")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lr", "1"], "unknown flag '--lr'; did you mean --learning-rate?"),
        (["--strat", "1"], "unknown flag '--strat'; did you mean --start?"),
        (["--start", "x"], "--start must be FLOAT, got 'x'"),
        (["--learning-rate", "1"], "--learning-rate must be below 1, got 1.0"),
    ],
)
def test_a_wrong_flag_is_one_line(study, capsys, flags, words):
    assert words in error_line(capsys, study, *flags)
    assert not Path("runs").exists()


def test_an_interrupted_run_says_how_to_resume_it_and_resumes(study, capsys):
    source = Path(study).read_text()
    stop = "    import signal; signal.raise_signal(signal.SIGINT); run.interruption.check()\n"
    changed = source.replace("    run.log.rewind", stop + "    run.log.rewind")
    Path(study).write_text(changed)
    code, _, err = call(capsys, study, "--start", "2")
    (folder,) = Path("runs/parabola").iterdir()
    assert code == 130
    command = f"python -m experiments {Path(study).resolve()} --resume {folder}"
    assert f"interrupted; resume with: {command}\n" in err
    assert call(capsys, "report", str(folder))[0] == 0
    assert command in (folder / "report.html").read_text()
    Path(study).write_text(source)
    code, _, err = call(capsys, study, "--resume", "last")
    assert code == 0
    assert err == f"{CHANGED}; 1 finished series (descent) comes from the old file. {ADVICE}\n"
    description = json.loads((folder / "run.json").read_text())
    assert (description["status"], description["settings"]["start"]) == ("finished", 2.0)


SERIES = """import dataclasses
import typing
from experiments import runner
VERSION, LAST = 1, 5
class Outcome(typing.NamedTuple):
    x: float
@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    'Settings.'
def run(settings, run):
    rows = []
    for seed in range(5):
        if seed == LAST:
            raise KeyboardInterrupt
        x = run.series(f"adam, seed {seed}", Outcome, lambda: Outcome(VERSION)).x
        rows.append([seed, int(x)])
    return runner.Results("Title", ["seed", "x"], rows, ["The first note."], {})
"""
CHANGED = "parabola.py has changed since this run began"
ADVICE = "Start a new run if the change can alter results."


def write_version(version, last):
    Path("studies/parabola.py").write_text(SERIES.replace("1, 5", f"{version}, {last}"))


def test_series_of_older_versions_of_the_file_are_named_in_all_records(study, capsys):
    write_version(1, 2)
    call(capsys, study)
    write_version(2, 4)
    code, _, err = call(capsys, study, "--resume", "last")
    change = f"{CHANGED}; 2 finished series (adam, seed 0; adam, seed 1) come from the old file. "
    assert (code, err.splitlines()[0]) == (130, change + ADVICE)
    (folder,) = Path("runs/parabola").iterdir()
    call(capsys, "report", str(folder))
    assert change + ADVICE in (folder / "report.html").read_text()
    write_version(3, 5)
    code, out, err = call(capsys, study, "--resume", "last")
    names = "adam, seed 0; adam, seed 1; adam, seed 2; ..."
    change = f"{CHANGED}; 4 finished series ({names}) come from the old file. {ADVICE}"
    assert (code, err) == (0, change + "\n")
    assert f"The first note.\n{change}\n" in out
    assert change in (folder / "report.html").read_text()
    description = json.loads((folder / "run.json").read_text())
    assert description["study_change"] == change
    assert description["notes"] == ["The first note.", change]
    assert [row[1] for row in description["table"]["rows"]] == [1, 1, 2, 2, 3]


def test_a_file_that_was_changed_back_still_names_the_series_of_the_other_version(study, capsys):
    write_version(1, 1)
    call(capsys, study)
    write_version(2, 2)
    call(capsys, study, "--resume", "last")
    write_version(1, 1)
    _, _, err = call(capsys, study, "--resume", "last")
    assert f"{CHANGED}; 1 finished series (adam, seed 1) comes from the old file" in err


def test_a_file_that_stays_the_same_brings_no_message(study, capsys):
    write_version(1, 2)
    call(capsys, study)
    _, out, err = call(capsys, study, "--resume", "last")
    assert "changed" not in out + err


def test_a_change_before_any_series_is_finished_is_said(study, capsys):
    write_version(1, 0)
    call(capsys, study)
    (folder,) = Path("runs/parabola").iterdir()
    (folder / "checkpoints" / "adam" / "10").mkdir(parents=True)
    write_version(2, 5)
    _, _, err = call(capsys, study, "--resume", "last")
    continued = ", and the series in progress continues from its checkpoint"
    assert err == f"{CHANGED}; 0 finished series come from the old file{continued}. {ADVICE}\n"


def test_a_series_that_a_study_describes_wrongly_is_one_line(capsys):
    study = SERIES.replace("lambda: Outcome(VERSION)", "Outcome(VERSION)")
    Path("mine.py").write_text(study)
    words = "series 'adam, seed 0': compute must be a function without arguments, got Outcome\n"
    assert error_line_after_the_start(capsys, "mine.py") == words


def test_output_that_is_no_longer_read_ends_the_run_quietly():
    write = SERIES.replace("rows.append", "print('x' * 100_000, flush=True); rows.append")
    Path("mine.py").write_text(write)
    command = f"{sys.executable} -m experiments mine.py | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(  # noqa: S603
        ["/bin/bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.endswith("\n141\n")
    assert done.stderr == ""
    (path,) = Path("runs/mine").glob("*/run.json")
    assert json.loads(path.read_text())["status"] == "interrupted"


def test_a_finished_run_is_not_run_again(study, folder, capsys):
    Path(study).write_text(Path(study).read_text() + "\ndef run(settings, run): 1 / 0\n")
    code, out, err = call(capsys, study, "--resume", str(folder))
    assert (code, out) == (0, f"{folder} is finished\nreport: {folder / 'report.html'}\n")
    assert err.startswith(f"{CHANGED}; ")
    assert err.endswith(f"the old file. {ADVICE}\n")


def test_a_finished_run_of_the_same_file_brings_no_message(study, folder, capsys):
    assert call(capsys, study, "--resume", str(folder))[2] == ""


def test_report_and_compare_need_only_the_runs(study, folder, capsys, monkeypatch, tmp_path):
    call(capsys, study, "--scale", "smoke", "--start", "2")
    shutil.rmtree("studies")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, out, _ = call(capsys, "report", "last", "--runs", str(tmp_path / "runs"))
    assert code == 0, out
    runs = sorted(map(str, (tmp_path / "runs" / "parabola").iterdir()))
    code, out, _ = call(capsys, "compare", *runs)
    assert code == 0
    assert "\nstart 4.0 " in out
    assert "\nstart 2.0 " in out


def test_a_file_may_import_its_neighbors_and_be_named_like_an_installed_package(study, capsys):
    neighbor = Path("studies/neighbor.py")
    neighbor.write_text("STEPS = {'smoke': 2}\n")
    source = Path(study).read_text()
    start = source.index("STEPS = ")
    source = f"{source[:start]}from neighbor import STEPS\n{source[source.index('@data') :]}"
    Path("studies/optax.py").write_text(source)
    code, out, _ = call(capsys, "studies/optax.py", "--scale", "smoke")
    assert code == 0, out
    assert sys.modules["optax"].__file__ != str(Path("studies/optax.py").resolve())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def run(:", "cannot be loaded: SyntaxError: invalid syntax (mine.py, line 1)"),
        ("\n\nx = 1 / 0", "cannot be loaded: ZeroDivisionError: division by zero (line 3)"),
        ("import sys; sys.exit('bye')", "cannot be loaded: SystemExit: bye (line 1)"),
        (HEAD + RUN, "must have a dataclass Settings, a runner.Settings"),
        (HEAD + "class Settings: pass\n" + RUN, "must have a dataclass Settings"),
        (HEAD + SETTINGS, "must have a function run(settings, run)"),
        (
            HEAD + SETTINGS.split("\n", 1)[1] + RUN,
            "Settings must have the line @dataclasses.dataclass(frozen=True)",
        ),
        (
            HEAD + SETTINGS.replace("(frozen=True)", "") + RUN,
            "TypeError: cannot inherit non-frozen dataclass from a frozen one (line 3)",
        ),
        (HEAD + SETTINGS + "    rate: nothing = 1\n" + RUN, "NameError: name 'nothing' is not def"),
    ],
)
def test_a_file_without_a_study_is_one_line(capsys, source, reason):
    Path("mine.py").write_text(source)
    assert reason in error_line(capsys, "mine.py", "--seed", "1")
    assert error_line(capsys, "mine.py").startswith("mine.py")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("missing.py", "there is no file missing.py"),
        ("no/such/folder/mine.py", "there is no file no/such/folder/mine.py"),
        ("quickstart.py", "there is no file quickstart.py; did you mean quickstart?"),
        ("notes.txt", "notes.txt must be a Python file, whose name ends in .py"),
        ("folder/", "folder must be a Python file, whose name ends in .py"),
        ("folder.py", "there is no file folder.py"),
        ("mine", "unknown study 'mine'; did you mean mine.py?"),
        ("folder/train.py", "folder/train.py must have another name, because experiments has a "),
        ("folder/report.py", "folder/report.py must have another name"),
    ],
)
def test_a_word_that_is_not_a_study_file_is_one_line(capsys, word, reason):
    Path("notes.txt").touch()
    Path("mine.py").touch()
    Path("folder.py").mkdir()
    Path("folder").mkdir()
    for name in ("train", "report"):
        Path(f"folder/{name}.py").write_text(HEAD + SETTINGS + RUN)
    assert reason in error_line(capsys, word)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("None", "run(settings, run) must return runner.Results, got None"),
        (
            "runner.Results('Title', ['a', 'b'], [['x']], [], {})",
            "rows must have 2 cells, as there are columns, got ['x']",
        ),
    ],
)
def test_wrong_results_are_reported(capsys, returned, reason):
    Path("mine.py").write_text(HEAD + SETTINGS + RUN.replace("1", returned))
    assert reason in error_line_after_the_start(capsys, "mine.py")
    (folder,) = Path("runs/mine").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"


def error_line_after_the_start(capsys, *arguments):
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert err.count("\n") == 1, err
    return err


def test_a_study_without_a_docstring_runs(capsys):
    results = "runner.Results('Title', ['a'], [['x']], [], {})"
    Path("mine.py").write_text(HEAD + SETTINGS + RUN.replace("1", results))
    assert call(capsys, "mine.py", "--help")[0] == 0
    assert call(capsys, "mine.py")[0] == 0
