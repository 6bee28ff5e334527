"""The command line: `python -m experiments STUDY [--flags]`."""

import contextlib
import difflib
import io
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import tyro

from experiments import studies
from experiments.data import DataError
from experiments.runner import (
    CheckpointError,
    Interrupted,
    Run,
    RunError,
    TrajectoryError,
    read_description,
    saved_settings,
    write_report,
)
from experiments.runner.comparison import Comparison, compare
from experiments.runner.report import rewrite_report

_USAGE = """\
usage: python -m experiments STUDY [--flags]
       python -m experiments STUDY --resume RUN
       python -m experiments landscape RUN
       python -m experiments report RUN
       python -m experiments compare RUN RUN ... [--flags]

RUN is the folder of a run, or "last" for the newest run of the study in runs/.

studies:"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a study or another command, or lists the studies."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        width = max(map(len, studies.NAMES))
        for name in studies.NAMES:
            print(f"  {name:{width}s}  {studies.summary(name)}")
        print("\npython -m experiments STUDY --help lists the flags of a study.")
        return
    name, *flags = arguments
    names = (*studies.NAMES, "report", "compare")
    if name not in names:
        _exit(f"unknown study {name!r}", name, names, "python -m experiments lists the studies")
    try:
        if name == "compare":
            _compare(flags)
        elif name == "report":
            _report(flags)
        elif any(flag.split("=")[0] == "--resume" for flag in flags):
            _resume(name, flags)
        else:
            _start(name, flags)
    except (RunError, CheckpointError, TrajectoryError, DataError) as error:
        _exit(str(error))


def _start(name: str, flags: Sequence[str]) -> None:
    study = studies.load(name)
    settings = _parse(name, study.Settings, flags, description=study.__doc__)
    _check(study, settings)
    try:
        run = Run.start(name, settings)
    except OSError as error:
        _exit(f"cannot write the folder of the run: {_reason(error)}; choose --runs PATH")
    print(f"{name} at scale {settings.scale}, results in {run.folder}")
    _run(study, run)


def _resume(name: str, flags: Sequence[str]) -> None:
    """Resumes a run; other flags may change only settings that no result depends on."""
    index = next(i for i, flag in enumerate(flags) if flag.split("=")[0] == "--resume")
    argument, rest = flags[index].partition("=")[2], [*flags[:index], *flags[index + 1 :]]
    if not argument and index < len(rest):
        argument = rest.pop(index)
    if not argument:
        _exit(
            "--resume must be followed by the folder of a run, or by last for the newest in runs/"
        )
    folder = _run_folder(argument, name)
    description = read_description(folder)
    if description["study"] != name:
        _exit(f"{folder} is a run of {description['study']}, not of {name}")
    study = studies.load(name)
    settings = _parse(name, study.Settings, rest, saved_settings(study.Settings, description))
    if description["status"] == "finished":
        print(f"{folder} is finished\nreport: {rewrite_report(folder)}")
        return
    try:
        run = Run.resume(folder, settings)
    except OSError as error:
        _exit(f"cannot write {_reason(error)}")
    print(f"{name} at scale {settings.scale}, resumed in {run.folder}")
    _run(study, run)


def _check(study: Any, settings: Any) -> None:
    """Calls the study's own check of its settings, before the folder is created."""
    try:
        getattr(study, "check", lambda _: None)(settings)
    except (ValueError, ImportError) as error:
        _exit(str(error))


def _run(study: Any, run: Run) -> None:
    """Runs the study and writes its report; if it stops early, says how to resume it."""
    study_name = run.description["study"]
    advice = f"resume with: python -m experiments {study_name} --resume {run.folder}"
    try:
        with run.interruption:
            results = study.run(run.settings, run)
        write_report(run, results)
    except (Interrupted, KeyboardInterrupt) as stop:
        run.mark("interrupted")
        print(f"\ninterrupted; {advice}", file=sys.stderr)
        sys.exit(128 + stop.signal if isinstance(stop, Interrupted) else 130)
    except OSError as error:
        with contextlib.suppress(OSError):
            run.mark("failed")
        print(f"cannot write {_reason(error)}; {advice}", file=sys.stderr)
        sys.exit(1)
    except BaseException:
        with contextlib.suppress(OSError):
            run.mark("failed")
        raise
    finally:
        run.close()
    print(f"report: {run.folder / 'report.html'}")


def _report(flags: Sequence[str]) -> None:
    if len(flags) != 1 or flags[0].startswith("-"):
        _exit("usage: python -m experiments report RUN")
    try:
        print(f"report: {rewrite_report(_run_folder(flags[0]))}")
    except OSError as error:
        _exit(f"cannot write {_reason(error)}")


def _compare(flags: Sequence[str]) -> None:
    runs = [
        _run_folder(flag)
        for flag in itertools.takewhile(lambda word: not word.startswith("-"), flags)
    ]
    if not runs:
        _exit("usage: python -m experiments compare RUN RUN ... [--metric NAME] [--target VALUE]")
    rest = ["--runs", *map(str, runs), *flags[len(runs) :]]
    try:
        print(f"report: {compare(_parse('compare', Comparison, rest))}")
    except OSError as error:
        _exit(f"cannot write {_reason(error)}; choose --output PATH")


def _run_folder(argument: str, study: str = "*") -> Path:
    """Returns the folder; for "last", the newest run in runs/."""
    if argument != "last":
        return Path(argument)
    runs = [path.parent for path in Path("runs").glob(f"{study}/*/run.json")]
    if not runs:
        _exit(f"{Path('runs').absolute()} has no runs; give the folder of a run")
    return max(runs, key=lambda folder: read_description(folder)["began"])


def _parse(
    name: str,
    settings_type: Any,
    flags: Sequence[str],
    default: Any = None,
    description: str | None = None,
) -> Any:
    """Returns the settings given by the flags; a wrong flag is reported in one line."""
    advice = f"python -m experiments {name} --help lists the flags"
    messages = io.StringIO()
    help_wanted = "-h" in flags or "--help" in flags
    try:
        with contextlib.nullcontext() if help_wanted else contextlib.redirect_stderr(messages):
            settings, unknown = tyro.cli(
                settings_type,
                args=flags,
                prog=f"python -m experiments {name}",
                description=description,
                return_unknown_args=True,
                **({} if default is None else {"default": default}),
            )
    except ValueError as error:
        _exit(str(error))
    except SystemExit as stop:
        if not stop.code:
            raise
        _exit(_without_box(messages.getvalue()), advice=advice)
    if unknown:
        known = ["--" + field.replace("_", "-") for field in settings_type.__dataclass_fields__]
        _exit(f"unknown flag {unknown[0]!r}", unknown[0], known, advice)
    return settings


def _reason(error: OSError) -> str:
    """Returns the error's text, with the file if it is known."""
    if error.filename is None:
        return str(error.strerror or error)
    return f"{error.filename}: {error.strerror}"


def _without_box(message: str) -> str:
    """Returns the text of a message of tyro, which draws a box around it."""
    text = " ".join(message.translate(dict.fromkeys(map(ord, "╭╮╰╯─│┌┐└┘"), " ")).split())
    text = text.split(" For full helptext")[0]
    return re.sub(r"^Value error Error parsing \w+: ", "", text)


def _exit(problem: str, word: str = "", known: Sequence[str] = (), advice: str = "") -> NoReturn:
    """Prints the problem in one line and exits; suggests the known word that is most similar."""
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]}?" if near else ""
    print("; ".join(part for part in (problem, hint, advice) if part), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
