"""The command line lists studies, runs and resumes them, and reports each mistake in one line."""

import errno
import json
import signal
import sys

import pytest

from experiments import runner, studies
from experiments.__main__ import main
from experiments.studies import quickstart
from tests.experiments.run_folders import records, write_run


def call(capsys, *arguments):
    """Returns exit code, standard output and standard error."""
    try:
        main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_lists_every_study_with_its_summary(capsys, arguments):
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    for name in studies.NAMES:
        assert f"{name} " in out
        assert studies.summary(name) in out


def test_help_of_a_study_comes_from_its_settings(capsys):
    code, out, _ = call(capsys, "quickstart", "--help")
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
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_an_unwritable_folder_is_one_line_and_exit_code_2(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = call(capsys, "quickstart", "--runs", str(tmp_path / "file" / "runs"))
    assert code == 2
    assert err.count("\n") == 1
    assert "cannot write" in err
    assert "--runs PATH" in err


@pytest.fixture
def replace_study(monkeypatch):
    """A function that replaces the quickstart by a function of the run."""

    def replace(work):
        def run(settings, run):
            work(run)
            return runner.Results("Title", ["series"], [["cell"]], ["A note."], {"x": 1})

        monkeypatch.setattr(quickstart, "run", run)

    return replace


@pytest.fixture
def interrupted(tmp_path, capsys, replace_study):
    """The folder of a run that was interrupted."""
    replace_study(interrupt)
    code, _, _ = call(capsys, "quickstart", "--seed", "7", "--runs", str(tmp_path / "runs"))
    assert code == 130
    (folder,) = (tmp_path / "runs" / "quickstart").iterdir()
    return folder


def interrupt(run):
    signal.raise_signal(signal.SIGINT)
    run.interruption.check()


def finish(run):
    pass


def status(folder):
    return json.loads((folder / "run.json").read_text())["status"]


def error_line(capsys, *arguments):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_resume_it(tmp_path, capsys, replace_study, number, code):
    def work(run):
        signal.raise_signal(number)
        run.interruption.check()

    replace_study(work)
    ended, _, err = call(capsys, "quickstart", "--runs", str(tmp_path))
    (folder,) = (tmp_path / "quickstart").iterdir()
    assert ended == code
    assert f"interrupted; resume with: python -m experiments quickstart --resume {folder}" in err
    assert status(folder) == "interrupted"


def test_a_second_interrupt_stops_at_once_and_says_how_to_resume(tmp_path, capsys, replace_study):
    def work(run):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    replace_study(work)
    code, _, err = call(capsys, "quickstart", "--runs", str(tmp_path))
    assert code == 130
    assert "interrupted; resume with: " in err


@pytest.mark.parametrize("how", [["--resume", "FOLDER"], ["--resume=FOLDER"]])
def test_a_run_resumes_with_its_own_settings(interrupted, capsys, replace_study, how):
    calls = []
    replace_study(lambda run: calls.append((run.folder, run.settings.seed)))
    code, out, _ = call(
        capsys, "quickstart", *[word.replace("FOLDER", str(interrupted)) for word in how]
    )
    assert (code, calls) == (0, [(interrupted, 7)])
    assert f"quickstart at scale small, resumed in {interrupted}" in out
    assert f"report: {interrupted / 'report.html'}" in out
    assert status(interrupted) == "finished"


def test_a_folder_with_an_equals_sign_can_be_resumed(interrupted, capsys, replace_study):
    replace_study(finish)
    renamed = interrupted.rename(interrupted.parent / "rate=0.1")
    for how in (["--resume", str(renamed)], [f"--resume={renamed}"]):
        assert call(capsys, "quickstart", *how)[0] == 0


def test_last_is_the_newest_run_of_the_study(
    tmp_path, interrupted, capsys, replace_study, monkeypatch
):
    for name, began in (("older", "2020-01-01T00:00:00+00:00"), ("newer", "2090-01-01T00:00:00Z")):
        write_run(tmp_path / "runs" / "other" / name, records([1.0]))
        path = tmp_path / "runs" / "other" / name / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "began": began}))
    replace_study(finish)
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "quickstart", "--resume", "last")
    assert code == 0
    assert f"resumed in {interrupted.relative_to(tmp_path)}" in out
    code, out, _ = call(capsys, "report", "last")
    assert code == 0
    assert "runs/other/newer/report.html" in out


@pytest.mark.parametrize(
    "arguments", [["quickstart", "--resume", "last"], ["report", "last"], ["compare", "last"]]
)
def test_last_needs_a_run(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path / 'runs'} has no runs" in error_line(capsys, *arguments)


def test_resume_needs_a_folder(capsys):
    assert "--resume must be followed by the folder of a run" in error_line(
        capsys, "quickstart", "--resume"
    )


def test_a_resumed_run_may_change_only_settings_that_no_result_depends_on(interrupted, capsys):
    flags = ["--save-every", "7", "--seed", "3"]
    err = error_line(capsys, "quickstart", *flags, "--resume", str(interrupted))
    assert "seed must be 7, as when" in err
    err = error_line(capsys, "quickstart", "--resume", str(interrupted), "--keep", "0")
    assert "--keep must be in [1, inf), got 0" in err
    assert "unknown flag '--color'" in error_line(
        capsys, "quickstart", "--resume", str(interrupted), "--color", "red"
    )


