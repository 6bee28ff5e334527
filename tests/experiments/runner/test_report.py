"""A report is one self-contained file with the footprint, for finished and unfinished runs."""

import dataclasses
import html as markup
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import runner
from experiments.runner.page import Table
from experiments.runner.report import ResultsError, rewrite_report, table
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
        for heading, part in re.findall(r"<h2>(.*?)</h2>(.*?)(?=<h2>|</body>)", html, re.DOTALL)
        if "<dt>" in part
    }


def folded(html):
    """Returns the names that are folded away."""
    parts = re.findall(r"<details>(.*?)</details>", html, re.DOTALL)
    return re.findall(r"<dt>(.*?)</dt>", "".join(parts))


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


def test_a_finished_run_gets_another_figure(run):
    runner.write_report(run, results())
    assert "data:image/png" not in (run.folder / "report.html").read_text()
    path = runner.add_figure(str(run.folder), "curve", Figure())
    html = path.read_text()
    assert html.count("data:image/png") == 1
    assert "<h1>Title</h1>" in html


def test_a_figure_is_added_only_to_a_run(tmp_path):
    with pytest.raises(runner.RunError, match="is not a run's folder"):
        runner.add_figure(tmp_path, "curve", Figure())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"title": None}, "title must be a text, got None"),
        ({"verdict": 0.5}, "verdict must be a text, got 0.5"),
        ({"notes": "A note."}, "notes must be a list of sentences, got 'A note.'"),
        ({"values": [1]}, r"values must be a mapping of numbers by name, got \[1\]"),
    ],
)
def test_results_of_a_wrong_type_are_refused(run, wrong, words):
    with pytest.raises(ResultsError, match=words):
        runner.write_report(run, results(**wrong))


def test_a_fragment_is_included_unescaped(run):
    run.save_fragment("turning", "<div id='turning'>&amp;</div>")
    runner.write_report(run, results())
    assert "<div id='turning'>&amp;</div>" in (run.folder / "report.html").read_text()


def test_the_report_of_a_finished_run_has_settings_environment_and_footprint(run, capsys):
    runner.write_report(run, results(title="Some title"))
    html = (run.folder / "report.html").read_text()
    found = facts(html)
    assert [*found] == ["Settings", "Footprint", "Environment"]
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


@dataclasses.dataclass(frozen=True)
class Settings(runner.Settings):
    """Settings with a value that is derived from another."""

    rate: float = 0.1
    steps: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.rate > 1:
            raise ValueError("--rate must be at most 1")
        object.__setattr__(self, "steps", self.steps or {"smoke": 1, "small": 9}[self.scale])


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, []),
        ({"rate": 0.2}, ["rate"]),
        ({"scale": "smoke"}, ["scale"]),
        ({"scale": "smoke", "steps": 9}, ["scale", "steps"]),
        ({"steps": 9}, []),
        ({"seed": 3, "keep": 4}, ["seed", "keep"]),
    ],
)
def test_settings_at_their_default_fold_away(tmp_path, changes, shown):
    run = runner.Run.start("study", Settings(runs=tmp_path, **changes))
    runner.write_report(run, results())
    run.close()
    html = (run.folder / "report.html").read_text()
    visible = {*facts(html)["Settings"]} - {*folded(html)}
    assert visible == {"command", "runs", *shown}
    assert {"rate", "steps", "tensorboard"} - {*shown} <= {*folded(html)}
    assert f"{len(dataclasses.fields(Settings)) - 1 - len(shown)} settings at their default" in html


def test_numbers_in_cells_have_four_digits(run):
    numbers = [1 / 3, np.float32(1 / 3), np.array(1 / 3, np.float32), jnp.array(1 / 3), np.array(7)]
    runner.write_report(run, results(columns=[*"abcdef"], rows=[[*numbers, "0.33333"]]))
    html = (run.folder / "report.html").read_text()
    cells = re.findall(r"<td>(.*?)</td>", html)
    assert cells == ["0.3333", "0.3333", "0.3333", "0.3333", "7", "0.33333"]


