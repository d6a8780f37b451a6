"""Plots: what is drawn is what was given, where it should be."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

import pathline as pl
from pathline import plots
from pathline.plots.animation import enlarged, frame_of, save_animation, save_gif, save_webp
from pathline.plots.axes import COMPUTED, EXACT, INK, checked, demo_path, label, new_axes, panels, plane, save
from pathline.plots.images import image_grid, strip, tile
from pathline.plots.loss import loss, loss_by_time, loss_over_floor
from pathline.plots.scatter import scatter

pytestmark = pytest.mark.fast

LINE = np.linspace(-4, 4, 81)
GRID = np.stack(np.meshgrid(LINE, LINE), -1).reshape(-1, 2)
SHUFFLED = np.random.default_rng(0).permutation(GRID)


def normal(x):
    """The standard normal density at points (..., 2)."""
    return np.exp(-(np.asarray(x) ** 2).sum(-1) / 2) / (2 * np.pi)


def random(*shape):
    return np.random.default_rng(1).normal(size=shape)


# ---- images


def test_tiles_go_row_by_row_with_a_gap_of_paper():
    images = np.arange(5.0)[:, None, None, None] * np.ones((5, 1, 2, 3))
    sheet = tile(images, columns=2, gap=1, paper=-1.0)[..., 0]
    assert sheet.shape == (3 * 2 + 2, 2 * 3 + 1)
    for k in range(5):
        top, left = k // 2 * 3, k % 2 * 4
        assert (sheet[top : top + 2, left : left + 3] == k).all()
    assert (sheet[2] == -1).all() and (sheet[:, 3] == -1).all() and (sheet[6:, 4:] == -1).all()


def test_each_pixel_is_a_square_of_bytes():
    found = enlarged(np.array([[[0.0], [0.5]], [[1.0], [7.0]]]), 3)[..., 0]
    assert found.tolist() == [[0] * 3 + [128] * 3] * 3 + [[255] * 6] * 3


def test_a_grid_has_a_name_for_each_row():
    ax = image_grid(np.zeros((4, 1, 8, 8)), 2, ("0", "1"))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1"]
    assert ax.get_yticks().tolist() == [3.5, 12.5]  # the middle pixel of each row


def test_a_strip_has_a_row_for_each_sample_and_a_column_for_each_time():
    times = np.array([0.0, 0.5, 1.0])
    states = (np.arange(3)[:, None] / 4 + np.arange(2) / 8)[..., None, None, None] * np.ones((3, 2, 1, 4, 5))
    ax = strip(times, states)
    sheet = np.asarray(ax.images[0].get_array())
    for k in range(3):
        for i in range(2):
            assert (sheet[5 * i : 5 * i + 4, 6 * k : 6 * k + 5] == k / 4 + i / 8).all()
    assert ax.get_xticks().tolist() == [2, 8, 14]  # the middle pixel of each column
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "0.5", "1"]


# ---- points and paths


def test_points_are_drawn_where_they_are_by_class():
    points, y = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), np.array([0, 1, 0])
    ax = scatter(points, y, ("a", "b"), title="two")
    assert [c.get_offsets().tolist() for c in ax.collections] == [[[0, 1], [4, 5]], [[2, 3]]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"] and ax.get_title() == "two"


def test_points_lie_over_their_density():
    points = random(7, 2)
    mesh, dots = scatter(torch.from_numpy(points), grid=GRID, density=normal(GRID)).collections
    assert np.array_equal(dots.get_offsets(), points) and mesh.get_zorder() < dots.get_zorder()
    assert mesh.get_array().max() == pytest.approx(np.sqrt(normal(np.zeros(2))))


def test_points_are_coloured_by_their_values_with_a_bar_if_it_has_a_name():
    points, values = random(50, 2), np.linspace(-3, 7, 50)
    ax = scatter(points, values=values, bar="age")
    (dots,) = ax.collections
    assert np.array_equal(dots.get_offsets(), points) and np.array_equal(dots.get_array(), values)
    (bar,) = [other for other in ax.figure.axes if other is not ax]
    assert bar.get_ylabel() == "age" and bar.get_ylim() == (-3, 7)
    assert scatter(points, values=values).figure.axes[1:] == []


def test_trajectories_go_from_ring_to_dot():
    states = random(6, 4, 2)
    lines, rings, dots = plots.trajectories(states).collections
    assert np.array_equal(lines.get_segments(), states.swapaxes(0, 1))
    assert np.array_equal(rings.get_offsets(), states[0]) and np.array_equal(dots.get_offsets(), states[-1])
    assert rings.get_facecolor()[0, :3].tolist() == [1, 1, 1] != dots.get_facecolor()[0, :3].tolist()


def test_paths_run_along_time():
    times, states = np.linspace(0, 2, 5), random(5, 3)
    ax = plots.paths_along(times, states)
    assert ax.get_xlim() == (0, 2) and len(ax.lines) == 3
    for line, path in zip(ax.lines, states.T, strict=True):
        assert np.array_equal(line.get_xdata(), times) and np.array_equal(line.get_ydata(), path)


# ---- fields


def test_arrows_are_the_vectors_at_their_points():
    points, vectors = random(9, 2), random(9, 2) ** 3
    (quiver,) = plots.arrows(points, vectors).collections
    assert np.array_equal(quiver.XY, points) and quiver.pivot == "middle"
    assert np.array_equal(np.column_stack((quiver.U, quiver.V)), vectors)


def test_an_arrow_of_the_unit_is_as_long_as_the_distance_between_points():
    line = np.linspace(0, 4.5, 10)
    points = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    ax = plots.arrows(points, np.full((100, 2), [0.3, 0.0]), new_axes(6, 6), unit=0.3)
    (quiver,) = ax.collections
    assert quiver.angles == "xy" and quiver.scale_units == "xy" and 0.3 / quiver.scale == pytest.approx(0.5)


def test_streamlines_follow_the_field():
    circles = plots.streamlines(SHUFFLED, np.column_stack((-SHUFFLED[:, 1], SHUFFLED[:, 0])))
    lines = circles.collections[0].get_segments()
    assert sum(map(len, lines)) > 500
    for x, y in (line.T for line in lines):
        assert np.ptp(np.hypot(x, y)) < 0.02 * np.hypot(x, y).max()
        assert (x[:-1] * y[1:] - y[:-1] * x[1:] > -1e-9).all()  # with the field, not against it


def test_each_panel_of_fields_has_its_own_time():
    times, points, vectors = [0.25, 1.0], random(5, 2), random(2, 5, 2)
    densities = np.stack([normal(GRID), normal(2 * GRID)])
    axes = plots.fields_at(times, points, vectors, grid=GRID, densities=densities)
    assert [ax.get_title() for ax in axes] == ["$t = 0.25$", "$t = 1$"]
    for ax, field, p in zip(axes, vectors, densities, strict=True):
        mesh, quiver = ax.collections
        assert np.array_equal(np.column_stack((quiver.U, quiver.V)), field)
        assert np.allclose(np.asarray(mesh.get_array()).ravel(), np.sqrt(p))


# ---- densities


@pytest.mark.parametrize("grid", [GRID, SHUFFLED], ids=["in order", "shuffled"])
def test_a_density_is_drawn_where_it_is(grid):
    (mesh,) = plots.density(grid, normal(grid - [1, 0])).collections
    places = mesh.get_coordinates()
    assert np.allclose(np.asarray(mesh.get_array()), np.sqrt(normal(places - [1, 0])))
    assert places.reshape(-1, 2)[np.argmax(mesh.get_array())].tolist() == pytest.approx([1, 0])


def test_a_density_grows_from_paper_to_its_strongest_colour():
    (mesh,) = plots.density(GRID, normal(GRID), peak=4.0).collections
    assert mesh.norm.vmin == 0 and mesh.norm.vmax > 2  # colour goes by the square root
    colours = mesh.cmap(np.linspace(0, 1, 256))[:, :3]
    assert colours[0].tolist() == [1, 1, 1] and (np.diff(colours @ [0.3, 0.6, 0.1]) <= 0).all()


def test_the_rings_of_a_normal_are_one_two_and_three_standard_deviations_wide():
    ax = plots.contours(SHUFFLED, normal(SHUFFLED))
    radii = [np.hypot(*path.vertices.T) for path in ax.collections[0].get_paths()]
    for found, radius in zip(radii, (3, 2, 1), strict=True):
        assert np.abs(found - radius).max() < 0.02


def test_each_panel_of_densities_has_its_own_time():
    values = np.stack([normal(GRID), normal(GRID - 1)])
    axes = plots.densities_at([0.0, 0.5], GRID, values)
    assert [ax.get_title() for ax in axes] == ["$t = 0$", "$t = 0.5$"]
    for ax, p in zip(axes, values, strict=True):
        assert np.allclose(np.asarray(ax.collections[0].get_array()).ravel(), np.sqrt(p))
        assert ax.get_xlim() == ax.get_ylim() == (-4, 4)


@pytest.mark.parametrize("is_sideways", [False, True])
def test_a_histogram_and_its_curve_are_both_densities(is_sideways):
    samples = np.append(random(2000), [50.0] * 2000)  # half of them are not in sight
    p = np.exp(-(LINE**2) / 2) / np.sqrt(2 * np.pi)
    ax = plots.histogram(samples, LINE, p, bins=40, is_sideways=is_sideways)
    heights, edges, _ = ax.patches[0].get_data()
    assert heights.sum() * 0.2 == pytest.approx(0.5) and edges[[0, -1]].tolist() == [-4, 4]
    assert heights[:2].sum() == 0 and heights.argmax() == pytest.approx(20, abs=3)
    (line,) = ax.lines
    drawn = (line.get_ydata(), line.get_xdata()) if is_sideways else (line.get_xdata(), line.get_ydata())
    assert np.array_equal(drawn[0], LINE) and np.array_equal(drawn[1], p) and line.get_color() == EXACT
    assert ax.patches[0].orientation == ("horizontal" if is_sideways else "vertical")


def test_a_density_along_time_is_a_share_of_its_peak_then():
    times, values = np.array([0.0, 0.5, 1.0]), np.abs(random(3, 81)) + 0.1
    (mesh,) = plots.density_along(times, LINE, values).collections
    found = np.asarray(mesh.get_array())
    assert np.allclose(found**2 * values.max(1), values.T)
    assert np.array_equal(mesh.get_coordinates()[3, :, 0], times)
    assert np.array_equal(mesh.get_coordinates()[:, 1, 1], LINE)


def test_hills_stand_on_their_times():
    times, values = np.array([0.0, 0.5, 1.0]), np.abs(random(3, 81))
    ax = plots.ridges(times, LINE, values, height=2.0)
    hills = {line.get_zorder(): line.get_ydata() for line in ax.lines}
    for row, zorder in enumerate(sorted(hills, reverse=True)):  # the nearest is the first in time
        assert np.allclose(hills[zorder] - row, 2 * values[row] / values.max())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "0.5", "1"]


# ---- processes


def test_a_fan_has_its_mean_and_the_bands_of_one_and_two_standard_deviations():
    times, paths = np.linspace(0, 1, 6), random(6, 3)
    mean, spread = np.exp(-times), 0.5 * np.sqrt(times)
    ax = plots.fan(times, paths, mean, spread)
    for band, reach in zip(ax.collections, (2, 1), strict=True):
        vertices = band.get_paths()[0].vertices
        for t, m, s in zip(times, mean, spread, strict=True):
            found = vertices[vertices[:, 0] == t, 1]
            assert found.min() == pytest.approx(m - reach * s) and found.max() == pytest.approx(m + reach * s)
    *thin, middle = ax.lines
    assert np.array_equal([line.get_ydata() for line in thin], paths.T)
    assert np.array_equal(middle.get_ydata(), mean) and middle.get_color() == EXACT


# ---- the loss


def test_a_straight_loss_is_smoothed_to_itself():
    steps, values = list(range(1, 12)), [12.0 - k for k in range(11)]
    raw, smooth = loss(steps, values, [5], [3.0]).lines[:2]
    assert raw.get_ydata() == pytest.approx(values) and smooth.get_ydata() == pytest.approx(values)


def test_losses_are_drawn_over_their_floor():
    drawn = [patch.get_data() for patch in loss_over_floor([0.5, 0.1], [1.0, 0.9], [1.1, 1.2]).patches]
    assert [stairs.values.tolist() for stairs in drawn] == [[0.5, 0.1], [0.5, 0.1], [1.0, 0.9], [1.1, 1.2]]
    assert all(stairs.edges.tolist() == [0, 0.5, 1] for stairs in drawn)
    with pytest.raises(ValueError, match="training"):
        loss_over_floor([0.5, 0.1], [1.0], [1.1, 1.2])


def test_the_loss_by_time_is_drawn_from_noise_to_data():
    stairs = loss_by_time([3.0, 1.0]).patches[0].get_data()
    assert stairs.values.tolist() == [3, 1] and stairs.edges.tolist() == [0, 0.5, 1]


# ---- films


@pytest.mark.parametrize(("write", "name"), [(save_gif, "a.gif"), (save_webp, "a.webp"), (save_animation, "b.webp")])
def test_a_film_lasts_as_long_as_it_says(tmp_path, write, name):
    frames = [np.full((4, 4, 1), 20 * k, np.uint8) for k in range(10)]
    write(frames, tmp_path / name, seconds=2.0, hold=1.0)
    with Image.open(tmp_path / name) as film:
        assert film.format == name[2:].upper() and film.n_frames == 10
        durations = []
        for k in range(film.n_frames):
            film.seek(k)
            film.load()
            durations.append(film.info["duration"])
            assert int(np.asarray(film.convert("L"))[0, 0]) == pytest.approx(20 * k, abs=0 if write is save_gif else 3)
        assert durations == [200] * 9 + [1000] and film.info["loop"] == 0


@pytest.mark.parametrize(("name", "error"), [("a.gif", 0.1), ("a.webp", 20)])  # WebP keeps less of thin things
def test_a_film_keeps_its_colours(tmp_path, name, error):
    frames = plots.film_of_samples([0, 1], random(2, 40, 2), 3.0, grid=GRID, densities=[normal(GRID)] * 2)
    save_animation(frames, tmp_path / name)
    blue = np.rint(255 * np.array(to_rgb(COMPUTED)))  # of the bar that fills below, which is small
    with Image.open(tmp_path / name) as film:
        film.seek(1)
        found = np.asarray(film.convert("RGB"), float)
    bar = (frames[1] == blue).all(-1)
    assert bar.sum() > 300 and np.abs(found[bar] - blue).mean() < error


def test_samples_are_seen_where_they_are_at_each_time():
    states = np.array([[[0.0, 0.0]], [[1.0, 1.0]]])
    frames = plots.film_of_samples([0.0, 1.0], np.repeat(states, 50, 1), reach=2.0)
    for frame, (x, y) in zip(frames, states[:, 0], strict=True):
        height, width = frame.shape[:2]
        inside = frame[60:-20, 20:-20, 0].astype(int)  # without the time and the bar; blue has little red
        row, column = np.unravel_index(inside.argmin(), inside.shape)
        assert abs(column + 20 - width * (x + 2) / 4) < 8 and abs(row + 60 - height * (2 - y) / 4) < 8


def test_a_film_of_densities_moves_with_them():
    values = np.stack([normal(3 * (GRID - 1)), normal(3 * GRID + 3)])
    frames = plots.film_of_densities([0.0, 1.0], GRID, values, reach=4.0)
    warmth = [frame[..., 0].astype(int) - frame[..., 2] for frame in frames]
    (y0, x0), (y1, x1) = (np.unravel_index(w.argmax(), w.shape) for w in warmth)
    assert x0 > 200 > 160 > x1 and y0 < 160 < 200 < y1  # rows of a frame run downwards


def test_a_film_of_fields_has_one_unit():
    points = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2) - 2
    vectors = np.array([0.25, 1.0])[:, None, None] * np.full((25, 2), [1.0, 0.0])
    short, long = (np.sum(frame.mean(-1) < 128) for frame in plots.film_of_fields([0, 1], points, vectors, reach=3))
    assert long > 1.8 * short


def test_a_frame_is_the_saved_picture(tmp_path):
    ax = scatter(np.random.default_rng(0).normal(size=(20, 2)), ax=new_axes(2, 2))
    save(ax, tmp_path / "a.png", dpi=100)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), frame_of(ax))


def test_few_colours_take_less_room_and_look_the_same(tmp_path):
    ax = plane(scatter(random(900, 2), np.arange(900) % 9, grid=GRID, density=normal(GRID)), 4)
    save(ax, tmp_path / "whole.png")
    save(ax, tmp_path / "few.png", colours=256)
    whole, few = (Image.open(tmp_path / name) for name in ("whole.png", "few.png"))
    assert len(few.getcolors()) <= 256 < len(whole.convert("RGB").getcolors(1 << 20))
    assert (tmp_path / "few.png").stat().st_size < 0.6 * (tmp_path / "whole.png").stat().st_size
    assert np.abs(np.asarray(whole.convert("RGB"), float) - np.asarray(few.convert("RGB"), float)).mean() < 0.6


def test_few_colours_keep_ink_and_paper(tmp_path):
    ax = image_grid(np.random.default_rng(0).random((6, 3, 40, 40)), 3, title="in ink, on white")
    save(ax, tmp_path / "few.png", colours=64)
    kept = {colour for _, colour in Image.open(tmp_path / "few.png").convert("RGB").getcolors()}
    assert {(255, 255, 255), tuple(round(255 * share) for share in to_rgb(INK))} <= kept


# ---- axes

DRAWINGS = {
    "scatter": lambda ax: scatter(np.zeros((2, 2)), ax=ax),
    "trajectories": lambda ax: plots.trajectories(random(3, 2, 2), ax),
    "paths_along": lambda ax: plots.paths_along([0, 1], random(2, 3), ax),
    "arrows": lambda ax: plots.arrows(random(4, 2), random(4, 2), ax),
    "streamlines": lambda ax: plots.streamlines(GRID, GRID, ax),
    "fields_at": lambda ax: plots.fields_at([0], random(4, 2), random(1, 4, 2), [ax])[0],
    "density": lambda ax: plots.density(GRID, normal(GRID), ax),
    "contours": lambda ax: plots.contours(GRID, normal(GRID), ax),
    "densities_at": lambda ax: plots.densities_at([0], GRID, normal(GRID)[None], [ax])[0],
    "curve": lambda ax: plots.curve(LINE, LINE**2, ax),
    "histogram": lambda ax: plots.histogram(random(9), ax=ax),
    "density_along": lambda ax: plots.density_along([0, 1], LINE, np.ones((2, 81)), ax),
    "ridges": lambda ax: plots.ridges([0, 1], LINE, np.ones((2, 81)), ax),
    "fan": lambda ax: plots.fan([0, 1], random(2, 3), [0, 0], [0, 1], ax),
    "image_grid": lambda ax: image_grid(np.zeros((2, 1, 2, 2)), 2, ax=ax),
    "strip": lambda ax: strip([0, 1], np.zeros((2, 1, 1, 2, 2)), ax),
    "loss": lambda ax: loss([1, 2], [2.0, 1.0], ax=ax),
    "loss_by_time": lambda ax: loss_by_time([1.0], ax=ax),
    "loss_over_floor": lambda ax: loss_over_floor([1.0], [2.0], [3.0], ax),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_plot_goes_on_the_axes_it_is_given_or_on_new_ones(draw):
    ax = new_axes()
    empty = frame_of(ax)
    assert draw(ax) is ax and not np.array_equal(frame_of(ax), empty)
    if draw not in (DRAWINGS["fields_at"], DRAWINGS["densities_at"]):
        assert draw(None).figure is not ax.figure


def test_every_function_that_takes_axes_is_drawn_above():
    takes = {name for name in plots.__all__ if inspect.isfunction(f := getattr(plots, name)) and wants_axes(f)}
    assert takes == set(DRAWINGS)


def wants_axes(function) -> bool:
    return any(p.name in ("ax", "axes") and p.default is None for p in inspect.signature(function).parameters.values())


def test_panels_fill_rows_and_share_what_they_are_told():
    axes = panels(3, 2, width=2.0, height=1.5, sharey=True)
    assert axes[0].figure.get_size_inches().tolist() == [6, 3]
    assert [ax.get_subplotspec().num1 for ax in axes] == [0, 1, 2, 3, 4, 5]
    for ax in axes:
        label(ax, "title", "x", "y")
    assert [ax.get_ylabel() for ax in axes] == ["y", "", "", "y", "", ""]
    assert [ax.get_xlabel() for ax in axes] == ["x"] * 6


def test_a_window_reaches_as_far_both_ways():
    ax = plane(scatter(random(5, 2) * 100), 3.0)
    ax.figure.canvas.draw()
    assert ax.get_xlim() == ax.get_ylim() == (-3, 3) and ax.get_aspect() == 1


# ---- what is refused

REFUSALS = {
    "points in space": (lambda: scatter(np.zeros((4, 3))), r"points must have shape \(n, 2\), got \(4, 3\); pass x"),
    "a class too few": (lambda: scatter(np.zeros((4, 2)), [0, 1, 0]), r"y must have shape \(4,\), got \(3,\)"),
    "a grid alone": (lambda: scatter(np.zeros((4, 2)), grid=GRID), "grid and density must come together"),
    "classes and values": (lambda: scatter(np.zeros((1, 2)), [0], values=[1]), "y and values must not come together"),
    "a point without its value": (
        lambda: scatter(np.zeros((2, 2)), values=[1]),
        r"values must have shape \(2,\), got \(1,\)",
    ),
    "one state": (lambda: plots.trajectories(np.zeros((4, 2))), r"states must have shape \(steps \+ 1, n, 2\)"),
    "states in the plane": (lambda: plots.paths_along([0, 1], np.zeros((2, 3, 2))), r"states must .* pass states"),
    "a time too few": (lambda: plots.paths_along([0], np.zeros((2, 3))), r"states must have shape \(1, n\)"),
    "a vector too few": (lambda: plots.arrows(np.zeros((4, 2)), np.zeros((3, 2))), r"vectors must have shape \(4, 2\)"),
    "no unit": (lambda: plots.arrows(np.zeros((4, 2)), np.zeros((4, 2)), unit=0), "unit must be positive, got 0"),
    "no rectangle": (lambda: plots.density(random(9, 2), np.ones(9)), "grid must fill a rectangle once, got 9 points"),
    "a point twice": (lambda: plots.density(np.eye(4, 2), np.ones(4)), "grid must fill a rectangle once"),
    "a hole": (lambda: plots.density(np.delete(GRID, 5, 0), np.ones(len(GRID) - 1)), "grid must fill a rectangle"),
    "a value too few": (lambda: plots.contours(GRID, np.ones(5)), "one value a point of the grid, 6561, got"),
    "log-densities": (lambda: plots.density(GRID, np.log(normal(GRID))), r"values must be .* pass log_prob.exp\(\)"),
    "axes too few": (lambda: plots.densities_at([0, 1], GRID, np.ones((2, 6561)), panels(1)), r"each of the 2 times"),
    "densities alone": (lambda: plots.fields_at([0], GRID, GRID[None], densities=[[1]]), "must come together"),
    "a matrix of samples": (lambda: plots.histogram(np.zeros((3, 1))), r"samples must .* pass x\[:, 0\]"),
    "a curve alone": (lambda: plots.histogram(np.zeros(3), values=LINE), "grid and values must come together"),
    "a curve too long": (lambda: plots.curve(LINE, np.zeros(3)), r"values must have shape \(81,\), got \(3,\)"),
    "a time without density": (
        lambda: plots.density_along([0, 1], LINE, np.ones((3, 81))),
        r"values must .* \(2, 81\)",
    ),
    "a hill too many": (lambda: plots.ridges([0], LINE, np.ones((2, 81))), r"values must have shape \(1, 81\)"),
    "a negative spread": (lambda: plots.fan([0, 1], np.zeros((2, 1)), [0, 0], [0, -1]), "spread must be 0 or more"),
    "a short mean": (lambda: plots.fan([0, 1], np.zeros((2, 1)), [0], [0, 1]), r"mean must have shape \(2,\)"),
    "images without channels": (lambda: tile(np.zeros((4, 8, 8)), 2), r"images must have shape \(n, channels, .* pass"),
    "no column": (lambda: tile(np.zeros((4, 1, 8, 8)), 0), "columns must be at least 1, got 0"),
    "a strip of one time": (lambda: strip([0], np.zeros((2, 1, 1, 8, 8))), r"states must have shape \(1, n, chan"),
    "a loss too few": (lambda: loss([1, 2], [1.0]), r"training must have shape \(2,\), got \(1,\)"),
    "a window of nothing": (lambda: plane(new_axes(), 0), "reach must be positive, got 0"),
    "too many colours": (lambda: save(new_axes(), "a.png", colours=300), "colours must be from 16 to 256, got 300"),
    "no panel": (lambda: panels(0), "columns and rows must be at least 1, got 0 and 1"),
    "a film of nothing": (lambda: save_animation([], "a.gif"), "frames must be at least one"),
    "frames of two sizes": (lambda: save_webp([np.zeros((2, 2, 3)), np.zeros((3, 2, 3))], "a.webp"), "of one shape"),
    "a film as a picture": (
        lambda: save_animation([np.zeros((2, 2, 3))], "a.png"),
        r"end in .gif or .webp, got 'a.png'",
    ),
    "a film of one state": (
        lambda: plots.film_of_samples([0], np.zeros((4, 2)), 1.0),
        r"states must have shape \(1, n",
    ),
}


@pytest.mark.parametrize(("call", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_wrong_shape_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_demo_writes_where_it_is_told(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scatter.py"])
    assert demo_path("scatter.png") == Path("scatter.png")
    monkeypatch.setattr(sys, "argv", ["scatter.py", "there/other.png"])
    assert demo_path("scatter.png") == Path("there/other.png")


def test_a_shape_fits_word_by_word():
    assert checked("x", torch.ones(2, 3), "n", 3).dtype == np.float64
    with pytest.raises(ValueError, match=r"x must have shape \(n,\), got \(2, 3\); way out"):
        checked("x", np.ones((2, 3)), "n", hint="way out")


# ---- the package


def test_a_function_is_not_hidden_by_the_module_of_its_name():
    for info in pkgutil.iter_modules(plots.__path__):
        importlib.import_module(f"pathline.plots.{info.name}")
    assert pl.plots.scatter is scatter and pl.plots.loss is loss
    assert not [name for name in plots.__all__ if isinstance(getattr(plots, name), ModuleType)]


def test_nothing_touches_pyplot_or_the_settings_of_matplotlib():
    """In a process of its own, as this one may have pyplot from elsewhere."""
    script = """
import importlib, pkgutil, sys
import matplotlib
def settings():  # but for the backend: to ask for it imports pyplot
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()
import pathline.plots
for info in pkgutil.iter_modules(pathline.plots.__path__):
    importlib.import_module(f"pathline.plots.{info.name}").demo()
assert "matplotlib.pyplot" not in sys.modules, "pyplot was imported"
assert settings() == before, "a setting was changed"
assert "torch" not in sys.modules, "plots need arrays only"
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
