"""The command line: `python -m experiments STUDY [--flags]`."""

import contextlib
import difflib
import io
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import tyro

from experiments import studies
from experiments.runner import Run, write_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a study, or lists them."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m experiments STUDY [--flags]\n\nstudies:")
        for name in studies.NAMES:
            print(f"  {name:12s} {studies.summary(name)}")
        print("\npython -m experiments STUDY --help lists a study's flags.")
        return
    name, *flags = arguments
    if name not in studies.NAMES:
        _stop(f"unknown study {name!r}", name, studies.NAMES, "python -m experiments lists them")
    study = studies.load(name)
    settings = _parse(name, study, flags)
    try:
        run = Run.start(name, settings)
    except OSError as error:
        reason = error.strerror or error
        _stop(f"cannot write the run's folder {str(settings.runs)!r}: {reason}; choose --runs PATH")
    print(f"{name} at scale {settings.scale}, results in {run.folder}")
    try:
        results = study.run(settings, run)
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was logged until now is in {run.folder}", file=sys.stderr)
        sys.exit(130)
    write_report(run, results)
    print(f"report: {run.folder / 'report.html'}")


def _parse(name: str, study: Any, flags: list[str]) -> Any:
    """The study's settings from the flags; every mistake is one line."""
    advice = f"python -m experiments {name} --help lists the flags"
    said = io.StringIO()
    help_wanted = "-h" in flags or "--help" in flags
    try:
        with contextlib.nullcontext() if help_wanted else contextlib.redirect_stderr(said):
            settings, unknown = tyro.cli(
                study.Settings,
                args=flags,
                prog=f"python -m experiments {name}",
                description=study.__doc__,
                return_unknown_args=True,
            )
    except ValueError as error:
        _stop(str(error))
    except SystemExit as stop:
        if not stop.code:
            raise
        _stop(
            _plain(said.getvalue()), advice=f"python -m experiments {name} --help lists the flags"
        )
    if unknown:
        known = ["--" + field.replace("_", "-") for field in study.Settings.__dataclass_fields__]
        _stop(f"unknown flag {unknown[0]!r}", unknown[0], known, advice)
    return settings


def _plain(boxed: str) -> str:
    """The words of a message that was drawn in a box."""
    words = " ".join(boxed.translate(dict.fromkeys(map(ord, "╭╮╰╯─│┌┐└┘"), " ")).split())
    return words.split(" For full helptext")[0]


def _stop(problem: str, given: str = "", known: Sequence[str] = (), advice: str = "") -> NoReturn:
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {near[0]}?" if near else ""
    print("; ".join(part for part in (problem, hint, advice) if part), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