@dataclasses.dataclass(frozen=True)
class TunedSettings(runner.Settings):
    """Settings with a learning rate that stays None if it is found."""

    tuned: bool = False
    rate: float | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if not self.tuned and self.rate is None:
            object.__setattr__(self, "rate", 0.1)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"tuned": True, "names": ("a", "b")}, {"tuned": "True", "names": "a, b"}),
        ({"tuned": True, "rate": 0.2}, {"tuned": "True", "rate": "0.2"}),
        ({"tuned": True, "rate": 0.1}, {"tuned": "True"}),
        ({"rate": 0.2}, {"rate": "0.2"}),
        ({}, {}),
    ],
)
def test_a_default_of_none_that_is_kept_folds_away(tmp_path, changes, shown):
    run = runner.Run.start("study", TunedSettings(runs=tmp_path, **changes))
    runner.write_report(run, results())
    run.close()
    html = (run.folder / "report.html").read_text()
    settings = facts(html)["Settings"]
    visible = {name: value for name, value in settings.items() if name not in folded(html)}
    assert visible == {"command": visible["command"], "runs": str(tmp_path), **shown}
    if changes.get("tuned") and "rate" not in changes:
        assert settings["rate"] == "not set"


def test_defaults_are_the_ones_of_the_time_of_the_run(run):
    runner.write_report(run, results())
    path = run.folder / "run.json"
    description = json.loads(path.read_text())
    description["defaults"]["keep"] = 5
    path.write_text(json.dumps(description))
    html = rewrite_report(run.folder).read_text()
    assert "keep" not in folded(html)
    assert facts(html)["Settings"]["keep"] == "2"


def test_a_run_by_an_earlier_version_shows_all_settings(tmp_path):
    html = rewrite_report(write_run(tmp_path / "old", records([1.0]), rate=0.1)).read_text()
    assert facts(html)["Settings"] == {
        "command": "python -m experiments train",
        "scale": "smoke",
        "rate": "0.1",
    }
    assert "at their default" not in html


def test_the_parts_of_a_report_have_a_fixed_order(run):
    figure = Figure()
    figure.subplots().plot([1, 2])
    run.save_figure("curve", figure)
    run.save_fragment("turning", "<b>fragment</b>")
    more = Table(["name", "first", "last"], [["rate", "0.1", "0.2"]], "Learned")
    runner.write_report(run, results(verdict="It works.", tables=[more]))
    html = (run.folder / "report.html").read_text()
    parts = ["<h1>", "It works.", "<th>series", "Learned", "<td>0.2<", "<img", "<b>fragment"]
    parts += ["A note.", "<h2>Settings", "<h2>Footprint", "<h2>Environment"]
    places = [html.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize(("scale", "warns"), [("smoke", True), ("small", False)])
def test_a_smoke_run_says_first_that_it_is_too_short_to_judge(tmp_path, capsys, scale, warns):
    run = runner.Run.start("study", runner.Settings(runs=tmp_path, scale=scale))
    runner.write_report(run, results(verdict="It works."))
    run.close()
    out = capsys.readouterr().out
    html = (run.folder / "report.html").read_text()
    sentence = "A smoke run shows that the study works; it is too short to judge any method."
    assert (out.splitlines()[0] == sentence) is warns
    assert (f'</h1>\n<p class="warning">{sentence}' in html) is warns


def test_results_of_before_a_resume_are_marked(run):
    runner.write_report(run, results())
    run.mark("interrupted")
    html = rewrite_report(run.folder).read_text()
    warning = '</h1>\n<p class="warning">The run has not finished since it was last resumed'
    assert warning in html


def test_rewriting_a_report_changes_nothing(run):
    runner.write_report(run, results())
    first = (run.folder / "report.html").read_text()
    assert rewrite_report(run.folder) == run.folder / "report.html"
    assert (run.folder / "report.html").read_text() == first


def test_numbers_in_cells_and_results_are_written(run):
    runner.write_report(
        run, results(rows=[[1, 2.3456]], columns=["a", "b"], values={"x": float("nan")})
    )
    html = (run.folder / "report.html").read_text()
    assert "<td>1</td><td>2.346</td>" in html
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
