"""The command line lists studies, runs and resumes them, and reports each mistake in one line."""

import errno
import json
import shlex
import signal
import sys

import jax
import pytest

from experiments import runner, studies
from experiments.__main__ import main
from experiments.runner.log import Log
from experiments.runner.run_folder import newest_run
from experiments.studies import quickstart
from jaxdescent.extras import require
from tests.compiling import optimized
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


@pytest.fixture
def broken_study(monkeypatch, tmp_path):
    """A function that adds a study with the given source, named broken."""

    def add(source):
        folder = tmp_path / "more_studies"
        folder.mkdir()
        (folder / "broken.py").write_text(source)
        monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(folder)])
        monkeypatch.setattr(studies, "NAMES", ("broken", "quickstart"))

    yield add
    sys.modules.pop("experiments.studies.broken", None)
    vars(studies).pop("broken", None)


HEAD = """'A study.'
import dataclasses
from experiments import runner
"""
SETTINGS = """@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    'Settings.'
"""
RUN = """def run(settings, run):
    return 1
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def run(:", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise ImportError('x is not installed;\\ninstall it')", "x is not installed; install it"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        (HEAD + SETTINGS + "    rates: list = []\n" + RUN, "ValueError: mutable default"),
        (HEAD + SETTINGS + "    rate: nothing = 1\n" + RUN, "NameError: name 'nothing'"),
        (HEAD + SETTINGS + "    rate: 'nothing' = 1\n" + RUN, "NameError: name 'nothing'"),
        (HEAD + "class Settings: pass\n" + RUN, "must have a dataclass Settings"),
        (HEAD + RUN, "must have a dataclass Settings"),
        (HEAD + SETTINGS, "must have a function run(settings, run)"),
        ((HEAD + SETTINGS + RUN).replace("A study.", ""), "study broken has no docstring"),
    ],
)
def test_a_broken_study_is_listed_with_its_error_and_others_work(
    broken_study, capsys, source, reason
):
    broken_study(source)
    code, out, err = call(capsys)
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("  broken ")]
    assert reason in line
    assert studies.summary("quickstart") in out
    assert reason in error_line(capsys, "broken", "--seed", "1")
    assert "unknown flag '--x'" in error_line(capsys, "quickstart", "--x")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["report", "--help"],
        ["compare", "--help"],
        ["compare", "-h"],
        ["compare", "RUN", "--help"],
        ["report", "RUN", "--help"],
        ["quickstart", "--resume", "--help"],
        ["quickstart", "--resume", "RUN", "-h"],
        *([name, "--help"] for name in studies.NAMES),
    ],
)
def test_all_help_ends_with_exit_code_0(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.startswith("usage: ")


def test_help_says_what_a_resumed_run_may_change(capsys):
    _, out, _ = call(capsys, "train", "--help")
    words = " ".join(out.replace("│", " ").split())
    assert "only these flags may change: --save-every, --keep, --tensorboard, --steps" in words


def test_help_of_a_study_comes_from_its_settings(capsys):
    code, out, _ = call(capsys, "quickstart", "--help")
    assert code == 0
    for flag in ("--seeds", "--scale", "--seed", "--runs", "--picture"):
        assert flag in out
    assert "Networks trained from each initial learning rate" in out


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
        (["quickstart", "--populations", "0"], ["--populations must be in [1, inf), got 0"]),
        (["quickstart", "--seeds", "many"], ["--seeds must be INT, got 'many'; ", "--help lists"]),
        (["quickstart", "--save-every", "1,5"], ["--save-every must be FLOAT, got '1,5'"]),
        (["quickstart", "--seeds"], ["--seeds must be followed by a value"]),
        (["quickstart", "--tensorboard", "True"], ["unknown argument 'True'; a value follows"]),
        (["train", "--steps", "1e3"], ["--steps must be INT, got '1e3'; "]),
        (["train", "--steps", "9" * 30], ["--steps must be in [1, 2147483648), got 999"]),
        (["train", "--rule", "nonsense"], ["'stalled', 'successive_halving', got 'nonsense'; "]),
        (["train", "--rule", "None"], ["'no_pruning', got 'None'; python -m"]),
        (["train", "--optimizer", "SGD"], ["--optimizer must be one of 'adam', 'adamw', 'sgd'"]),
        (["train", "--steps", "41", "--evaluate-every", "9"], ["--steps 36 or 45 would do"]),
        (["train", "--lr", "0.1"], ["unknown flag '--lr'; did you mean --learning-rate?"]),
        (["quickstart", "--lr", "0.1"], ["unknown flag '--lr'; python -m experiments quickstart"]),
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


@pytest.mark.parametrize(("scale", "is_quick"), [("smoke", True), ("small", False)])
def test_only_a_smoke_run_compiles_with_few_optimizations(
    tmp_path, capsys, replace_study, scale, is_quick
):
    found = []
    replace_study(lambda _: found.append(jax.config.read("jax_disable_most_optimizations")))
    with optimized():
        call(capsys, "quickstart", "--scale", scale, "--runs", str(tmp_path))
        found.append(jax.config.read("jax_disable_most_optimizations"))
    assert found == [is_quick, False]


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


LAST = [
    ["quickstart", "--resume", "last"],
    ["report", "last"],
    ["compare", "last"],
    ["landscape", "last"],
    ["train", "--warm-start", "last"],
]


@pytest.mark.parametrize("arguments", LAST)
def test_last_needs_a_run(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path / 'runs'} has no runs" in error_line(capsys, *arguments)
    message = error_line(capsys, *arguments, "--runs", str(tmp_path / "none yet"))
    assert f"{tmp_path / 'none yet'} has no runs" in message


@pytest.mark.parametrize("how", [["--runs", "RUNS"], ["--runs=RUNS"]])
def test_last_is_the_newest_run_in_the_folder_of_runs(
    tmp_path, interrupted, capsys, monkeypatch, replace_study, how
):
    monkeypatch.chdir(tmp_path)
    how = [word.replace("RUNS", str(tmp_path / "elsewhere")) for word in how]
    runs = (tmp_path / "runs").rename(tmp_path / "elsewhere")
    folder = runs / interrupted.relative_to(tmp_path / "runs")
    for arguments in (["report", "last", *how], ["report", *how, "last"]):
        code, out, _ = call(capsys, *arguments)
        assert (code, out) == (0, f"report: {folder / 'report.html'}\n")
    write_run(runs / "train" / "run", records([2.0, 1.0]))
    code, out, _ = call(capsys, "compare", "last", *how)
    assert code == 0
    assert out.splitlines()[-1].startswith(f"report: {runs}/compare/")
    replace_study(finish)
    code, out, _ = call(capsys, "quickstart", *how, "--resume", "last")
    assert code == 0
    assert f"resumed in {folder}" in out


def test_runs_must_hold_the_run_that_is_named(tmp_path, interrupted, capsys, replace_study):
    other = ["--runs", str(tmp_path / "other")]
    err = error_line(capsys, "quickstart", "--resume", str(interrupted), *other)
    assert (
        f"--runs must be a folder that {interrupted} is in, or be left out, got {tmp_path}" in err
    )
    assert "--runs must be left out" in error_line(capsys, "report", str(interrupted), *other)
    replace_study(finish)
    own = ["--runs", str(tmp_path / "runs")]
    assert call(capsys, "quickstart", "--resume", str(interrupted), *own)[0] == 0


def test_last_skips_damaged_runs(tmp_path, interrupted, capsys):
    for name, content in (("damaged", '{"study": "qu'), ("foreign", "[1, 2]")):
        (interrupted.parent / name).mkdir()
        (interrupted.parent / name / "run.json").write_text(content)
    undated = write_run(interrupted.parent / "undated", [], study="quickstart")
    path = undated / "run.json"
    path.write_text(path.read_text().replace("2030-01-02T03:04:05+00:00", "yesterday"))
    code, out, _ = call(capsys, "report", "last", "--runs", str(tmp_path / "runs"))
    assert (code, out) == (0, f"report: {interrupted / 'report.html'}\n")


def test_last_compares_times_across_time_zones_and_names_of_the_same_second(tmp_path):
    began = {"a": "2030-01-01T12:00:00+02:00", "b": "2030-01-01T11:00:00+00:00"}
    began |= {"b_2": began["b"], "b_10": began["b"]}
    for name, text in began.items():
        path = write_run(tmp_path / "train" / name, []) / "run.json"
        path.write_text(path.read_text().replace("2030-01-02T03:04:05+00:00", text))
    assert newest_run(tmp_path).name == "b_10"


@pytest.mark.parametrize("flags", [["--resume"], ["--resume="], ["--resume", "--seed", "3"]])
def test_resume_must_be_followed_by_a_run(capsys, flags):
    assert "--resume must be followed by the folder of a run" in error_line(
        capsys, "quickstart", *flags
    )


def test_resume_is_given_once(capsys):
    flags = ["--resume", "a", "--resume=b"]
    assert "--resume must be given once" in error_line(capsys, "quickstart", *flags)


def test_a_resumed_run_may_change_only_settings_that_no_result_depends_on(interrupted, capsys):
    flags = ["--save-every", "7", "--seed", "3"]
    err = error_line(capsys, "quickstart", *flags, "--resume", str(interrupted))
    assert "--seed must be 7, as when" in err
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


@pytest.fixture
def finished(interrupted, capsys, replace_study):
    """The folder of a finished run; running it again fails the test."""
    replace_study(finish)
    assert call(capsys, "quickstart", "--resume", str(interrupted))[0] == 0
    replace_study(lambda run: pytest.fail("run again"))
    return interrupted


def test_a_finished_run_is_not_run_again(finished, capsys):
    for same in ([], ["--seed", "7"], ["--seeds", "3", "--keep", "2"]):
        code, out, _ = call(capsys, "quickstart", "--resume", str(finished), *same)
        assert code == 0
        assert out == f"{finished} is finished\nreport: {finished / 'report.html'}\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", "3"], "--seed must be 7, as when RUN was started, got 3"),
        (["--keep", "3"], "--keep changes nothing, because RUN is finished; leave it out"),
        (["--save-every", "3"], "--save-every changes nothing, because RUN is finished"),
    ],
)
def test_a_flag_that_a_finished_run_cannot_honor_is_refused(finished, capsys, flags, words):
    before = (finished / "run.json").read_bytes()
    err = error_line(capsys, "quickstart", "--resume", str(finished), *flags)
    assert words.replace("RUN", str(finished)) in err
    assert (finished / "run.json").read_bytes() == before


def test_a_finished_run_goes_on_with_a_setting_that_may_change(
    finished, capsys, replace_study, tmp_path
):
    picture, seen = tmp_path / "a b.png", []
    replace_study(lambda run: seen.append(run.settings.picture))
    flags = ["--picture", str(picture)]
    assert call(capsys, "quickstart", "--resume", str(finished), *flags)[0] == 0
    description = runner.read_description(finished)
    assert seen == [picture]
    assert description["settings"]["picture"] == str(picture)
    assert description["resumed"][-1]["changes"] == {"picture": str(picture)}
    assert description["status"] == "finished"


def test_a_finished_run_that_fails_when_it_goes_on_keeps_its_results(
    finished, capsys, replace_study, tmp_path
):
    flags = ["quickstart", "--resume", str(finished), "--picture", str(tmp_path / "a.png")]

    def fail(run):
        raise OSError(errno.ENOSPC, "No space left on device")

    replace_study(fail)
    assert call(capsys, *flags)[0] == 1
    description = runner.read_description(finished)
    assert (description["status"], description["results"]) == ("failed", {"x": 1})
    assert call(capsys, "report", str(finished))[0] == 0
    html = (finished / "report.html").read_text()
    assert "The run has not finished since it was last resumed" in html
    assert "<td>cell</td>" in html


def test_a_run_that_cannot_go_on_is_as_it_was(finished, capsys, replace_study, tmp_path):
    before = (finished / "run.json").read_bytes()

    def refuse(run):
        run.pin("data", "new")
        raise runner.RunError("the data is missing")

    replace_study(refuse)
    flags = ["--resume", str(finished), "--picture", str(tmp_path / "a.png")]
    code, _, err = call(capsys, "quickstart", *flags)
    assert (code, err) == (2, "the data is missing\n")
    assert (finished / "run.json").read_bytes() == before


def test_a_missing_package_is_one_line_when_a_run_starts_or_goes_on(
    finished, capsys, replace_study, tmp_path
):
    before = (finished / "run.json").read_bytes()
    replace_study(lambda run: require("no_such_package", "some"))
    resumed = ["--resume", str(finished), "--picture", str(tmp_path / "a.png")]
    for flags in (resumed, ["--runs", str(tmp_path / "others")]):
        code, _, err = call(capsys, "quickstart", *flags)
        assert (code, err.count("\n")) == (2, 1)
        assert "install it with: pip install 'jaxdescent[some]'" in err
    assert (finished / "run.json").read_bytes() == before


def test_tensorboard_gets_the_records_of_a_finished_run(finished, capsys, replace_study):
    pytest.importorskip("tensorboardX")
    Log(finished / "metrics.jsonl").append(series="adam", step=1, loss=0.5)
    replace_study(finish)
    assert call(capsys, "quickstart", "--resume", str(finished), "--tensorboard")[0] == 0
    (events,) = (finished / "tensorboard").iterdir()
    assert b"adam/loss" in events.read_bytes()


def test_the_advice_can_be_pasted_into_a_shell(tmp_path, capsys, replace_study):
    replace_study(interrupt)
    code, _, err = call(capsys, "quickstart", "--runs", str(tmp_path / "mes œuvres $HOME"))
    assert code == 130
    words = shlex.split(err.split("resume with: ")[1])
    replace_study(finish)
    assert call(capsys, *words[3:])[0] == 0
    assert call(capsys, "report", words[-1])[0] == 0


def test_an_interrupt_outside_of_the_run_is_one_line(capsys, monkeypatch):
    def interrupt_import(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "load", interrupt_import)
    code, _, err = call(capsys, "quickstart")
    assert (code, err) == (130, "\ninterrupted\n")
