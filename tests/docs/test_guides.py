"""Every code block of the guides runs, and so does the study that they print."""

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from experiments import runner
from experiments.__main__ import main

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = [page for page in sorted(GUIDES.glob("*.md")) if page.name != "index.md"]
OWN_DATA = GUIDES / "own_data.md"  # its blocks share variables and files
BLOCKS = [
    pytest.param(code, id=f"{page.stem}-{index}")
    for page in PAGES
    if page != OWN_DATA
    for index, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block):
    exec(compile(block, "guide", "exec"), {"__name__": "guide"})  # noqa: S102


def test_the_commands_and_blocks_on_own_data_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = {"__name__": "guide"}
    for language, code in re.findall(r"```(\w+)\n(.*?)```", OWN_DATA.read_text(), re.DOTALL):
        folders = sorted(Path("runs/train").glob("*"))
        for name, folder in zip(("TIME", "OTHER"), folders, strict=False):
            code = code.replace(f"runs/train/{name}", str(folder))
        if language == "python":
            exec(compile(code, "guide", "exec"), variables)  # noqa: S102
        else:
            main(code.split()[3:])  # without python -m experiments
    assert [*Path("runs/compare").rglob("compare.html")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_guide_says_what_it_is_for_and_asserts_that_its_program_works(page):
    text = page.read_text()
    purpose = " ".join(text.partition("\n\n")[2].partition("\n\n")[0].split())
    assert 1 <= purpose.count(". ") + 1 <= 3, purpose
    assert re.search(r"^assert ", text, re.MULTILINE)


def test_the_guides_are_in_the_table():
    table = (GUIDES / "index.md").read_text()
    assert {f"{page.stem}.md" for page in PAGES} == {*re.findall(r"\]\((\w+\.md)\)", table)}


def test_the_study_of_the_guide_runs_and_resumes(tmp_path, monkeypatch):
    source = GUIDES / "my_study.py"
    assert len(source.read_text().splitlines()) <= 62
    spec = importlib.util.spec_from_file_location("my_study", source)
    study = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "my_study", study)
    spec.loader.exec_module(study)
    settings = study.Settings(runs=tmp_path)
    run = runner.Run.start("my_study", settings)
    results = study.run(settings, run)
    runner.write_report(run, results)
    run.close()
    plain, momentum = (float(loss) for _, loss in results.rows)
    assert momentum < plain / 10
    assert results.verdict.startswith("momentum wins: a median loss of ")
    assert [*results.values.values()] == pytest.approx([plain, momentum], rel=0.05)
    report = (run.folder / "report.html").read_text()
    assert "<th>loss</th>" in report
    assert '"verdict">momentum wins: a median loss of ' in report
    assert (run.folder / "losses.png").exists()
    computed, train = [], study.train

    def train_and_count(momentum, seed, steps):
        computed.append((momentum, seed))
        return train(momentum, seed, steps)

    monkeypatch.setattr(study, "train", train_and_count)
    for seeds, new in ((3, []), (4, [(0.0, 3), (0.9, 3)])):  # finished series are read
        more = dataclasses.replace(settings, seeds=seeds)
        resumed = runner.Run.resume(run.folder, more)
        again = study.run(more, resumed)
        assert computed == new
        assert (again.rows == results.rows) == (seeds == 3)
        resumed.close()
