"""Reports and comparisons fit a browser's window of 1,200 pixels, in letters of a readable size."""

import json
import shutil
import subprocess

import pytest
from matplotlib.figure import Figure

from experiments import runner
from experiments.runner.comparison import Comparison, compare
from experiments.runner.page import Table
from tests.experiments.run_folders import records, write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
SCRIPT = """
<script>
const all = [...document.body.querySelectorAll("*")].filter(each => each.innerText);
const seen = each => each.checkVisibility();
document.body.innerHTML = JSON.stringify({
  page: document.documentElement.scrollWidth,
  tables: [...document.querySelectorAll(".wide")].map(e => [e.scrollWidth, e.clientWidth]),
  pictures: [...document.images].map(each => [each.naturalWidth > 0, each.width]),
  font: Math.min(...all.map(each => parseFloat(getComputedStyle(each).fontSize))),
  facts: [...document.querySelectorAll("dt")].filter(seen).map(each => each.textContent),
  top: document.querySelector(".warning").getBoundingClientRect().bottom,
});
</script>
"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")


def measured(page, folder):
    """Returns the measurements of a page in a window of 1,200 by 900 pixels."""
    copy = folder / "measured.html"
    copy.write_text(page.read_text().replace("</body>", f"{SCRIPT}</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    flags += ["--window-size=1200,900", f"--user-data-dir={folder / 'browser'}"]
    dom = subprocess.run(  # noqa: S603
        [BROWSER, *flags, copy.as_uri()], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    start = dom.index("<body>") + len("<body>")
    return json.loads(dom[start : dom.index("</body>")])


def test_a_report_with_a_wide_table_and_long_words_fits(tmp_path):
    run = runner.Run.start("study", runner.Settings(runs=tmp_path / "runs", scale="smoke"))
    for name, width in (("small", 6), ("wide", 20)):
        run.save_figure(name, Figure(figsize=(width, 4)))
    columns = ["some task", *(f"name {i}" for i in range(19))]
    results = runner.Results(
        "A title " * 20,
        columns,
        [["drifting regression", *["10.7284"] * 19]],
        ["A note. " * 99, f"/{'long' * 99}"],
        {},
        "A verdict. " * 20,
        [Table(["a", "b"], [[f"/{'long' * 99}", "wide " * 99]], "More")],
    )
    runner.write_report(run, results)
    run.close()
    found = measured(run.folder / "report.html", tmp_path)
    assert found["page"] <= 1200
    table, wider = found["tables"]
    assert table[0] <= table[1]  # nothing is cut off
    assert wider[0] > wider[1]  # it scrolls by itself
    assert found["pictures"] == [[True, 6 * 96], [True, 1152]]
    assert found["font"] >= 11
    assert [name for name in found["facts"] if name in ("command", "scale", "seed", "jax")] == [
        "command",
        "scale",
    ]
    assert found["top"] < 300


def test_a_comparison_of_twelve_runs_fits(tmp_path):
    runs = [
        write_run(
            tmp_path / str(i),
            records([4.0, 2.0, 1.0 + i]),
            flops_per_step={"train": 1e6 + i},
            optimizer="abc"[i % 3],
            learning_rate=10.0 ** -(i // 3),
            data=f"/a/long/folder/{'name' * i}.csv",
        )
        for i in range(12)
    ]
    page = compare(Comparison(folders=tuple(runs), output=tmp_path))
    found = measured(page, tmp_path)
    assert found["page"] <= 1200
    ((needed, given),) = found["tables"]
    assert needed <= given
    assert found["pictures"] == [[True, 1152]]
    assert found["font"] >= 12
