"""The command line says what is there, and every mistake in one line."""

import errno
import json
import signal
import sys

import pytest

from experiments import runner, studies
from experiments.__main__ import main
from experiments.studies import quickstart
from tests.experiments.run_folders import records, write_run


def said(capsys, *arguments):
    """Exit code, standard output and standard error."""
    try:
        main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_lists_every_study_with_its_summary(capsys, arguments):
    code, out, _ = said(capsys, *arguments)
    assert code == 0
    for name in studies.NAMES:
        assert f"{name} " in out
        assert studies.summary(name) in out


def test_help_of_a_study_comes_from_its_settings(capsys):
    code, out, _ = said(capsys, "quickstart", "--help")
    assert code == 0
    for flag in ("--seeds", "--scale", "--seed", "--runs", "--picture"):
        assert flag in out
    assert "Networks trained in parallel" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quickstrat"], ["unknown study 'quickstrat'", "did you mean quickstart?"]),
        (["quickstart", "--seeeds", "3"], ["unknown flag '--seeeds'", "did you mean --seeds?"]),
        (["quickstart", "--seeds", "0"], ["--seeds must be in [1, inf), got 0"]),
        (["quickstart", "--seed", "-1"], ["--seed must be in [0, 4294967296), got -1"]),
        (["quickstart", "--seed", "9" * 20], ["--seed must be in [0, 4294967296), got 999"]),
        (["quickstart", "--picture", "a.xyz"], ["--picture must be a .png", "a.xyz"]),
        (["quickstart", "--picture", "/no/where/a.png"], ["--picture", "/no/where/a.png"]),
        (["quickstart", "--picture", "a.png", "--grid"], ["--picture", "--grid"]),
        (["quickstart", "--seeds", "many"], ["--seeds", "many", "--help lists the flags"]),
        (["quickstart", "--scale", "huge"], ["--scale", "huge", "small", "--help lists the flags"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, words):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_an_unwritable_folder_is_one_line_and_exit_code_2(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = said(capsys, "quickstart", "--runs", str(tmp_path / "file" / "runs"))
    assert code == 2
    assert err.count("\n") == 1
    assert "cannot write" in err
    assert "--runs PATH" in err


@pytest.fixture
def at_work(monkeypatch):
    """Has the quickstart do something else: a function of the run."""

    def replace(work):
        def run(settings, run):
            work(run)
            return runner.Results("Title", ["line"], [["cell"]], ["A note."], {"x": 1})

        monkeypatch.setattr(quickstart, "run", run)

    return replace


@pytest.fixture
def left(tmp_path, capsys, at_work):
    """The folder of a run that was interrupted."""
    at_work(interrupt)
    code, _, _ = said(capsys, "quickstart", "--seed", "7", "--runs", str(tmp_path / "runs"))
    assert code == 130
    (folder,) = (tmp_path / "runs" / "quickstart").iterdir()
    return folder


def interrupt(run):
    signal.raise_signal(signal.SIGINT)
    run.interruption.check()


def nothing(run):
    pass


def status(folder):
    return json.loads((folder / "run.json").read_text())["status"]


def one_line(capsys, *arguments):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_interrupted_says_how_to_go_on(tmp_path, capsys, at_work, number, code):
    def work(run):
        signal.raise_signal(number)
        run.interruption.check()

    at_work(work)
    ended, _, err = said(capsys, "quickstart", "--runs", str(tmp_path))
    (folder,) = (tmp_path / "quickstart").iterdir()
    assert ended == code
    assert f"interrupted; go on with: python -m experiments quickstart --resume {folder}" in err
    assert status(folder) == "interrupted"


def test_two_interruptions_stop_at_once_and_say_the_same(tmp_path, capsys, at_work):
    def work(run):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    at_work(work)
    code, _, err = said(capsys, "quickstart", "--runs", str(tmp_path))
    assert code == 130
    assert "interrupted; go on with: " in err


@pytest.mark.parametrize("how", [["--resume", "FOLDER"], ["--resume=FOLDER"]])
def test_a_run_goes_on_where_it_was_left_with_its_own_settings(left, capsys, at_work, how):
    seen = []
    at_work(lambda run: seen.append((run.folder, run.settings.seed)))
    code, out, _ = said(capsys, "quickstart", *[word.replace("FOLDER", str(left)) for word in how])
    assert (code, seen) == (0, [(left, 7)])
    assert f"quickstart at scale small, resumed in {left}" in out
    assert f"report: {left / 'report.html'}" in out
    assert status(left) == "finished"


def test_a_folder_with_an_equals_sign_can_be_resumed(left, capsys, at_work):
    at_work(nothing)
    renamed = left.rename(left.parent / "rate=0.1")
    for how in (["--resume", str(renamed)], [f"--resume={renamed}"]):
        assert said(capsys, "quickstart", *how)[0] == 0


def test_last_is_the_newest_run_of_the_study(tmp_path, left, capsys, at_work, monkeypatch):
    for name, began in (("older", "2020-01-01T00:00:00+00:00"), ("newer", "2090-01-01T00:00:00Z")):
        write_run(tmp_path / "runs" / "other" / name, records([1.0]))
        path = tmp_path / "runs" / "other" / name / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "began": began}))
    at_work(nothing)
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(capsys, "quickstart", "--resume", "last")
    assert code == 0
    assert f"resumed in {left.relative_to(tmp_path)}" in out
    code, out, _ = said(capsys, "report", "last")
    assert code == 0
    assert "runs/other/newer/report.html" in out


