"""Plots: what is drawn is where it should be."""

import numpy as np
import pytest
from PIL import Image

from pathline.plots.animation import enlarged, frame_of, save_gif
from pathline.plots.axes import new_axes, save
from pathline.plots.images import image_grid, tile
from pathline.plots.loss import loss, loss_by_time
from pathline.plots.scatter import scatter

pytestmark = pytest.mark.fast


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


def test_a_film_lasts_as_long_as_it_says(tmp_path):
    frames = [np.full((4, 4, 1), 20 * k, np.uint8) for k in range(10)]
    save_gif(frames, tmp_path / "a.gif", seconds=2.0, hold=1.0)
    with Image.open(tmp_path / "a.gif") as film:
        durations = []
        for k in range(film.n_frames):
            film.seek(k)
            durations.append(film.info["duration"])
            assert np.asarray(film.convert("L"))[0, 0] == 20 * k
        assert durations == [200] * 9 + [1000] and film.info["loop"] == 0


def test_points_are_drawn_where_they_are_by_class():
    points, y = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), np.array([0, 1, 0])
    ax = scatter(points, y, ("a", "b"), title="two")
    assert [c.get_offsets().tolist() for c in ax.collections] == [[[0, 1], [4, 5]], [[2, 3]]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"] and ax.get_title() == "two"


def test_a_plot_goes_on_the_axes_it_is_given():
    ax = new_axes()
    assert scatter(np.zeros((2, 2)), ax=ax) is ax
    assert image_grid(np.zeros((2, 1, 2, 2)), 2, ax=ax) is ax
    other = new_axes()
    assert loss([1, 2], [2.0, 1.0], ax=other) is other
    other = new_axes()
    assert loss_by_time([1.0], ax=other) is other


def test_a_straight_loss_is_smoothed_to_itself():
    steps, values = list(range(1, 12)), [12.0 - k for k in range(11)]
    raw, smooth = loss(steps, values, [5], [3.0]).lines[:2]
    assert raw.get_ydata() == pytest.approx(values) and smooth.get_ydata() == pytest.approx(values)


def test_the_loss_by_time_is_drawn_from_noise_to_data():
    stairs = loss_by_time([3.0, 1.0]).patches[0].get_data()
    assert stairs.values.tolist() == [3, 1] and stairs.edges.tolist() == [0, 0.5, 1]


def test_a_grid_has_a_name_for_each_row():
    ax = image_grid(np.zeros((4, 1, 8, 8)), 2, ("0", "1"))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1"]
    assert ax.get_yticks().tolist() == [3.5, 12.5]  # the middle pixel of each row


def test_a_frame_is_the_saved_picture(tmp_path):
    ax = scatter(np.random.default_rng(0).normal(size=(20, 2)), ax=new_axes(2, 2))
    save(ax, tmp_path / "a.png", dpi=100)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), frame_of(ax))


def test_nothing_touches_pyplot():
    import matplotlib.pyplot as plt

    scatter(np.zeros((2, 2)))
    assert plt.get_fignums() == []
