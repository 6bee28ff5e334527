"""Each flag beside `--resume` is honored or refused, in every study; none is dropped."""

import dataclasses
import json
import typing

import pytest

from experiments import runner, studies
from experiments.__main__ import main
from experiments.runner import run as run_module
from experiments.runner.settings import changed_settings, flag
from tests.experiments.run_folders import write_run

IDLE = {"save_every", "keep"}  # a finished run has nothing left to do with them


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run_module, "environment", lambda _: {})


def changing_words(field, hint, value):
    """Returns words of the command line that change a setting, or none."""
    options = [*typing.get_args(hint)]
    if field.name in ("saved", "steps"):
        return ["/no/where"] if field.name == "saved" else ["--steps", "4000"]
    if bool in (hint, *options):
        return [flag(field.name)]
    if isinstance(value, tuple):
        return [flag(field.name), str(value[0]) if value else "other"]
    choices = [option for option in options if isinstance(option, str) and option != value]
    if choices:
        return [flag(field.name), choices[0]]
    if isinstance(value, (int, float)):
        return [flag(field.name), str(value + 1)]
    other = "7" if int in options else "0.5" if float in options else "other"
    return [flag(field.name), other]


@pytest.mark.parametrize("name", studies.NAMES)
def test_each_flag_of_a_finished_run_is_honored_or_refused(name, tmp_path, monkeypatch, capsys):
    study = studies.load(name)
    given = {"saved": write_run(tmp_path / "saved", [])} if name == "landscape" else {}
    settings = study.Settings(runs=tmp_path, **given)
    run = runner.Run.start(name, settings)
    run.mark("finished")
    run.close()
    path = run.folder / "run.json"
    before, seen, honored = path.read_bytes(), [], set()

    def replacement(settings, run):
        seen.append(settings)
        return runner.Results("Title", ["series"], [["cell"]], [], {})

    monkeypatch.setattr(study, "run", replacement)
    hints = typing.get_type_hints(study.Settings)
    fields = [field for field in dataclasses.fields(study.Settings) if field.name != "runs"]
    for field in fields:
        words = changing_words(field, hints[field.name], getattr(settings, field.name))
        path.write_bytes(before)
        seen.clear()
        code = 0
        try:
            main([name, "--resume", str(run.folder), *words])
        except SystemExit as stop:
            code = stop.code
        err = capsys.readouterr().err
        if code:
            assert code == 2, words
            assert err.count("\n") == 1, err
            assert path.read_bytes() == before
            assert not seen
        else:
            honored.add(field.name)
            assert changed_settings(settings, seen[0]) == [field.name]
            assert json.loads(path.read_text())["resumed"][-1]["changes"].keys() == {field.name}
    # Of these the test tries values that are refused: fewer names, less patience.
    fewer = {"tasks", "optimizers", "patience", "picture", "suites", "methods", "dimensions"}
    fewer |= {"changes", "learners", "functions", "streams"}
    fewer |= {"mesh"}  # a text without axes
    assert honored == {*study.Settings.may_change} - {"runs"} - IDLE - fewer