@pytest.mark.parametrize(
    "arguments", [["quickstart", "--resume", "last"], ["report", "last"], ["compare", "last"]]
)
def test_without_a_run_there_is_no_last_one(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert f"there is no run under {tmp_path / 'runs'}" in one_line(capsys, *arguments)


def test_resume_needs_a_folder(capsys):
    assert "--resume takes a run's folder" in one_line(capsys, "quickstart", "--resume")


def test_a_resumed_run_may_save_elsewhen_and_change_nothing_else(left, capsys):
    flags = ["--save-every", "7", "--seed", "3"]
    err = one_line(capsys, "quickstart", *flags, "--resume", str(left))
    assert "a run goes on with its own settings" in err
    err = one_line(capsys, "quickstart", "--resume", str(left), "--keep", "0")
    assert "--keep must be in [1, inf), got 0" in err
    assert "unknown flag '--color'" in one_line(
        capsys, "quickstart", "--resume", str(left), "--color", "red"
    )


def test_what_cannot_be_resumed_is_one_line(tmp_path, left, capsys):
    err = one_line(capsys, "quickstart", "--resume", str(tmp_path / "nothing"))
    assert "is no run's folder: run.json: No such file" in err
    other = write_run(tmp_path / "other", [], study="train")
    err = one_line(capsys, "quickstart", "--resume", str(other))
    assert f"{other} is a run of train, not of quickstart" in err
    held = runner.Run.resume(left, quickstart.Settings(seed=7))
    err = one_line(capsys, "quickstart", "--resume", str(left))
    held.close()
    assert f"{left} is in use by another process" in err


def test_settings_that_a_study_no_longer_allows_are_one_line(left, capsys):
    path = left / "run.json"
    description = json.loads(path.read_text())
    changed = {**description, "settings": {**description["settings"], "keep": 0}}
    path.write_text(json.dumps(changed))
    err = one_line(capsys, "quickstart", "--resume", str(left))
    assert "settings are not allowed any more: --keep must be in [1, inf), got 0" in err


def test_a_disk_that_fills_is_one_line_that_says_how_to_go_on(tmp_path, capsys, at_work):
    def work(run):
        raise OSError(errno.ENOSPC, "No space left on device", str(run.folder / "a.png"))

    at_work(work)
    code, _, err = said(capsys, "quickstart", "--runs", str(tmp_path))
    (folder,) = (tmp_path / "quickstart").iterdir()
    assert code == 1
    assert err == (
        f"cannot write {folder / 'a.png'}: No space left on device; "
        f"go on with: python -m experiments quickstart --resume {folder}\n"
    )
    assert status(folder) == "failed"


@pytest.mark.parametrize("error", [RuntimeError, runner.RunError, runner.CheckpointError])
def test_a_run_that_failed_says_so_and_lets_go_of_its_folder(tmp_path, capsys, at_work, error):
    def work(run):
        raise error("so it goes")

    at_work(work)
    with pytest.raises((error, SystemExit)):
        main(["quickstart", "--runs", str(tmp_path)])
    (folder,) = (tmp_path / "quickstart").iterdir()
    assert status(folder) == "failed"
    runner.Run.resume(folder, quickstart.Settings(runs=tmp_path)).close()


def test_a_report_can_be_had_of_any_run(tmp_path, capsys):
    folder = write_run(tmp_path / "left", records([4.0, 2.0]))
    code, out, _ = said(capsys, "report", str(folder))
    assert (code, out) == (0, f"report: {folder / 'report.html'}\n")
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report"], "usage: python -m experiments report RUN"),
        (["report", "a", "b"], "usage: python -m experiments report RUN"),
        (["report", "--scale"], "usage: python -m experiments report RUN"),
        (["report", "/no/where"], "/no/where is no run's folder"),
        (["compare"], "usage: python -m experiments compare RUN RUN"),
        (["compare", "--metric", "loss"], "usage: python -m experiments compare RUN RUN"),
        (["compare", "/no/where"], "/no/where is no run's folder"),
        (["reprot", "a"], "did you mean report?"),
        (["comparr", "a"], "did you mean compare?"),
    ],
)
def test_a_mistake_about_runs_is_one_line(capsys, arguments, words):
    assert words in one_line(capsys, *arguments)


