"""A comparison of runs written by hand has the numbers that were computed by hand."""

import json

import pytest

from experiments.runner import RunError
from experiments.runner import comparison as module
from experiments.runner.comparison import Comparison, compare
from tests.experiments.run_folders import records, write_run


def compared(tmp_path, *runs, **options):
    """Returns the rows of the table as dicts, and the page."""
    page = compare(Comparison(folders=runs, output=tmp_path / "out", **options))
    assert page.parent.parent == tmp_path / "out" / "compare"
    return json.loads((page.parent / "compare.json").read_text()), page.read_text()


@pytest.fixture
def slow(tmp_path):
    """A run that reaches 0.5 at its fourth record, its lowest loss."""
    losses = [4.0, 2.0, 1.0, 0.5]
    return write_run(
        tmp_path / "slow", records(losses), flops_per_step={"train": 7.0}, rate=0.1, width=3
    )


@pytest.fixture
def fast(tmp_path):
    """A run that reaches 0.5 at its second record with costlier steps, and ends higher."""
    losses = [[3.0, 1.0], [0.5, 0.25], [0.125, 0.125], [0.5, 1.0]]
    log = records(losses, every=5, seconds=3.0)
    return write_run(
        tmp_path / "fast", log, flops_per_step={"train": 100.0}, rate=0.3, width=3, runs="elsewhere"
    )


def test_cost_to_the_target_is_read_at_the_first_record_that_reaches_it(tmp_path, slow, fast):
    (first, second), _ = compared(tmp_path, slow, fast)
    # The target is 0.5, the best of the worst series; fast has a mean of 0.375 at step 10.
    assert first["target"] == second["target"] == 0.5
    assert first == {
        "series": "rate 0.1",
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
    assert second["series"] == "rate 0.3"
    assert (second["last validation_loss"], second["best validation_loss"]) == (0.75, 0.125)
    reached = [second[f"{what} to 0.5"] for what in ("steps", "FLOPs", "seconds")]
    assert reached == [10, 1000.0, 6.0]


def test_only_settings_that_differ_are_listed(tmp_path, slow, fast):
    (first, second), html = compared(tmp_path, slow, fast)
    assert (first["rate"], second["rate"]) == (0.1, 0.3)
    # The width is the same, and the folder does not affect results.
    assert not {"width", "runs", "scale"} & {*first}
    assert "rate 0.1</dd>" in html
    assert "width 3" not in html


def test_a_setting_of_only_one_run_is_listed(tmp_path, slow):
    other = write_run(tmp_path / "other", records([1.0]), rate=0.1)
    (first, second), _ = compared(tmp_path, slow, other)
    assert (first["width"], second["width"]) == (3, None)
    assert "rate" not in first


def test_a_given_target_need_not_be_reached(tmp_path, slow, fast, capsys):
    (first, second), html = compared(tmp_path, slow, fast, target=0.2)
    assert [first[f"{what} to 0.2"] for what in ("steps", "FLOPs", "seconds")] == [None] * 3
    assert [second[f"{what} to 0.2"] for what in ("steps", "FLOPs", "seconds")] == [15, 1500, 9]
    row = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("rate 0.1 ")
    )
    assert row.split()[-9:] == ["-", "of", "40", "-", "of", "280", "-", "of", "8"]
    assert "<td>- of 40</td>" in html


def test_the_metric_can_be_chosen(tmp_path, slow):
    ((row,), _) = compared(tmp_path, slow, metric="loss")
    assert (row["best loss"], row["steps to 9"]) == (9.0, 10)


def test_the_default_metric_is_the_loss_if_a_run_has_no_validation_loss(tmp_path, slow):
    plain = write_run(tmp_path / "plain", records([1.0], metric="other"))
    (first, second), _ = compared(tmp_path, slow, plain)
    assert (first["best loss"], second["best loss"]) == (9.0, 9.0)


def test_an_unknown_metric_is_reported_with_the_known_ones(tmp_path, slow):
    with pytest.raises(RunError) as raised:
        compared(tmp_path, slow, metric="acuracy")
    message = str(raised.value)
    assert message == f"{slow} has no metric 'acuracy'; train has loss, seconds, validation_loss"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("metric", [None, "loss"])
