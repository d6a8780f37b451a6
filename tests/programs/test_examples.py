"""The gallery: each example is short, runs, and makes the picture in the docs; each plot module shows itself."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "docs" / "gallery"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TRAINED = ("conditional_transport", "flow_matching_and_cnf", "learned_field")  # networks, for a good while
MODULES = sorted(path.stem for path in (ROOT / "pathline" / "plots").glob("[!_]*.py"))


def run(*arguments, folder: Path) -> str:
    """What Python prints, if it ends well and without a warning."""
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, cwd=folder)
    assert found.returncode == 0, found.stderr
    assert not found.stderr
    return found.stdout


def pictured(script: Path) -> Path:
    """The picture that an example has in the docs."""
    (picture,) = (path for path in GALLERY.glob(f"{script.stem}.*"))
    return picture


def frames(path: Path) -> list[np.ndarray]:
    """The first, middle and last frame of a picture, small and without fine detail."""
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1)
        found = []
        for k in sorted({0, count // 2, count - 1}):
            image.seek(k)
            whole = image.convert("RGB")
            found.append(np.asarray(whole.resize((whole.width // 8, whole.height // 8), Image.Resampling.BOX), float))
    return found


def test_the_gallery_has_what_the_course_draws():
    assert {path.stem for path in EXAMPLES} >= {
        "conditional_path", "marginal_path", "conditional_field", "marginal_field", "score_field", "ode_and_sde",
        "langevin", "ornstein_uhlenbeck", "brownian_motion", "linear_flow", "condot_lines", "guidance", "schedules",
        "noise_to_data", "flow_quantiles", "digits_strip", "learned_field",
        "optimal_transport", "bridges",
    }  # fmt: skip


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in TRAINED)) for path in EXAMPLES],
)
def test_an_example_makes_the_picture_in_the_docs(script, tmp_path):
    committed = pictured(script)
    made = tmp_path / committed.name
    run(script, made, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [made.name]  # the one picture, where it was asked for
    with Image.open(made) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    for new, old in zip(frames(made), frames(committed), strict=True):
        assert new.shape == old.shape, f"remake {committed.name}: python examples/{script.name}"
        assert np.abs(new - old).mean() < 2, f"remake {committed.name}: python examples/{script.name}"


@pytest.mark.fast
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_has_its_place(script):
    lines = script.read_text().splitlines()
    assert len(lines) <= 30 and lines[0].startswith('"""') and max(map(len, lines)) <= 120
    readme = (GALLERY / "README.md").read_text()
    picture = pictured(script)
    assert f"]({picture.name})" in readme and f"](../../examples/{script.name})" in readme
    assert f'"docs/gallery/{picture.name}"' in script.read_text()


@pytest.mark.fast
def test_the_gallery_is_light_and_has_nothing_else():
    pictures = [path for path in GALLERY.iterdir() if path.suffix != ".md"]
    assert {path.stem for path in pictures} == {path.stem for path in EXAMPLES}
    assert all(path.stat().st_size < 150_000 for path in pictures if path.suffix == ".png")
    assert sum(path.stat().st_size for path in pictures) < 2_000_000


@pytest.mark.parametrize("module", MODULES)
def test_a_plot_module_shows_itself(module, tmp_path):
    name = f"{module}.gif" if module == "animation" else f"{module}.png"
    printed = run("-m", f"pathline.plots.{module}", folder=tmp_path)
    assert printed.split() == [name] == [path.name for path in tmp_path.iterdir()]
    with Image.open(tmp_path / name) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
