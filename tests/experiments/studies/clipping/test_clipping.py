"""The clipping study runs end to end; clipping helps under heavy tails and biases under skew."""

import json

import pytest

from experiments.__main__ import main
from experiments.studies.clipping.noisy import NOISES, clippings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    main(["clipping", "--scale", "smoke", "--runs", str(runs)])
    (folder,) = (runs / "clipping").iterdir()
    return folder


def description(folder):
    return json.loads((folder / "run.json").read_text())


def test_the_table_has_every_method_under_every_noise_and_the_figure_is_a_png_file(folder):
    rows = description(folder)["table"]["rows"]
    assert [tuple(row[:2]) for row in rows] == [
        (noise.name, name) for noise in NOISES for name in clippings(1.5)
    ]
    assert (folder / "clipping.png").read_bytes().startswith(b"\x89PNG")


def test_clipping_helps_under_heavy_tails_and_a_constant_threshold_fails_under_skew(folder):
    results = description(folder)["results"]
    heavy, skewed = results["symmetric p = 1"], results["skewed p = 1.5"]
    assert heavy["clip"]["median"][-1] < 0.1 * heavy["none"]["median"][-1]
    assert heavy["clip"]["exponent"][0] < -0.7
    assert skewed["clip"]["median"][-1] > skewed["none"]["median"][-1]
    assert skewed["clip"]["exponent"][0] > -0.2
    for each in results["cosh"][1:]:
        assert each["clipped"] < each["constant"]
