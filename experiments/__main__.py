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

RUN is a run's folder, or "last" for the study's newest one under runs/.

studies:"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a study, or lists them."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        for name in studies.NAMES:
            print(f"  {name:12s} {studies.summary(name)}")
        print("\npython -m experiments STUDY --help lists a study's flags.")
        return
    name, *flags = arguments
    known = (*studies.NAMES, "report", "compare")
    if name not in known:
        _stop(f"unknown study {name!r}", name, known, "python -m experiments lists them")
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
        _stop(str(error))


def _start(name: str, flags: Sequence[str]) -> None:
    study = studies.load(name)
    settings = _parse(name, study.Settings, flags, description=study.__doc__)
    _check(study, settings)
    try:
        run = Run.start(name, settings)
    except OSError as error:
        _stop(f"cannot write the run's folder: {_reason(error)}; choose --runs PATH")
    print(f"{name} at scale {settings.scale}, results in {run.folder}")
    _carry_out(study, run)


def _resume(name: str, flags: Sequence[str]) -> None:
    """Goes on with a run; flags beside `--resume` may change where and when it saves."""
    at = next(i for i, flag in enumerate(flags) if flag.split("=")[0] == "--resume")
    given, rest = flags[at].partition("=")[2], [*flags[:at], *flags[at + 1 :]]
    if not given and at < len(rest):
        given = rest.pop(at)
    if not given:
        _stop("--resume takes a run's folder, or last for the newest under runs/")
    folder = _run_folder(given, name)
    description = read_description(folder)
    if description["study"] != name:
        _stop(f"{folder} is a run of {description['study']}, not of {name}")
    study = studies.load(name)
    settings = _parse(name, study.Settings, rest, saved_settings(study.Settings, description))
    if description["status"] == "finished":
        print(f"{folder} is finished\nreport: {rewrite_report(folder)}")
        return
    try:
        run = Run.resume(folder, settings)
    except OSError as error:
        _stop(f"cannot write {_reason(error)}")
    print(f"{name} at scale {settings.scale}, resumed in {run.folder}")
    _carry_out(study, run)


def _check(study: Any, settings: Any) -> None:
    """Lets a study say what is wrong with its settings before there is a folder."""
    try:
        getattr(study, "check", lambda _: None)(settings)
    except (ValueError, ImportError) as error:
        _stop(str(error))


def _carry_out(study: Any, run: Run) -> None:
    """Runs the study to its end, or says how to go on."""
    advice = f"go on with: python -m experiments {run.description['study']} --resume {run.folder}"
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
        _stop("usage: python -m experiments report RUN")
    try:
        print(f"report: {rewrite_report(_run_folder(flags[0]))}")
    except OSError as error:
        _stop(f"cannot write {_reason(error)}")


def _compare(flags: Sequence[str]) -> None:
    runs = [_run_folder(flag) for flag in itertools.takewhile(_is_no_flag, flags)]
    if not runs:
        _stop("usage: python -m experiments compare RUN RUN ... [--metric NAME] [--target VALUE]")
    rest = ["--runs", *map(str, runs), *flags[len(runs) :]]
    try:
        print(f"report: {compare(_parse('compare', Comparison, rest))}")
    except OSError as error:
        _stop(f"cannot write {_reason(error)}; choose --output PATH")


def _is_no_flag(word: str) -> bool:
    return not word.startswith("-")


def _run_folder(given: str, study: str = "*") -> Path:
    """The folder; for "last", the newest run under runs/ that can be told."""
    if given != "last":
        return Path(given)
    runs = [path.parent for path in Path("runs").glob(f"{study}/*/run.json")]
    if not runs:
        _stop(f"there is no run under {Path('runs').absolute()}; name a run's folder")
    return max(runs, key=lambda folder: read_description(folder)["began"])


def _parse(
    name: str,
    settings_type: Any,
    flags: Sequence[str],
    default: Any = None,
    description: str | None = None,
) -> Any:
    """The study's settings from the flags; every mistake is one line."""
    advice = f"python -m experiments {name} --help lists the flags"
    said = io.StringIO()
    help_wanted = "-h" in flags or "--help" in flags
    try:
        with contextlib.nullcontext() if help_wanted else contextlib.redirect_stderr(said):
            settings, unknown = tyro.cli(
                settings_type,
                args=flags,
                prog=f"python -m experiments {name}",
                description=description,
                return_unknown_args=True,
                **({} if default is None else {"default": default}),
            )
    except ValueError as error:
        _stop(str(error))
    except SystemExit as stop:
        if not stop.code:
            raise
        _stop(_plain(said.getvalue()), advice=advice)
    if unknown:
        known = ["--" + field.replace("_", "-") for field in settings_type.__dataclass_fields__]
        _stop(f"unknown flag {unknown[0]!r}", unknown[0], known, advice)
    return settings


def _reason(error: OSError) -> str:
    """The file, if it is known, and what is wrong with it."""
    if error.filename is None:
        return str(error.strerror or error)
    return f"{error.filename}: {error.strerror}"


def _plain(boxed: str) -> str:
    """The words of a message that was drawn in a box."""
    words = " ".join(boxed.translate(dict.fromkeys(map(ord, "╭╮╰╯─│┌┐└┘"), " ")).split())
    words = words.split(" For full helptext")[0]
    return re.sub(r"^Value error Error parsing \w+: ", "", words)


def _stop(problem: str, given: str = "", known: Sequence[str] = (), advice: str = "") -> NoReturn:
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {near[0]}?" if near else ""
    print("; ".join(part for part in (problem, hint, advice) if part), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