def test_a_run_without_metrics_is_reported(tmp_path, slow, metric):
    empty = write_run(tmp_path / "empty", [])
    for runs in ([empty], [slow, empty]):
        with pytest.raises(RunError, match=f"{empty} has no metrics yet"):
            compared(tmp_path, *runs, metric=metric)
    assert not (tmp_path / "out").exists()


def test_a_study_that_logs_nothing_cannot_be_compared(tmp_path):
    path = write_run(tmp_path / "silent", []) / "run.json"
    path.write_text(path.read_text().replace('"running"', '"finished"'))
    with pytest.raises(RunError, match="has no metrics, because its study logs no losses"):
        compared(tmp_path, path.parent)


def test_each_folder_must_be_a_runs_folder(tmp_path, slow):
    for name in ("out-of-nowhere", "slow/metrics.jsonl"):
        with pytest.raises(RunError, match="is not a run's folder"):
            compared(tmp_path, slow, tmp_path / name)


def test_at_least_one_run_is_needed(tmp_path):
    with pytest.raises(RunError, match="folders of one or more runs"):
        compared(tmp_path)


def test_a_diverged_run_has_empty_cells(tmp_path, slow):
    diverged = write_run(tmp_path / "diverged", records([None, [None, 1.0]]))
    (first, second), _ = compared(tmp_path, slow, diverged)
    assert first["target"] == 0.5
    assert second["best validation_loss"] is None
    assert second["steps to 0.5"] is None
    assert second["FLOPs"] is None  # it has no footprint
    assert second["steps"] == 20


def test_flops_of_a_population_count_the_agents_that_descend(tmp_path):
    agents = (16, 8, 4, 4)
    log = [
        {**record, "descended": count}
        for record, count in zip(records([4.0, 3.0, 2.0, 1.0]), agents, strict=True)
    ]
    flops = sum(agents) * 10 * 5.0  # 5 FLOPs a step of an agent
    run = write_run(tmp_path / "agents", log, flops_per_step={"train": flops / 40})
    ((row,), _) = compared(tmp_path, run, target=3.0)
    assert row["FLOPs"] == flops
    assert row["FLOPs to 3"] == (16 + 8) * 10 * 5


def test_there_is_no_default_target_if_all_runs_diverged(tmp_path):
    diverged = write_run(tmp_path / "diverged", records([None, None]))
    ((row,), _) = compared(tmp_path, diverged)
    assert row["target"] is None
    assert row["steps"] == 20


def test_each_series_of_a_run_has_its_own_row(tmp_path, slow):
    log = [*records([2.0, 1.0], series="adam"), *records([1.5], series="sgd", every=7)]
    several = write_run(
        tmp_path / "several", log, study="quickstart", flops_per_step={"adam": 3.0, "sgd": 2.0}
    )
    rows, _ = compared(tmp_path, slow, several)
    found = {row["series"]: (row["steps"], row["FLOPs"]) for row in rows}
    assert found == {
        "train": (40, 280),
        "quickstart: adam": (20, 60),
        "quickstart: sgd": (7, 14),
    }


def test_a_run_given_twice_appears_once(tmp_path, slow):
    assert len(compared(tmp_path, slow, slow)[0]) == 1


def test_runs_of_one_name_in_different_folders_are_distinguished(tmp_path, slow, monkeypatch):
    twin = write_run(tmp_path / "elsewhere" / "slow", records([4.0, 3.0]), rate=0.1, width=3)
    seen = {}

    def draw(curves, *rest):
        seen.update(curves)
        return real(curves, *rest)

    real = module.draw
    monkeypatch.setattr(module, "draw", draw)
    rows, _ = compared(tmp_path, slow, twin)
    assert len({row["series"] for row in rows}) == 2
    assert len(seen) == 2


