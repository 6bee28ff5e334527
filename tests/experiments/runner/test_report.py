"""A report is one self-contained file with the footprint, for finished and unfinished runs."""

import html as markup
import json
import re

import pytest
from matplotlib.figure import Figure

from experiments import runner
from experiments.runner.report import rewrite_report, table
from tests.experiments.run_folders import records, write_run


@pytest.fixture
def run(tmp_path):
    run = runner.Run.start("study", runner.Settings(runs=tmp_path, seed=7))
    yield run
    run.close()


def results(**changes):
    known = {
        "title": "Title",
        "columns": ["series"],
        "rows": [["<script>alert(1)</script>"]],
        "notes": ["A note."],
        "values": {"x": 1},
    }
    return runner.Results(**{**known, **changes})


def facts(html):
    """Returns the names and values under each heading."""
    return {
        heading: {
            markup.unescape(name): markup.unescape(value)
            for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", part, re.DOTALL)
        }
        for heading, part in re.findall(r"<h2>(.*?)</h2>\n<dl.*?>(.*?)</dl>", html, re.DOTALL)
    }


def test_the_report_is_self_contained_and_escapes_html(run):
    figure = Figure()
    figure.subplots().plot([1, 2])
    run.save_figure("curve", figure)
    runner.write_report(run, results())
    html = (run.folder / "report.html").read_text()
    assert "data:image/png;base64,iVBOR" in html
    assert "<script>" not in html
    assert "http:" not in html
    assert "https:" not in html
    saved = json.loads((run.folder / "run.json").read_text())
    assert saved["results"] == {"x": 1}
    assert saved["status"] == "finished"


def test_a_fragment_is_included_unescaped(run):
    run.save_fragment("turning", "<div id='turning'>&amp;</div>")
    runner.write_report(run, results())
    assert "<div id='turning'>&amp;</div>" in (run.folder / "report.html").read_text()


def test_the_report_of_a_finished_run_has_settings_environment_and_footprint(run, capsys):
    runner.write_report(run, results(title="Some title"))
    html = (run.folder / "report.html").read_text()
    found = facts(html)
    assert [*found] == ["Settings", "Environment", "Footprint"]
    assert found["Settings"]["seed"] == "7"
    assert found["Environment"]["jax"] == run.description["environment"]["jax"]
    assert "(measured: clock)" in found["Footprint"]["wall time"]
    assert "not metered" in found["Footprint"]["left out"]
    assert "<h1>Some title</h1>" in html
    assert "study at scale small" in html
    assert ", finished" in html
    out = capsys.readouterr().out
    assert "\nA note.\n" in out
    assert "\nfootprint: wall time " in out
    assert "; CPU energy " in out


def test_rewriting_a_report_changes_nothing(run):
    runner.write_report(run, results())
    first = (run.folder / "report.html").read_text()
    assert rewrite_report(run.folder) == run.folder / "report.html"
    assert (run.folder / "report.html").read_text() == first


def test_numbers_in_cells_and_results_are_written(run):
    runner.write_report(
        run, results(rows=[[1, 2.5]], columns=["a", "b"], values={"x": float("nan")})
    )
    html = (run.folder / "report.html").read_text()
    assert "<td>1</td><td>2.5</td>" in html
    assert json.loads((run.folder / "run.json").read_text())["results"] == {"x": None}


def test_the_report_of_an_unfinished_run_has_its_last_losses(tmp_path):
    log = [*records([4.0, 2.0], metric="loss"), *records([8.0], series="b", metric="loss")]
    folder = write_run(tmp_path / "unfinished", log, flops_per_step={"train": 1.0})
    html = rewrite_report(folder).read_text()
    assert "train, not finished" in html
    assert "<td>train</td><td>20</td><td>2</td><td>2</td><td>4</td>" in html
    assert "<td>b</td><td>10</td><td>8</td><td>8</td><td>2</td>" in html
    assert f"resume it with: python -m experiments train --resume {folder}" in html
    assert ", running" in html
    assert html.count("data:image/png;base64,iVBOR") == 1
    assert facts(html)["Footprint"]["wall time"] == "9 s (measured: clock)"


def test_a_run_without_records_has_a_report(tmp_path):
    html = rewrite_report(write_run(tmp_path / "begun", [])).read_text()
    assert "This run has no results yet" in html
    assert "<img" not in html


def test_a_diverged_run_has_a_report(tmp_path):
    folder = write_run(tmp_path / "lost", records([None, None], metric="loss"))
    assert "<td>train</td><td>20</td><td>nan</td>" in rewrite_report(folder).read_text()


def test_a_report_never_mentions_carbon(run, tmp_path):
    runner.write_report(run, results())
    unfinished = write_run(tmp_path / "unfinished", records([1.0]), flops_per_step={"train": 1.0})
    for folder in (run.folder, unfinished):
        text = rewrite_report(folder).read_text()
        text = re.sub(r"base64,[^\"]*", "", text).replace("codecarbon", "")
        for word in ("CO2", "carbon footprint", "gCO", "emission"):
            assert word.lower() not in text.lower().replace("cloud carbon footprint", "")


def test_the_folder_must_be_a_runs_folder(tmp_path):
    with pytest.raises(runner.RunError, match="is not a run's folder"):
        rewrite_report(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_an_incomplete_description_is_reported_with_the_missing_fields(tmp_path):
    folder = write_run(tmp_path / "run", [])
    complete = json.loads((folder / "run.json").read_text())
    for name in complete:
        incomplete = {key: value for key, value in complete.items() if key != name}
        (folder / "run.json").write_text(json.dumps(incomplete))
        with pytest.raises(runner.RunError, match=name):
            rewrite_report(folder)


def test_tables_align_all_but_the_first_column_right():
    rows = [["a", "1"], ["bbb", "10"]]
    assert table(["k", "v"], rows).splitlines() == ["k     v", "-------", "a     1", "bbb  10"]
