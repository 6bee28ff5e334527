"""Folder, metrics, progress, compiled stepping and report, whatever the study."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import runner
from experiments.runner.report import table


@pytest.fixture
def run(tmp_path):
    return runner.Run.start("study", runner.Settings(runs=tmp_path, seed=7))


def test_a_run_says_what_it_takes_to_repeat_it(run):
    saved = json.loads((run.folder / "run.json").read_text())
    assert saved["settings"]["seed"] == 7
    assert saved["environment"]["jax"] == jax.__version__
    assert saved["environment"]["device"].startswith("cpu")
    assert saved["environment"]["git_commit"]


def test_runs_that_start_in_one_second_do_not_share_a_folder(tmp_path):
    settings = runner.Settings(runs=tmp_path)
    folders = {runner.Run.start("study", settings).folder for _ in range(5)}
    assert len(folders) == 5


def test_metrics_are_json_lines_and_what_is_not_finite_is_null(run):
    run.log.append(step=1, loss=np.array([0.5, np.nan]), rate=jnp.float32(0.25))
    run.log.append(step=2, loss=float("inf"))
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": [0.5, None], "rate": 0.25},
        {"step": 2, "loss": None},
    ]


def test_a_program_compiles_once_for_all_its_runs():
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def advance(carry, index, constant):
        return carry + constant, {"seen": carry, "index": index}

    program = runner.Program(advance, jnp.zeros(()), steps_per_chunk=10, constants=(10.0,))
    for start in (0.0, 5.0):
        carry = jnp.asarray(start)
        for index in range(3):
            carry, metrics, seconds = program(carry, index)
            assert float(metrics["seen"]) == start + 10 * index
            assert int(metrics["index"]) == index
            assert seconds > 0


def test_a_program_donates_its_carry():
    program = runner.Program(lambda carry, _: (carry * 2, ()), jnp.ones(8), steps_per_chunk=1)
    start = jnp.ones(8)
    program(start, 0)
    assert start.is_deleted()


def test_progress_prints_plain_lines_where_there_is_no_terminal(capsys):
    with runner.Progress(total=4, every=0.0) as progress:
        progress.advance("line", steps=2, loss=0.125, steps_per_second=1234.5)
        progress.advance("line", steps=2, loss=0.1, steps_per_second=1000.0)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("line: 2/4 steps, loss 0.125, 1,234 steps/s, ")
    assert last == "line: 4/4 steps, loss 0.1, 1,000 steps/s, 0 s left"


def test_the_report_stands_alone_and_escapes_what_it_is_given(run):
    figure = Figure()
    figure.subplots().plot([1, 2])
    run.save_figure("curve", figure)
    results = runner.Results(
        "Title", ["line"], [["<script>alert(1)</script>"]], ["A note."], {"x": 1}
    )
    runner.write_report(run, results)
    html = (run.folder / "report.html").read_text()
    assert "data:image/png;base64,iVBOR" in html
    assert "<script>" not in html
    assert "http:" not in html
    assert "https:" not in html
    assert json.loads((run.folder / "run.json").read_text())["results"] == {"x": 1}


def test_tables_align_numbers_to_the_right():
    rows = [["a", "1"], ["bbb", "10"]]
    assert table(["k", "v"], rows).splitlines() == ["k     v", "-------", "a     1", "bbb  10"]