def test_folders_that_cannot_be_resumed_are_reported(tmp_path, interrupted, capsys):
    err = error_line(capsys, "quickstart", "--resume", str(tmp_path / "missing"))
    assert "is not a run's folder: run.json: No such file" in err
    other = write_run(tmp_path / "other", [], study="train")
    err = error_line(capsys, "quickstart", "--resume", str(other))
    assert f"{other} is a run of train, not of quickstart" in err
    held = runner.Run.resume(interrupted, quickstart.Settings(seed=7))
    err = error_line(capsys, "quickstart", "--resume", str(interrupted))
    held.close()
    assert f"{interrupted} is in use by another process" in err


def test_saved_settings_that_are_no_longer_allowed_are_reported(interrupted, capsys):
    path = interrupted / "run.json"
    description = json.loads(path.read_text())
    changed = {**description, "settings": {**description["settings"], "keep": 0}}
    path.write_text(json.dumps(changed))
    err = error_line(capsys, "quickstart", "--resume", str(interrupted))
    assert "settings are no longer allowed: --keep must be in [1, inf), got 0" in err


def test_a_full_disk_is_reported_with_how_to_resume(tmp_path, capsys, replace_study):
    def work(run):
        raise OSError(errno.ENOSPC, "No space left on device", str(run.folder / "a.png"))

    replace_study(work)
    code, _, err = call(capsys, "quickstart", "--runs", str(tmp_path))
    (folder,) = (tmp_path / "quickstart").iterdir()
    assert code == 1
    assert err == (
        f"cannot write {folder / 'a.png'}: No space left on device; "
        f"resume with: python -m experiments quickstart --resume {folder}\n"
    )
    assert status(folder) == "failed"


@pytest.mark.parametrize("error", [RuntimeError, runner.RunError, runner.CheckpointError])
def test_a_failed_run_is_marked_and_releases_its_folder(tmp_path, capsys, replace_study, error):
    def work(run):
        raise error("failure")

    replace_study(work)
    with pytest.raises((error, SystemExit)):
        main(["quickstart", "--runs", str(tmp_path)])
    (folder,) = (tmp_path / "quickstart").iterdir()
    assert status(folder) == "failed"
    runner.Run.resume(folder, quickstart.Settings(runs=tmp_path)).close()


def test_report_writes_the_report_of_any_run(tmp_path, capsys):
    folder = write_run(tmp_path / "unfinished", records([4.0, 2.0]))
    code, out, _ = call(capsys, "report", str(folder))
    assert (code, out) == (0, f"report: {folder / 'report.html'}\n")
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report"], "usage: python -m experiments report RUN"),
        (["report", "a", "b"], "usage: python -m experiments report RUN"),
        (["report", "--scale"], "usage: python -m experiments report RUN"),
        (["report", "/no/where"], "/no/where is not a run's folder"),
        (["compare"], "usage: python -m experiments compare RUN RUN"),
        (["compare", "--metric", "loss"], "usage: python -m experiments compare RUN RUN"),
        (["compare", "/no/where"], "/no/where is not a run's folder"),
        (["reprot", "a"], "did you mean report?"),
        (["comparr", "a"], "did you mean compare?"),
    ],
)
def test_wrong_arguments_of_report_and_compare_are_reported(capsys, arguments, words):
    assert words in error_line(capsys, *arguments)


def test_compare_compares_runs(tmp_path, capsys):
    runs = [write_run(tmp_path / name, records([4.0, 2.0])) for name in ("one", "other")]
    flags = ["--metric", "loss", "--target", "9", "--output", str(tmp_path / "out")]
    code, out, _ = call(capsys, "compare", *map(str, runs), *flags)
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
def test_wrong_flags_of_compare_are_one_line(tmp_path, capsys, flags, words):
    run = write_run(tmp_path / "run", records([4.0, 2.0]))
    (tmp_path / "FILE").write_text("in the way")
    flags = [flag.replace("FILE", str(tmp_path / "FILE")) for flag in flags]
    if "--output" not in flags:
        flags += ["--output", str(tmp_path / "out")]
    assert words in error_line(capsys, "compare", str(run), *flags)
    assert not (tmp_path / "out").exists()


def test_a_report_that_cannot_be_written_is_one_line(tmp_path, capsys):
    folder = write_run(tmp_path / "run", [])
    (folder / "report.html.partial").mkdir()
    assert "report.html" in error_line(capsys, "report", str(folder))


def test_without_tensorboardx_one_line_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    flags = ["--tensorboard", "--runs", str(tmp_path / "runs")]
    err = error_line(capsys, "quickstart", *flags)
    assert "--tensorboard needs tensorboardX; pip install 'jaxdescent[tensorboard]'" in err
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_not_run_again(interrupted, capsys, replace_study):
    replace_study(finish)
    assert call(capsys, "quickstart", "--resume", str(interrupted))[0] == 0
    replace_study(lambda run: pytest.fail("run again"))
    code, out, _ = call(capsys, "quickstart", "--resume", str(interrupted))
    assert code == 0
    assert out == f"{interrupted} is finished\nreport: {interrupted / 'report.html'}\n"
