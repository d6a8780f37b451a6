"""The floors of the design: imports point down or stay on their floor, and never run in a circle."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

PACKAGE = Path(__file__).parents[2] / "pathline"
FLOORS = (
    ("arguments", "tensors", "noise", "specs", "conditions", "quoting", "solvers", "networks", "metrics", "plots"),
    ("processes", "paths", "data", "text"),
    ("fields",),
    ("training", "sampling", "likelihood"),
    ("verify", "estimator", "config", "runs", "asked", "model", "trainer"),
    ("cli", "demo", "__main__"),
)
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS, 1) for part in parts}
ROOF = len(FLOORS) + 1  # the package itself, which exports everything


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in package.rglob("*.py"):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(package: Path) -> dict[str, set[str]]:
    """Which modules of the package each one imports, anywhere in its text; the package's own face is left out."""
    modules = modules_of(package)
    return {
        name: {found for found in _imported(name, path, modules) if found != name}
        for name, path in modules.items()
        if name != package.name
    }


def _imported(name: str, path: Path, modules: dict[str, Path]):
    root = name.partition(".")[0]
    here = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            wanted = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            wanted = [str(word.value) for word in node.args[:1] if isinstance(word, ast.Constant)]
        else:
            continue
        for full in wanted:
            if full.partition(".")[0] == root:
                while full not in modules:  # a name inside a module
                    full = full.rpartition(".")[0]
                yield full


def part_of(module: str) -> str:
    """The top-level part that a module is of; the package itself is none."""
    return [*module.split("."), ""][1]


def upward(imports: dict[str, set[str]]) -> list[str]:
    """Every import that points up the floors."""
    floors = FLOOR_OF | {"": ROOF}
    return [
        f"{name} imports {other}"
        for name, others in sorted(imports.items())
        for other in sorted(others)
        if floors[part_of(other)] > floors[part_of(name)]
    ]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle in a graph, or nothing."""
    done: set[str] = set()

    def search(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := search(other, [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := search(name, []))), [])


def parts(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph between top-level parts."""
    graph: dict[str, set[str]] = {}
    for name, others in imports.items():
        graph.setdefault(part_of(name), set()).update({part_of(other) for other in others} - {part_of(name)})
    return graph


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return imports_of(PACKAGE)


def test_every_part_has_a_floor(imports):
    assert {part_of(name) for name in imports} <= set(FLOOR_OF)


def test_the_reader_sees_the_imports_there_are(imports):
    assert "pathline.paths.path" in imports["pathline.fields.field"]
    assert "pathline.cli.main" in imports["pathline.__main__"]
    assert sum(map(len, imports.values())) > 50


def test_imports_point_down(imports):
    assert upward(imports) == []


def test_no_circle_between_parts(imports):
    assert circle(parts(imports)) == []


def test_no_circle_between_modules(imports):
    assert circle(imports) == []


def plant(tmp_path: Path, files: dict[str, str]) -> dict[str, set[str]]:
    package = tmp_path / "pathline"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (path.parent, package):
            (folder / "__init__.py").touch()
        path.write_text(text)
    return imports_of(package)


@pytest.mark.parametrize(
    "text",
    [
        "from pathline.fields.field import Field",
        "import pathline.fields.field",
        "from ..fields import field",
        "from ..fields.field import Field",
        "def late():\n    from pathline.fields.field import Field",
        "import importlib\nimportlib.import_module('pathline.fields.field')",
        "if False:\n    from pathline.fields import field as f",
    ],
)
def test_a_planted_upward_import_is_caught(tmp_path, text):
    imports = plant(tmp_path, {"solvers/step.py": text, "fields/field.py": "class Field: ...\nimport torch"})
    assert upward(imports) == ["pathline.solvers.step imports pathline.fields.field"]


def test_an_import_of_the_whole_package_is_caught(tmp_path):
    imports = plant(tmp_path, {"cli/main.py": "import pathline as pl"})
    assert upward(imports) == ["pathline.cli.main imports pathline"]


def test_a_downward_import_is_not_caught(tmp_path):
    imports = plant(tmp_path, {"fields/field.py": "from pathline.paths import path", "paths/path.py": "import torch"})
    assert imports["pathline.fields.field"] == {"pathline.paths.path"}
    assert upward(imports) == [] and circle(imports) == []


def test_a_planted_circle_between_modules_is_caught(tmp_path):
    files = {
        "paths/a.py": "from pathline.paths.b import B",
        "paths/b.py": "def late():\n    from .c import C",
        "paths/c.py": "from . import a",
    }
    found = circle(plant(tmp_path, files))
    assert found[0] == found[-1] and set(found) == {"pathline.paths.a", "pathline.paths.b", "pathline.paths.c"}


def test_a_planted_circle_between_parts_is_caught_where_modules_have_none(tmp_path):
    files = {
        "paths/a.py": "from pathline.data.a import A",
        "paths/b.py": "",
        "data/a.py": "",
        "data/b.py": "from pathline.paths.b import B",
    }
    imports = plant(tmp_path, files)
    assert upward(imports) == [] and circle(imports) == []
    assert set(circle(parts(imports))) == {"paths", "data"}
