"""The rules of the code base, as programs: a newcomer learns them from a failure here."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "services", "schemas", "database", "migrations", "tools")
SOURCES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "versions" not in path.parts
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_MODULE, MEDIAN_MODULE, LONGEST_FUNCTION = 300, 90, 60

# What a package, or the most specific part of one, may import of ours.
MAY_IMPORT = {
    "app": {"app", "services", "schemas", "database"},
    "app.common.errors": set[str](),
    "app.common.handlers": {"app.common.errors", "schemas"},
    "app.common.logging": {"app.common.tracebacks"},
    "app.common.tracebacks": {"app.common.errors"},
    "services": {"services", "database", "app.common.errors"},
    "services.inference": {"services.inference", "app.common.logging"},
    "schemas": {"schemas"},
    "database": {"database", "app.common.errors"},
    "migrations": {"app.settings", "database"},
    "tools": {"tools", "app", "services", "database"},
}
ONLY_IN_THE_ENGINE = {"torch", "transformers", "safetensors", "gguf", "numpy"}
ENGINE_SIDE = ("services.inference.native", "services.inference.chatglm.model")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_one_way(path: Path) -> None:
    name = module_name(path)
    rule = max((package for package in MAY_IMPORT if within(name, package)), key=len)
    for imported in imports(path):
        if not any(within(imported, package) for package in PACKAGES):
            continue
        ancestors = any(within(allowed, imported) for allowed in MAY_IMPORT[rule])
        assert ancestors or any(within(imported, allowed) for allowed in MAY_IMPORT[rule]), f"{name} imports {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_torch_stays_behind_the_engine(path: Path) -> None:
    if any(within(module_name(path), package) for package in ENGINE_SIDE):
        return
    heavy = {imported.partition(".")[0] for imported in imports(path)} & ONLY_IN_THE_ENGINE
    assert not heavy, f"{relative(path)} imports {heavy}"


def test_the_api_process_imports_no_torch() -> None:
    code = f"import sys, app.api; print(sorted(set(sys.modules) & {ONLY_IN_THE_ENGINE | {'numpy'}!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=relative)
def test_no_module_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


def test_the_median_module_has_under_90_lines() -> None:
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES]
    assert median(length for length in lengths if length) < MEDIAN_MODULE


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=relative)
def test_no_function_is_longer_than_60_lines(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{relative(path)}: {node.name}"


def calls(name: str) -> set[str]:
    return {
        relative(path)
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
    }


def test_only_the_session_commits() -> None:
    assert calls("commit") == {"database/session.py", "migrations/env.py"}


def mentions(text: str) -> set[str]:
    """Modules with a string constant, docstrings aside, or a name in which this occurs."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            constant = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lower() == text
            named = isinstance(node, ast.Name | ast.alias) and text in ast.dump(node).lower()
            if constant or named:
                found.add(relative(path))
    return found


def test_only_auth_reads_the_key_of_a_request() -> None:
    assert mentions("authorization") | mentions("x-api-key") | mentions("httpbearer") == {"app/controller/auth.py"}


def test_only_the_handlers_map_errors_to_answers() -> None:
    assert mentions("jsonresponse") == {"app/common/handlers.py"}
    assert mentions("httpexception") == {"app/common/handlers.py"}


def test_settings_are_loaded_only_where_a_process_begins() -> None:
    loaders = {
        relative(path)
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_settings"
    }
    assert {path for path in loaders if not path.startswith("tools/")} == {
        "app/__main__.py",
        "app/api.py",
        "migrations/env.py",
    }


def test_file_names_are_unique_in_an_editor_and_in_a_traceback() -> None:
    names = [path.name for path in SOURCES if path.parent.name not in {"native", "chatglm"}]
    # `engine` is what both fields call theirs.
    assert {name for name in names if names.count(name) > 1} == {"__init__.py", "__main__.py", "engine.py"}
