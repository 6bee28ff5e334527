"""What a comparison says of runs that were written by hand is what can be worked out by hand."""

import json

import pytest

from experiments.runner import RunError
from experiments.runner import comparison as module
from experiments.runner.comparison import Comparison, compare
from tests.experiments.run_folders import records, write_run


def compared(tmp_path, *runs, **options):
    """The table's rows as dicts, and the page."""
    page = compare(Comparison(runs=runs, output=tmp_path / "out", **options))
    assert page.parent.parent == tmp_path / "out" / "compare"
    return json.loads((page.parent / "compare.json").read_text()), page.read_text()


@pytest.fixture
def slow(tmp_path):
    """Reaches 0.5 at its fourth record, and no less."""
    losses = [4.0, 2.0, 1.0, 0.5]
    return write_run(
        tmp_path / "slow", records(losses), flops_per_step={"train": 7.0}, rate=0.1, width=3
    )


@pytest.fixture
def fast(tmp_path):
    """Reaches 0.5 at its second record, in steps that cost more; gets worse at the end."""
    losses = [[3.0, 1.0], [0.5, 0.25], [0.125, 0.125], [0.5, 1.0]]
    log = records(losses, every=5, seconds=3.0)
    return write_run(
        tmp_path / "fast", log, flops_per_step={"train": 100.0}, rate=0.3, width=3, runs="there"
    )


def test_compute_to_target_is_that_of_the_first_record_that_reaches_it(tmp_path, slow, fast):
    (first, second), _ = compared(tmp_path, slow, fast)
    # The target is the worst line's best, 0.5; fast has a mean of 0.375 at step 10.
    assert first["target"] == second["target"] == 0.5
    assert first == {
        "line": "train/slow",
        "rate": 0.1,
        "steps": 40,
        "last validation_loss": 0.5,
        "best validation_loss": 0.5,
        "seconds": 8.0,
        "FLOPs": 280.0,
        "steps to 0.5": 40,
        "FLOPs to 0.5": 280.0,
        "seconds to 0.5": 8.0,
        "target": 0.5,
    }
    assert second["line"] == "train/fast"
    assert (second["last validation_loss"], second["best validation_loss"]) == (0.75, 0.125)
    reached = [second[f"{what} to 0.5"] for what in ("steps", "FLOPs", "seconds")]
    assert reached == [10, 1000.0, 6.0]


def test_the_settings_that_differ_have_a_column_and_no_others(tmp_path, slow, fast):
    (first, second), html = compared(tmp_path, slow, fast)
    assert (first["rate"], second["rate"]) == (0.1, 0.3)
    # The width is the same, and where a run is written makes no number.
    assert not {"width", "runs", "scale"} & {*first}
    assert "<th>rate</th>" in html
    assert "<th>width</th>" not in html


def test_a_setting_that_only_one_run_has_differs(tmp_path, slow):
    other = write_run(tmp_path / "other", records([1.0]), rate=0.1)
    (first, second), _ = compared(tmp_path, slow, other)
    assert (first["width"], second["width"]) == (3, None)
    assert "rate" not in first


def test_a_target_may_be_given_and_need_not_be_reached(tmp_path, slow, fast, capsys):
    (first, second), html = compared(tmp_path, slow, fast, target=0.2)
    assert [first[f"{what} to 0.2"] for what in ("steps", "FLOPs", "seconds")] == [None] * 3
    assert [second[f"{what} to 0.2"] for what in ("steps", "FLOPs", "seconds")] == [15, 1500, 9]
    row = next(line for line in capsys.readouterr().out.splitlines() if "train/slow" in line)
    assert row.split()[-3:] == ["-", "-", "-"]
    assert "<td>-</td>" in html


def test_the_metric_may_be_given(tmp_path, slow):
    ((row,), _) = compared(tmp_path, slow, metric="loss")
    assert (row["best loss"], row["steps to 9"]) == (9.0, 10)


def test_without_a_validation_loss_everywhere_the_loss_is_compared(tmp_path, slow):
    plain = write_run(tmp_path / "plain", records([1.0], metric="other"))
    (first, second), _ = compared(tmp_path, slow, plain)
    assert (first["best loss"], second["best loss"]) == (9.0, 9.0)


def test_a_metric_that_is_not_there_is_one_line_with_those_that_are(tmp_path, slow):
    with pytest.raises(RunError) as raised:
        compared(tmp_path, slow, metric="acuracy")
    said = str(raised.value)
    assert said == f"{slow} has no metric 'acuracy'; train has loss, seconds, validation_loss"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("metric", [None, "loss"])
