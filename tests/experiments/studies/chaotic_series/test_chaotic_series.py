"""The study of chaotic series runs end to end, and its losses and ratios are what they claim."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import runner
from experiments.__main__ import main
from experiments.studies.chaotic_series.measures import best_fixed, instabilities, median_loss
from experiments.studies.chaotic_series.methods import METHODS
from experiments.studies.chaotic_series.report import rows_of
from experiments.studies.chaotic_series.settings import HALF_DECADES, SIZES, Settings
from experiments.studies.chaotic_series.streams import BAND, POINTS, STREAMS, WINDOW, windows_of
from experiments.studies.chaotic_series.training import Course, Forecaster, Key, train

SMOKE = Settings(scale="smoke")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    flags = ["--streams", "lorenz_drifting", "--methods", "tower_per_tensor", "self_tuning"]
    main(["chaotic_series", "--scale", "smoke", "--runs", str(runs), *flags])
    (folder,) = (runs / "chaotic_series").iterdir()
    return folder


def test_every_start_has_a_row_with_its_ratio_and_a_figure_is_drawn(folder):
    found = json.loads((folder / "run.json").read_text())
    assert found["status"] == "finished"
    rows = found["results"]["rows"]
    starts = [(*row["key"][1:], row["at_average"]) for row in rows]
    of_self_tuning = [
        ("self_tuning", start, at_average)
        for start in (None, 0.003, 0.03)
        for at_average in (False, True)
    ]
    assert starts == [
        *(("sgd", rate, False) for rate in SIZES["smoke"].rates),
        *(("tower_per_tensor", start, False) for start in (0.003, 0.03)),
        *of_self_tuning,
    ]
    grid = found["results"]["grid"]["lorenz_drifting"]
    for row in rows:
        least = min(losses[0] for losses in grid.values())
        assert row["half_ratio"] == pytest.approx(row["half"] / least)
        if row["key"][1] == "sgd":
            assert row["rate"] == pytest.approx(row["key"][2])
            assert [row["half"], row["all_steps"]] == grid[f"{row['key'][2]:g}"]
    # From 0.003 both ways to learn a learning rate raise it, and the loss falls faster.
    by_key = {tuple(row["key"][1:]): row for row in rows if not row["at_average"]}
    for method in ("tower_per_tensor", "self_tuning"):
        assert by_key[method, 0.003]["rate"] > 0.003
        assert by_key[method, 0.003]["half"] < by_key["sgd", 0.003]["half"]
    assert (folder / "1_losses.png").read_bytes()[:4] == b"\x89PNG"


def test_losses_are_of_a_batch_before_it_trains():
    """A plain loop of SGD, written anew, has the same losses."""
    with runner.Progress(total=10**6) as progress:
        course = train(SMOKE, Key("lorenz_drifting", "sgd", 0.3), "sgd", progress)
    assert course.losses.shape == (SMOKE.steps, SMOKE.seeds)
    windows = windows_of("lorenz_drifting", SMOKE.steps)
    key = jax.random.split(jax.random.key(0), SMOKE.seeds)[1]
    for_params, for_windows = jax.random.split(key)
    graph, params = nnx.split(Forecaster(SMOKE.width, nnx.Rngs(for_params)))

    @jax.jit
    def loss_and_grad(params, x, y):
        return jax.value_and_grad(lambda p: 0.5 * jnp.mean((nnx.merge(graph, p)(x) - y) ** 2))(
            params
        )

    for step in range(5):
        drawn = jax.random.randint(
            jax.random.fold_in(for_windows, step), (SMOKE.batch_size,), 0, BAND
        )
        starts = [int(windows.first[step] + each) for each in drawn]
        x = np.stack([windows.series[each : each + WINDOW] for each in starts])
        y = np.stack([windows.series[each + WINDOW] for each in starts])
        value, grads = loss_and_grad(params, x, y)
        np.testing.assert_allclose(course.losses[step, 1], value, rtol=1e-5)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, grads)
    np.testing.assert_array_equal(course.losses, course.at_average)


def test_windows_of_a_drifting_stream_move_from_the_first_to_the_last():
    for name, stream in STREAMS.items():
        windows = windows_of(name, 100)
        assert len(windows.series) == POINTS
        assert windows.first[0] == 0
        last = windows.first[-1] + windows.count - 1
        assert last + WINDOW == POINTS - 1  # the last target is the last point
        assert (windows.first == 0).all() != stream.drifts
        assert windows.count == (BAND if stream.drifts else POINTS - WINDOW)


def test_the_network_of_the_protocol_has_six_arrays_and_about_13000_parameters():
    params = nnx.state(Forecaster(SIZES["full"].width, nnx.Rngs(0)), nnx.Param)
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    assert len(sizes) == 6
    assert sum(sizes) == 3 * 64 * (1 + 64 + 1) + 65  # 12,737


def course(losses, rate=0.1):
    losses = np.asarray(losses, np.float32)
    return Course(losses, losses, np.full_like(losses, rate))


def test_instability_events_are_jumps_above_the_running_median_and_losses_that_are_not_finite():
    losses = np.ones((600, 2))
    losses[550, 0] = 11.0
    losses[551, 0] = 10.0
    losses[560:, 1] = np.nan
    assert instabilities(losses) == 1 + 40
    rising = np.concatenate([np.ones(500), np.full(400, 20.0)])[:, None]
    # After 250 large losses the median of the last 500 is between the two levels.
    assert instabilities(rising) == 250


def test_ratios_are_to_the_least_median_of_the_grid_for_each_part():
    late = [[4.0, 4.0, 4.0]] * 2 + [[1.0, 1.0, 9.0]] * 2  # best in the second half
    early = [[1.0, 1.0, 1.0]] * 2 + [[2.0, 2.0, 2.0]] * 2
    gone = [[0.1] * 3] * 2 + [[np.nan] * 3] * 2
    mine = [[3.0, 3.0, 3.0]] * 2 + [[1.5, 1.5, np.nan]] * 2
    courses = {
        Key("lorenz", "sgd", 0.003): course(late),
        Key("lorenz", "sgd", 0.03): course(early),
        Key("lorenz", "sgd", 1.0): course(gone),
        Key("lorenz", "tower", 0.03): course(mine, 0.5),
    }
    assert best_fixed(courses, "lorenz") == (Key("lorenz", "sgd", 0.003), 1.0)
    assert best_fixed(courses, "lorenz", "all") == (Key("lorenz", "sgd", 0.03), 1.5)
    assert median_loss(courses["lorenz", "sgd", 1.0].losses, "half") == np.inf
    rows = {row.key.start: row for row in rows_of(courses) if row.key.method == "tower"}
    row = rows[0.03]
    assert (row.half, row.half_ratio, row.all_steps, row.all_ratio) == (1.5, 1.5, 2.25, 1.5)
    assert row.events == 2
    assert row.rate == pytest.approx(0.5)
    assert {row.key.start for row in rows_of(courses)} == {0.003, 0.03}  # 1.0 is not shown


def test_the_scales_and_the_grid_of_the_protocol():
    full = Settings(scale="full")
    assert (full.steps, full.seeds, full.width, full.batch_size) == (12_000, 10, 64, 64)
    assert full.starts("sgd") == HALF_DECADES
    assert full.starts("tower") == (0.003, 0.03)
    assert set(full.methods) == set(METHODS)
    assert Settings(methods=("tower",)).method_names == ["sgd", "tower"]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="--steps must be at least 10, got 3"):
        Settings(steps=3)
    with pytest.raises(ValueError, match="--width must be in"):
        Settings(width=-1)
