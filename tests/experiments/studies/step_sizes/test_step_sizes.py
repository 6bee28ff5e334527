"""The study of step sizes runs from end to end, and its sentences are exact."""

import json
import math

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.studies import step_sizes
from experiments.studies.step_sizes.methods import Descent

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["step_sizes", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "step_sizes").iterdir()
    return folder


def test_every_method_is_in_the_table(folder):
    description = json.loads((folder / "run.json").read_text())
    head, (row, medians) = description["table"]["columns"], description["table"]["rows"]
    assert head[0] == "problem"
    assert head[2:-3] == [*step_sizes.methods(), "L-BFGS"]
    assert row[0] == "Huber, diabetes"
    assert medians[0] == "1/L over it, median"
    found = description["results"]["Huber, diabetes"]
    ours, silver = found[step_sizes.OURS], found["silver"]
    assert ours["gradients"] <= silver["gradients"] < 3000
    assert ours["products"] > 0
    assert row[-1] == f"{3000 / ours['gradients']:.1f}"


def test_promises_and_misses_are_in_the_notes(folder):
    notes = "\n".join(json.loads((folder / "run.json").read_text())["notes"])
    assert "its constant is 0.21142" in notes
    assert "worse than constant ones: silver 4; anytime none; OBS-F none." in notes
    assert "Not there after 3,000 gradients, and counted so: 1/L on Huber, diabetes" in notes


def test_the_pictures_are_pngs(folder):
    for name in ("step_sizes", "worst_cases"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_computes_nothing_again_and_says_the_same(folder, monkeypatch):
    path = folder / "run.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "status": "interrupted"}))
    monkeypatch.setattr(step_sizes.descent, "descend", lambda *_: pytest.fail("computed again"))
    main(["step_sizes", "--resume", str(folder)])
    after = json.loads(path.read_text())
    assert (after["table"], after["notes"]) == (before["table"], before["notes"])


def row(name, **gradients):
    outcomes = {
        method.replace("_", " "): Descent(each, 3, 1, np.ones(2))
        for method, each in gradients.items()
    }
    outcomes = {
        {"ours": step_sizes.OURS, "gd": "1/L", "same": "1/L, measured"}.get(key, key): value
        for key, value in outcomes.items()
    }
    rivals = ("Nesterov", "Nesterov, restarted", "OGM", "L-BFGS")
    outcomes |= {rival: Descent(50.0, 0, 0, np.ones(2)) for rival in rivals}
    return step_sizes.Row(name, 2, outcomes, budget=1000)


def test_losers_are_named():
    rows = [
        row("easy", gd=100.0, same=120.0, ours=40.0),
        row("hard", gd=math.inf, same=600.0, ours=100.0),
        row("middling", gd=600.0, same=300.0, ours=100.0),
    ]
    main_, same, nesterov, *_, missed = step_sizes.verdicts(rows)
    assert "take 6.0 times fewer gradients" in main_
    assert main_.endswith("5 times or more on 2; fewer on easy (2.5).")
    assert "3.0 times as many gradients as silver steps (median; the least 3.0)" in same
    assert "fewer gradients on 1 of 3: easy. Nesterov takes 0.5 times theirs" in nesterov
    assert missed == "Not there after 1,000 gradients, and counted so: 1/L on hard."


def test_a_miss_of_ours_is_a_loss():
    lost = row("lost", gd=100.0, same=100.0, ours=math.inf)
    assert lost.times_fewer() == 0.1
    assert "fewer on lost (0.1)" in step_sizes.verdicts([lost])[0]


def test_losing_horizons_are_named():
    n = np.arange(1, 5)
    worst = {
        "exact": True,
        "silver": np.array([0.13, 0.09, 0.047, 0.086]),
        "anytime": 1 / (4 * n + 2) - 1e-3,
        "OBS-F": 1 / (4 * n + 2) - 1e-2,
        "silver's sums": n * 1.0,
        "OBS-F's sums": n * 1.0,
        "OBS-F's gap at 1023": 1e-4,
        "strongly convex": np.nan,
    }
    away, losing, *_ = step_sizes.promises(worst)
    assert "OBS-F is 1.0e-02 L D^2 away at most" in away
    assert losing.endswith("silver 4; anytime none; OBS-F none.")


@pytest.mark.parametrize("margin", ["0.9", "11", "nan"])
def test_a_margin_out_of_range_is_named(margin, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["step_sizes", "--margin", margin, "--runs", str(tmp_path)])
    assert "--margin must be in [1, 10]" in " ".join(capsys.readouterr().err.split())