def test_a_run_without_metrics_is_one_line(tmp_path, slow, metric):
    empty = write_run(tmp_path / "empty", [])
    for runs in ([empty], [slow, empty]):
        with pytest.raises(RunError, match=f"{empty} has no metrics yet"):
            compared(tmp_path, *runs, metric=metric)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_runs_is_one_line(tmp_path, slow):
    for name in ("out-of-nowhere", "slow/metrics.jsonl"):
        with pytest.raises(RunError, match="is no run's folder"):
            compared(tmp_path, slow, tmp_path / name)


def test_no_runs_at_all_is_one_line(tmp_path):
    with pytest.raises(RunError, match="folders of one or more runs"):
        compared(tmp_path)


def test_a_run_that_never_got_anywhere_has_gaps(tmp_path, slow):
    lost = write_run(tmp_path / "lost", records([None, [None, 1.0]]))
    (first, second), _ = compared(tmp_path, slow, lost)
    assert first["target"] == 0.5
    assert second["best validation_loss"] is None
    assert second["steps to 0.5"] is None
    assert second["FLOPs"] is None  # it has no bill, either
    assert second["steps"] == 20


def test_if_none_got_anywhere_there_is_no_target(tmp_path):
    lost = write_run(tmp_path / "lost", records([None, None]))
    ((row,), _) = compared(tmp_path, lost)
    assert row["target"] is None
    assert row["steps"] == 20


def test_every_line_of_a_study_has_its_own_row(tmp_path, slow):
    log = [*records([2.0, 1.0], line="adam"), *records([1.5], line="sgd", every=7)]
    several = write_run(
        tmp_path / "several", log, study="quickstart", flops_per_step={"adam": 3.0, "sgd": 2.0}
    )
    rows, _ = compared(tmp_path, slow, several)
    lines = {row["line"]: (row["steps"], row["FLOPs"]) for row in rows}
    assert lines == {
        "train/slow": (40, 280),
        "quickstart/several: adam": (20, 60),
        "quickstart/several: sgd": (7, 14),
    }


def test_a_run_that_is_given_twice_is_there_once(tmp_path, slow):
    assert len(compared(tmp_path, slow, slow)[0]) == 1


def test_runs_of_one_name_in_different_places_are_told_apart(tmp_path, slow, monkeypatch):
    twin = write_run(tmp_path / "elsewhere" / "slow", records([4.0, 3.0]), rate=0.1, width=3)
    seen = {}

    def draw(curves, *rest):
        seen.update(curves)
        return real(curves, *rest)

    real = module.draw
    monkeypatch.setattr(module, "draw", draw)
    rows, _ = compared(tmp_path, slow, twin)
    assert len({row["line"] for row in rows}) == 2
    assert len(seen) == 2


def test_curves_are_drawn_over_steps_arithmetic_and_seconds(tmp_path, slow, fast, monkeypatch):
    def draw(curves, axes, metric):
        assert (axes, metric) == (("steps", "FLOPs", "seconds"), "validation_loss")
        assert [*curves] == ["train/slow (rate 0.1)", "train/fast (rate 0.3)"]
        (steps, losses), (flops, _), (seconds, _) = [*curves.values()][1]
        assert steps.tolist() == [5, 10, 15, 20]
        assert flops.tolist() == [500, 1000, 1500, 2000]
        assert seconds.tolist() == [3, 6, 9, 12]
        assert losses.tolist() == [2.0, 0.375, 0.125, 0.75]
        return real(curves, axes, metric)

    real = module.draw
    monkeypatch.setattr(module, "draw", draw)
    _, html = compared(tmp_path, slow, fast)
    assert "data:image/png;base64,iVBOR" in html


def test_the_page_stands_alone_and_the_table_is_printed(tmp_path, slow, fast, capsys):
    _, html = compared(tmp_path, slow, fast)
    assert "http:" not in html
    assert "https:" not in html
    out = capsys.readouterr().out
    for line in ("train/slow", "train/fast"):
        assert line in out
        assert f"<td>{line}</td>" in html
    assert "To the target: the first record with validation_loss <= 0.5" in out
    assert html.count("<dd>python -m experiments train</dd>") == 2


def test_each_comparison_has_its_own_folder(tmp_path, slow):
    options = Comparison(runs=[slow], output=tmp_path / "out")
    assert compare(options) != compare(options)
