"""Figures show their inputs and report clipped points."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection

import jaxdescent as jd
from jaxdescent.landscape import color_levels, figures

X, Y = np.linspace(-2, 2, 9), np.linspace(-1, 1, 5)


def plane(values):
    values = np.broadcast_to(np.asarray(values, float), (5, 9))
    lacking = np.sum(~np.isfinite(values))
    return jd.landscape.Plane(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(values), lacking)


BOWL = plane(1 + X**2 + Y[:, None] ** 2)


def drawn(figure):
    """Renders a figure, which is when matplotlib reports mistakes."""
    figure.canvas.draw()
    return figure


def caption(figure):
    return figure.get_supxlabel()


def test_levels_of_a_quadratic_are_even_in_its_radius():
    shown = color_levels.levels(BOWL.values)
    assert not shown.logarithmic
    assert (shown.levels[0], shown.levels[-1]) == (1, 6)
    np.testing.assert_allclose(np.sqrt(shown.levels - 1), np.linspace(0, 5**0.5, 17), atol=1e-12)
    assert shown.caption == ""


def test_levels_are_logarithmic_only_for_positive_values_over_many_decades():
    decades = color_levels.levels(10.0 ** np.arange(-3, 3))
    assert decades.logarithmic
    np.testing.assert_allclose(np.diff(np.log10(decades.levels)), 5 / 16)
    assert not color_levels.levels([1.0, 99.0, 50.0]).logarithmic
    assert not color_levels.levels([-1.0, 1e5, 1e5]).logarithmic


def test_outliers_are_clipped_and_counted():
    values = np.array([*np.linspace(0, 1, 91), *[1e9] * 8, np.inf, np.nan])
    shown = color_levels.levels(values)
    assert shown.levels[-1] <= 1
    assert (shown.clipped, shown.not_finite) == (
        np.sum(np.isfinite(values) & (values > shown.levels[-1])),
        2,
    )
    assert f"{shown.clipped} points above" in shown.caption
    assert "2 not finite, hatched" in shown.caption
    clipped = shown.clip(values)
    assert np.nanmax(clipped) == shown.levels[-1]
    assert np.isnan(clipped[-2:]).all()


def test_a_constant_loss_is_drawn():
    shown = color_levels.levels(np.full((3, 3), 5.0))
    assert shown.levels[0] == 5
    assert np.all(np.diff(shown.levels) > 0)
    drawn(jd.landscape.contour_figure(plane(5.0)))


@pytest.mark.parametrize(
    ("values", "ceiling", "words"),
    [
        ([np.nan, np.inf], None, "values must hold a finite number, got 2 non-finite values"),
        ([1.0, 2.0], 1.0, r"ceiling must be a number in \(1, inf\), got 1.0"),
        ([1.0, 2.0], np.nan, "ceiling must be a number"),
    ],
)
def test_values_without_levels_raise(values, ceiling, words):
    with pytest.raises(ValueError, match=words):
        color_levels.levels(values, ceiling)


def test_contours_and_surface_have_labels_and_report_clipped_points():
    holes = plane(np.where(X < -1, np.nan, 1 + X**2))
    words = {"title": "A title", "labels": ("east", "north"), "ceiling": 3.0}
    for figure in (
        drawn(jd.landscape.contour_figure(holes, **words)),
        drawn(jd.landscape.surface_figure(holes, **words)),
    ):
        axes = figure.axes[0]
        said = axes.get_title(), axes.get_xlabel(), axes.get_ylabel()
        assert said == ("A title", "east", "north")
        assert caption(figure) == "10 points above 3 clipped, 10 not finite, hatched"


def path_figure(**changes):
    path = {
        "coordinates": np.array([[1.5, 0.5], [0.5, 0.2], [0.0, 0.0]]),
        "true_losses": [5.0, 2.0, 1.0],
        "plane_losses": [4.0, 1.5, 1.0],
        "distances": [0.3, 0.2, 0.0],
        "explained": [0.75, 0.125, 0.1],
        **changes,
    }
    return drawn(jd.landscape.path_figure(BOWL, **path, title="A path"))


def test_a_path_figure_shows_true_losses_plane_losses_and_explained_variance():
    figure = path_figure(steps=[0, 10, 20])
    axes, losses, distances = (part for part in figure.axes if part.get_label() != "<colorbar>")
    assert "75.0% of the variance" in axes.get_xlabel()
    assert "12.5%" in axes.get_ylabel()
    series = {line.get_label(): line.get_xydata().T for line in losses.get_lines()}
    np.testing.assert_array_equal(series["on the path"], [[0, 10, 20], [5, 2, 1]])
    np.testing.assert_array_equal(series["its projection"], [[0, 10, 20], [4, 1.5, 1]])
    np.testing.assert_array_equal(distances.get_lines()[0].get_ydata(), [0.3, 0.2, 0.0])
    assert losses.get_yscale() == "log"
    assert distances.get_xlabel() == "step"


def test_a_path_is_not_clipped():
    plain = BOWL._replace(values=BOWL.values.at[0, :3].set(1e3))
    path = np.array([[0.0, 0.5], [0.5, 0.2], [0.0, 0.0]])
    losses = [50.0, 2.0, 1.0]
    figure = jd.landscape.path_figure(plain, path, losses, losses, np.zeros(3), [0.9, 0.1])
    assert figure.subfigs[0].get_supxlabel() == "3 points above 50 clipped"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distances": [0.1]}, r"distances must have the shape \(3,\), got \(1,\)"),
        ({"steps": [1, 2]}, r"steps must have the shape \(3,\), got \(2,\)"),
        ({"coordinates": np.ones((3, 3))}, r"coordinates must have the shape \(time, 2\)"),
    ],
)
def test_a_path_with_parts_of_different_lengths_raises(changes, words):
    with pytest.raises(ValueError, match=words):
        path_figure(**changes)


PATHS = np.stack([np.linspace([2, 1], [0, 0], 5), np.linspace([-2, 1], [0, 0], 5)])


def test_paths_of_pruned_agents_end_and_fade_out():
    broken = PATHS.copy()
    broken[1, 3:] = np.nan  # points after pruning are ignored
    figure = drawn(jd.landscape.agents_figure(BOWL, broken, [5, 2], winner=0))
    lines = [part for part in figure.axes[0].collections if isinstance(part, LineCollection)]
    pruned, winner = lines  # survivors are drawn last
    assert [len(each.get_segments()) for each in (pruned, winner)] == [2, 4]
    np.testing.assert_allclose(pruned.get_segments()[-1][-1], PATHS[1, 2])
    opacity = pruned.get_colors()[:, 3]
    assert opacity[0] > opacity[1] > 0
    assert np.all(winner.get_colors()[:, 3] == 1)
    assert winner.get_colors()[0, 0] > 0.8 > 0.2 > winner.get_colors()[0, 1]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["alive at the end: 1", "pruned: 1"]


def test_all_agents_survive_by_default():
    figure = drawn(jd.landscape.agents_figure(BOWL, PATHS))
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["alive at the end: 2", "pruned: 0"]


@pytest.mark.parametrize(
    ("paths", "pruned", "winner", "words"),
    [
        (PATHS[0], None, None, r"paths must have the shape \(agents, time, 2\), got \(5, 2\)"),
        (PATHS, [5], None, "pruned must hold 2 integers"),
        (PATHS, [5, -1], None, r"\[0, inf\)"),
        (PATHS, [5.0, 2.0], None, "pruned must hold 2 integers"),
        (PATHS, None, 2, r"winner must be an integer in \[0, 1\], got 2"),
    ],
)
def test_invalid_agents_raise(paths, pruned, winner, words):
    with pytest.raises(ValueError, match=words):
        jd.landscape.agents_figure(BOWL, paths, pruned, winner=winner)


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"matplotlib.*jaxdescent\[landscape\]"):
        figures.contour_figure(BOWL)


@pytest.fixture(scope="module")
def surface():
    return jd.landscape.surface_html(
        BOWL, path=PATHS[0], path_losses=[5.0, 4.0, 3.0, 2.0, 1.0], title="Turn me"
    )


def test_an_interactive_surface_works_offline(surface):
    assert len(surface) > 1_000_000  # it contains plotly's script
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", _without_script_bodies(surface))
    assert tags
    assert not any("src" in tag or "href" in tag for tag in tags)
    assert "Turn me" in surface
    assert "<html" not in _without_script_bodies(surface)


def _without_script_bodies(html):
    return re.sub(r"(<script\b[^>]*>).*?(</script>)", r"\1\2", html, flags=re.DOTALL)


def test_a_page_can_include_the_script_once():
    alone = jd.landscape.surface_html(BOWL, script=False)
    assert len(alone) < 50_000
    assert '"type":"surface"' in alone
    assert "scatter3d" not in alone


def test_the_path_on_a_surface_has_the_given_heights():
    html = jd.landscape.surface_html(
        BOWL, path=PATHS[0], path_losses=[5.0, 4.0, 3.0, 2.0, 1.0], script=False
    )
    assert '"type":"scatter3d"' in html
    with pytest.raises(ValueError, match=r"shapes \(n, 2\) and \(n,\), got \(5, 2\) and \(3,\)"):
        jd.landscape.surface_html(BOWL, path=PATHS[0], path_losses=[1.0, 2.0, 3.0])


def test_a_surface_shows_small_losses_and_a_higher_path():
    small = BOWL._replace(values=BOWL.values * 1e-7)
    pytest.importorskip("plotly")
    from jaxdescent.landscape import interactive

    assert interactive._ceiling(small, None, None) is None
    assert interactive._ceiling(small, [1.0, float("nan")], None) == 1.0
    assert interactive._ceiling(small, [1.0], 0.5) == 0.5
