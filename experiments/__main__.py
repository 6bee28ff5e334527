"""The command line: `python -m experiments STUDY [--flags]`."""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import tyro

from experiments import studies
from experiments.data import DataError
from experiments.flag_hints import suggest
from experiments.runner import (
    CheckpointError,
    Interrupted,
    Run,
    RunError,
    SeriesError,
    TrajectoryError,
    processes,
    read_description,
    saved_settings,
    write_report,
)
from experiments.runner.comparison import Comparison, compare
from experiments.runner.report import ResultsError, rewrite_report
from experiments.runner.run_folder import newest_run, resume_command
from experiments.runner.settings import changed_settings, flag
from experiments.runner.study_code import study_change
from jaxdescent.extras import MissingPackageError

_USAGE = """\
usage: python -m experiments STUDY [--flags]
       python -m experiments STUDY --resume RUN [--flags]
       python -m experiments STUDY --coordinator HOST:PORT --processes N --process I [--flags]
       python -m experiments landscape RUN
       python -m experiments report RUN [--runs DIR]
       python -m experiments compare RUN RUN ... [--flags]

STUDY is the name of a study below, or a Python file with a study, such as path/to/my_study.py. RUN
is the folder of a run, or "last" for the newest run of the study in runs/, or in the folder that
--runs names. With --coordinator, N processes on one or more hosts run a study together; each is
started with its own I, from 0, and process 0 runs on HOST. Under SLURM, Kubernetes or Open MPI,
--coordinator auto is enough.

studies:"""
_REFUSALS = (
    RunError,
    SeriesError,
    ResultsError,
    CheckpointError,
    TrajectoryError,
    DataError,
    MissingPackageError,
    processes.ProcessError,
)


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
    try:
        if name == "compare":
            _compare(flags)
        elif name == "report":
            _report(flags)
        else:
            _run_study(name, flags)
        sys.stdout.flush()
    except BrokenPipeError:  # the program that reads the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)  # as a shell reports SIGPIPE
    except _REFUSALS as error:
        _exit(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def _run_study(name: str, flags: Sequence[str]) -> None:
    coordinator, rest = _take("--coordinator", flags, "HOST:PORT, or by auto")
    count, rest = _take("--processes", rest, "the number of processes")
    number, rest = _take("--process", rest, "the number of this process, from 0")
    if not coordinator:
        if count or number:
            _exit("--coordinator must be given with --processes and --process")
        _start_or_resume(name, rest)
        return
    with processes.joined(coordinator, _number(count), _number(number)):
        if not processes.is_first():
            processes.silence()
        _start_or_resume(name, rest)


def _start_or_resume(name: str, flags: Sequence[str]) -> None:
    if _has(flags, "--resume") and not _wants_help(flags):
        _resume(_load(name), flags)
    else:
        _start(_load(name), flags)


def _number(text: str) -> int | None:
    """Returns the integer in the value of a flag; None if there is none, -1 if it is no integer."""
    return (int(text) if text.isdecimal() else -1) if text else None


class _Study(NamedTuple):
    """A study: its name, its module, and its file unless it is one of `experiments.studies`."""

    name: str
    module: Any
    file: Path | None = None

    @property
    def word(self) -> str:
        """The word of the command line that stands for the study."""
        return shlex.quote(str(self.file or self.name))


def _load(word: str) -> _Study:
    """Returns the study of a word of the command line, or exits with one line."""
    path = Path(word)
    if path.suffix or "/" in word:
        try:
            return _Study(path.stem, studies.load_file(path), path)
        except studies.StudyError as error:
            shown = error.__cause__ is not None
            _exit(str(error), f"{shlex.join(['python', word])} shows where" if shown else "")
    if word not in studies.NAMES:
        near = difflib.get_close_matches(word, (*studies.NAMES, *studies.COMMANDS), n=1)
        near = [f"{word}.py"] if path.with_suffix(".py").is_file() else near
        hint = f"did you mean {near[0]}?" if near else ""
        _exit(f"unknown study {word!r}", hint, "python -m experiments lists the studies")
    try:
        return _Study(word, studies.load(word))
    except studies.StudyError as error:
        _exit(str(error), f'python -c "import experiments.studies.{word}" shows where')


def _start(study: _Study, flags: Sequence[str]) -> None:
    settings = _parse(study.word, study.module.Settings, flags, description=_description(study))
    _check(study, settings)
    try:
        run = Run.start(study.name, settings, study.file)
    except OSError as error:
        _exit(f"cannot write the folder of the run: {_reason(error)}; choose --runs PATH")
    print(f"{study.name} at scale {settings.scale}, results in {run.folder}")
    _run(study, run)


def _resume(study: _Study, flags: Sequence[str]) -> None:
    """Resumes a run. Other flags change its settings, or are refused."""
    argument, rest = _take("--resume", flags, "the folder of a run, or by last for the newest")
    runs, rest = _take("--runs", rest, "a folder of runs")
    folder = newest_run(Path(runs or "runs"), study.name) if argument == "last" else Path(argument)
    description = read_description(folder)
    if description["study"] != study.name:
        _exit(f"{folder} is a run of {description['study']}, not of {study.name}")
    if runs and Path(runs).resolve() not in folder.resolve().parents:
        _exit(f"--runs must be a folder that {folder} is in, or be left out, got {runs}")
    saved = saved_settings(study.module.Settings, description)
    settings = _parse(study.word, study.module.Settings, rest, saved)
    changed = changed_settings(saved, settings)
    if description["status"] == "finished" and not {*changed} - {"save_every", "keep"}:
        if changed:
            _exit(f"{flag(changed[0])} changes nothing, because {folder} is finished; leave it out")
        if change := study_change(folder, study.file, description["environment"]):
            print(change, file=sys.stderr)
        print(f"{folder} is finished\nreport: {_rewrite(folder)}")
        return
    _check(study, settings, "check_devices")
    try:
        run = Run.resume(folder, settings, study.file)
    except OSError as error:
        _exit(f"cannot write {_reason(error)}")
    print(f"{study.name} at scale {settings.scale}, resumed in {run.folder}")
    _run(study, run)


def _check(study: _Study, settings: Any, name: str = "check") -> None:
    """Calls the study's own check of its settings, before the folder is created or opened.

    A run that is resumed is given `check_devices`: it need not find again what it was started from.
    """
    try:
        getattr(study.module, name, lambda _: None)(settings)
    except (ValueError, ImportError) as error:
        _exit(str(error))


def _run(study: _Study, run: Run) -> None:
    """Runs the study and writes its report; if it stops early, says how to resume it."""
    advice = f"resume with: {resume_command(run.description, run.folder)}"
    try:
        with run.interruption, _optimizations(run.settings.scale):
            results = study.module.run(run.settings, run)
        write_report(run, results)
    except (Interrupted, KeyboardInterrupt) as stop:
        with contextlib.suppress(OSError):
            run.mark("interrupted")
        print(f"\ninterrupted; {advice}", file=sys.stderr)
        sys.exit(128 + stop.signal if isinstance(stop, Interrupted) else 130)
    except BrokenPipeError:
        if run.description["status"] != "finished":
            with contextlib.suppress(OSError):
                run.mark("interrupted")
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            run.mark("failed")
        print(f"cannot write {_reason(error)}; {advice}", file=sys.stderr)
        sys.exit(1)
    except _REFUSALS:
        with contextlib.suppress(OSError):
            run.revert()
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            run.mark("failed")
        raise
    finally:
        run.close()
    print(f"report: {run.folder / 'report.html'}")


@contextlib.contextmanager
def _optimizations(scale: str) -> Iterator[None]:
    """Disables most optimizations of XLA at scale smoke, whose time is compilation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", before or scale == "smoke")
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def _report(flags: Sequence[str]) -> None:
    usage = "usage: python -m experiments report RUN [--runs DIR]"
    if _wants_help(flags):
        print(f"{usage}\n\nWrites the report of a run again, whether the run is finished or not.")
        return
    runs, rest = _take("--runs", flags, "a folder of runs")
    if len(rest) != 1 or rest[0].startswith("-"):
        _exit(usage)
    folder = _named_run(rest[0], Path(runs or "runs"))
    if runs and rest[0] != "last":
        _exit(f"--runs must be left out, because {folder} is not last")
    print(f"report: {_rewrite(folder)}")


def _rewrite(folder: Path) -> Path:
    try:
        return rewrite_report(folder)
    except OSError as error:
        _exit(f"cannot write {_reason(error)}")


def _compare(flags: Sequence[str]) -> None:
    comparison = _parse("compare", Comparison, flags, description=Comparison.__doc__)
    if not comparison.folders:
        _exit("usage: python -m experiments compare RUN RUN ... [--metric NAME] [--target VALUE]")
    folders = tuple(_named_run(str(folder), comparison.runs) for folder in comparison.folders)
    try:
        page = compare(dataclasses.replace(comparison, folders=folders))
    except OSError as error:
        _exit(f"cannot write {_reason(error)}; choose --output PATH")
    print(f"report: {page}")


def _named_run(argument: str, runs: Path) -> Path:
    """Returns the folder; for "last", the newest run of any study."""
    return newest_run(runs) if argument == "last" else Path(argument)


def _description(study: _Study) -> str:
    """Returns the study's docstring, with what a resumed run may change."""
    names = [flag(name) for name in study.module.Settings.may_change if name != "runs"]
    return (
        f"{study.module.__doc__ or study.name}\n\n--resume RUN continues a run. RUN is its folder, "
        "or last for the newest in --runs. It keeps its settings; only these flags may change: "
        f"{', '.join(names)}."
    )


def _has(flags: Sequence[str], name: str) -> bool:
    return any(word.split("=")[0] == name for word in flags)


def _wants_help(flags: Sequence[str]) -> bool:
    return "-h" in flags or "--help" in flags


def _take(name: str, flags: Sequence[str], value: str) -> tuple[str, list[str]]:
    """Returns the value of a flag, which is "" without the flag, and the other flags."""
    places = [place for place, word in enumerate(flags) if word.split("=")[0] == name]
    if not places:
        return "", [*flags]
    if len(places) > 1:
        _exit(f"{name} must be given once")
    (place,) = places
    _, equals, argument = flags[place].partition("=")
    rest = [*flags[place + 1 :]]
    if not equals and rest and not rest[0].startswith("-"):
        argument, *rest = rest
    if not argument:
        _exit(f"{name} must be followed by {value}")
    return argument, [*flags[:place], *rest]


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
    help_wanted = _wants_help(flags)
    try:
        with contextlib.nullcontext() if help_wanted else contextlib.redirect_stderr(messages):
            settings, unknown = tyro.cli(
                settings_type,
                args=["--help"] if help_wanted else flags,
                prog=f"python -m experiments {name}",
                description=description,
                return_unknown_args=True,
                config=(tyro.conf.DisallowNone,),
                **({} if default is None else {"default": default}),
            )
    except ValueError as error:
        _exit(str(error))
    except SystemExit as stop:
        if not stop.code:
            raise
        _exit(_without_box(messages.getvalue()), advice)
    if unknown:
        word = unknown[0].split("=")[0]
        known = [field.name for field in dataclasses.fields(settings_type)]
        if not word.startswith("-"):
            _exit(
                f"unknown argument {word!r}",
                "a value follows its flag, and a flag that is on or off has no value",
                advice,
            )
        near = suggest(word, [*known, "resume"])
        _exit(f"unknown flag {word!r}", f"did you mean {near}?" if near else "", advice)
    return settings


def _reason(error: OSError) -> str:
    """Returns the error's text, with the file if it is known."""
    if error.filename is None:
        return str(error.strerror or error)
    return f"{error.filename}: {error.strerror}"


def _without_box(message: str) -> str:
    """Returns the text of a message of tyro, which draws a box around it."""
    text = message.translate(dict.fromkeys(map(ord, "╭╮╰╯─│┌┐└┘•"), " "))
    text = re.sub(r"^[+| ]+|[+| ]+$|-{4,}", " ", text, flags=re.MULTILINE)  # a box in ASCII
    text = " ".join(text.split()).split(" For full helptext")[0].split(" Argument helptext")[0]
    for pattern, replacement in _REWORDED:
        text = re.sub(pattern, replacement, text)
    return text


def _wrong_choice(found: re.Match[str]) -> str:
    value, name, choices = found.groups()
    allowed = choices.split(", ")
    if "'None'" in allowed:  # they have no order then
        allowed = sorted({*allowed} - {"'None'"})
    return f"{name} must be one of {', '.join(allowed)}, got '{value}'"


_REWORDED = (
    (r"^(Value error|Missing argument|Invalid choice) ", ""),
    (r"^Error parsing Settings: ", ""),
    (
        r"^Error parsing (\S+): no type matching (\w+) could .* from \['(.*?)'\].*",
        r"\1 must be \2, got '\3'",
    ),
    (r"^Error parsing (\S+): invalid literal for int.*: '(.*)'$", r"\1 must be INT, got '\2'"),
    (
        r"^Error parsing (\S+): could not convert string to float: '(.*)'$",
        r"\1 must be FLOAT, got '\2'",
    ),
    (
        r"^invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*?),?\)\.$",
        _wrong_choice,
    ),
    (
        r"^Error parsing (\S+): no type matching \{.*\] does not match choices \((.*)\)$",
        r"\1 must be one of \2, got 'None'",
    ),
    (
        r"^Missing value for argument '(.*)'\. Expected 1 values\.$",
        r"\1 must be followed by a value",
    ),
)


def _exit(*parts: str) -> NoReturn:
    """Prints the parts that are not empty in one line, and exits."""
    print("; ".join(filter(None, parts)), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