def test_curves_are_drawn_over_steps_flops_and_seconds(tmp_path, slow, fast, monkeypatch):
    def draw(curves, axes, metric, target):
        assert (axes, metric) == (["steps", "FLOPs", "seconds"], "validation loss")
        assert target == 0.5
        assert [*curves] == ["rate 0.1", "rate 0.3"]
        (steps, losses), (flops, _), (seconds, _) = [*curves.values()][1]
        assert steps.tolist() == [5, 10, 15, 20]
        assert flops.tolist() == [500, 1000, 1500, 2000]
        assert seconds.tolist() == [3, 6, 9, 12]
        assert losses.tolist() == [2.0, 0.375, 0.125, 0.75]
        return real(curves, axes, metric, target)

    real = module.draw
    monkeypatch.setattr(module, "draw", draw)
    _, html = compared(tmp_path, slow, fast)
    assert "data:image/png;base64,iVBOR" in html


def test_the_page_is_self_contained_and_the_table_is_printed(tmp_path, slow, fast, capsys):
    _, html = compared(tmp_path, slow, fast)
    assert "http:" not in html
    assert "https:" not in html
    out = capsys.readouterr().out
    for name, folder in (("rate 0.1", slow), ("rate 0.3", fast)):
        assert f"\n{name}: {folder}\n" in out
        assert f"<td>{name}</td>" in html
        assert f"<dt>{name}</dt><dd>{folder}</dd>" in html
    for text in (out, html):
        assert (
            "Fewest to reach a validation loss of at most 0.5: 10 steps (rate 0.3), "
            "280 FLOPs (rate 0.1), 6 seconds (rate 0.3)."
        ) in text
    assert html.count("<dd>python -m experiments train; rate 0.") == 2


@pytest.mark.parametrize(("digest", "said"), [("a", False), ("b", True), (None, False)])
def test_runs_of_different_data_are_said_to_be(tmp_path, slow, fast, capsys, digest, said):
    for folder, data in ((slow, "a"), (fast, digest)):
        description = json.loads((folder / "run.json").read_text())
        description["pins"] = {"data": data} if data else {}
        (folder / "run.json").write_text(json.dumps(description))
    _, html = compared(tmp_path, slow, fast)
    for text in (capsys.readouterr().out, html):
        assert ("The runs have different data" in text) is said


def test_runs_that_tie_are_counted_in_the_verdict(tmp_path, slow):
    twin = write_run(
        tmp_path / "twin", records([0.5], every=40), flops_per_step={"train": 8.0}, rate=0.2
    )
    _, html = compared(tmp_path, slow, twin)
    assert "40 steps (rate 0.1 and 1 more), 280 FLOPs (rate 0.1), 2 seconds (rate 0.2)." in html


def test_a_run_that_is_first_by_all_costs_is_named_once(tmp_path, slow):
    better = write_run(tmp_path / "better", records([0.5]), flops_per_step={"train": 1.0}, rate=0.2)
    _, html = compared(tmp_path, slow, better)
    assert "at most 0.5: 10 steps, 10 FLOPs, 2 seconds (rate 0.2)." in html


def test_a_target_that_no_run_reaches_is_said_to_be_missed(tmp_path, slow):
    _, html = compared(tmp_path, slow, target=0.1)
    assert "The target, a validation loss of at most 0.1, is not reached." in html


def test_one_run_is_named_by_its_series(tmp_path):
    log = [*records([2.0, 1.0], series="adam"), *records([1.5], series="sgd")]
    rows, html = compared(tmp_path, write_run(tmp_path / "several", log))
    assert [row["series"] for row in rows] == ["adam", "sgd"]
    assert "<h1>One run by validation loss</h1>" in html


def test_costs_that_are_not_known_have_neither_panel_nor_column(tmp_path, monkeypatch):
    def draw(curves, axes, *rest):
        assert axes == ["steps", "seconds"]
        return real(curves, axes, *rest)

    real = module.draw
    monkeypatch.setattr(module, "draw", draw)
    _, html = compared(tmp_path, write_run(tmp_path / "unmetered", records([2.0, 1.0])))
    assert "<th>steps to 1</th><th>seconds to 1</th>" in html


def test_each_comparison_has_its_own_folder(tmp_path, slow):
    options = Comparison(folders=[slow], output=tmp_path / "out")
    assert compare(options) != compare(options)
