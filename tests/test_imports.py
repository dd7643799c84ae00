"""The folders are the architecture: imports point downwards, no module imports itself in a circle, no spine names a family.

Functions are short.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from zoo import families

ROOT = Path(__file__).parents[1]
FLOORS = (
    "core",
    "schema",
    "artefact",
    "hub",
    "data",
    "ops",
    "label_geometry",
    "mining",
    "spec",
    "runtime",
    "graph",
    "card",
    "training",
    "encoding",
    "fitted_steps",
    "encoder",
    "metrics",
    "after",
    "bridge",
    "diagnosis",
    "text",
    "vision",
    "paragraph_vectors",
    "evaluation",
    "families",
    "recipe",
    "pretrained",
    "verify",
    "index",
    "build",
    "deploy",
    "serve",
    "starter",
    "cli",
)
"""Folders and single modules of zoo/, from the ground up. Each may import only what stands before it, and itself."""


def list_modules() -> dict[str, Path]:
    modules = {}
    for path in sorted((ROOT / "zoo").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = list_modules()


def list_imports(path: Path) -> set[str]:
    """Every module of zoo that a file imports, also inside functions and for types only."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "zoo"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zoo":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                names.add(inside if inside in MODULES else str(node.module))
    return names


IMPORTS = {name: list_imports(path) - {name} for name, path in MODULES.items()}


def floor_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_folder_has_a_floor():
    assert {floor_of(name) for name in MODULES if name != "zoo"} == set(FLOORS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_lower_floors(module):
    if module == "zoo":
        return  # the public functions import whatever they call
    height = FLOORS.index(floor_of(module))
    allowed = {*FLOORS[: height + 1], ""}
    upward = {name for name in IMPORTS[module] if floor_of(name) not in allowed}
    assert not upward, f"{module} imports from a higher floor: {sorted(upward)}"


def test_the_top_is_imported_for_its_version_only():
    users = {name for name, imports in IMPORTS.items() if "zoo" in imports}
    for name in users:
        source = MODULES[name].read_text(encoding="utf-8")
        nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom) and n.module == "zoo"]
        top = {alias.name for node in nodes for alias in node.names if f"zoo.{alias.name}" not in MODULES}
        assert top <= {"__version__"}, f"{name} imports {top} from zoo"


def test_no_module_imports_itself_in_a_circle():
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle: {' -> '.join((*trail[trail.index(module) :], module))}"
        if module in finished:
            return
        for name in sorted(IMPORTS.get(module, ())):
            visit(name, (*trail, module))
        finished.add(module)

    for module in MODULES:
        if module != "zoo":
            visit(module, ())


@pytest.mark.parametrize("family", families.names())
def test_a_family_imports_no_other_family(family):
    own = f"zoo.families.{family.replace('-', '_')}"
    for module, imports in IMPORTS.items():
        if module.startswith(f"{own}.") or module == own:
            others = {name for name in imports if name.startswith("zoo.families.") and not name.startswith(own)}
            assert not others, f"{module} imports another family: {sorted(others)}"


def list_words(path: Path) -> set[str]:
    """Identifiers, attributes and string constants of a file, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    words = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words.add(node.value)
        elif isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.alias):
            words |= set(node.name.split("."))
    return words


@pytest.mark.parametrize("module", sorted(name for name in MODULES if floor_of(name) not in ("families", "")))
def test_the_spine_names_no_family(module):
    names = {spelling for name in families.names() for spelling in (name, name.replace("-", "_"))}
    assert not names & list_words(MODULES[module]), f"{module} names a family"


MAX_LINES = 60
LONGER = {("zoo.paragraph_vectors.kernels", "_step_inputs")}
"""A comment in this loop says what splitting it costs."""


def test_no_function_has_more_than_sixty_lines():
    long_functions = {
        (module, node.name)
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= MAX_LINES
    }
    assert long_functions == LONGER