def test_runs_are_compared(tmp_path, capsys):
    runs = [write_run(tmp_path / name, records([4.0, 2.0])) for name in ("one", "other")]
    flags = ["--metric", "loss", "--target", "9", "--output", str(tmp_path / "out")]
    code, out, _ = said(capsys, "compare", *map(str, runs), *flags)
    assert code == 0
    assert "steps to 9" in out
    (page,) = (tmp_path / "out" / "compare").glob("*/compare.html")
    assert out.endswith(f"report: {page}\n")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--metric", "acuracy"], "has no metric 'acuracy'; train has loss, seconds"),
        (["--metrik", "loss"], "unknown flag '--metrik'; did you mean --metric?"),
        (["--target", "low"], "--target"),
        (["--output", "FILE/out"], "FILE"),
    ],
)
def test_a_mistake_in_a_comparison_is_one_line(tmp_path, capsys, flags, words):
    run = write_run(tmp_path / "run", records([4.0, 2.0]))
    (tmp_path / "FILE").write_text("in the way")
    flags = [flag.replace("FILE", str(tmp_path / "FILE")) for flag in flags]
    if "--output" not in flags:
        flags += ["--output", str(tmp_path / "out")]
    assert words in one_line(capsys, "compare", str(run), *flags)
    assert not (tmp_path / "out").exists()


def test_a_report_that_cannot_be_written_is_one_line(tmp_path, capsys):
    folder = write_run(tmp_path / "run", [])
    (folder / "report.html.partial").mkdir()
    assert "report.html" in one_line(capsys, "report", str(folder))


def test_what_tensorboard_needs_is_one_line_and_makes_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    flags = ["--tensorboard", "--runs", str(tmp_path / "runs")]
    err = one_line(capsys, "quickstart", *flags)
    assert "--tensorboard needs tensorboardX; pip install 'jaxdescent[tensorboard]'" in err
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_not_done_again(left, capsys, at_work):
    at_work(nothing)
    assert said(capsys, "quickstart", "--resume", str(left))[0] == 0
    at_work(lambda run: pytest.fail("it was done again"))
    code, out, _ = said(capsys, "quickstart", "--resume", str(left))
    assert code == 0
    assert out == f"{left} is finished\nreport: {left / 'report.html'}\n"
