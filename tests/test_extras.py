"""What `pip install` brings: every extra that is named exists, and every import is declared where it is needed."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# Extras that a module may count on, by the beginning of its name. Others have the runtime alone, or "train" where
# nothing of the runtime imports them.
NEEDS = {
    "blemish.cli.serve": "serve",
    "blemish.prediction.ray_engine": "ray",
    "blemish.conversion.run": "export",
    "blemish.faithfulness": "explain",
    "blemish.prediction.tables": "parquet",
    "blemish.io.storage": "remote",
    "blemish.model.backends": "openvino",
    "blemish.serving": "serve",
    "blemish.training.log_mlflow": "mlflow",  # beside "train", without which nothing is logged
}
ROOTS = ("blemish", "blemish.model.detector", "blemish.cli")  # and all verbs: what they import at once is the runtime
PARTS = {"torch": {"captum", "onnx2torch"}}  # what a declared package needs itself, and cannot do without
LINE = re.compile(r"""pip install\s+(?:--?[\w-]+\s+)*(?P<quote>["']?)blemish\[(?P<extras>[^\]]*)\]""")


def normal(requirement: str) -> str:
    """The name in a requirement, as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, at_once: bool = False) -> Iterator[str]:
    """Modules that a file imports anywhere in it, or as soon as it is imported itself; not for types alone."""

    def walk(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if at_once and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names if str(node.module).startswith("blemish"))
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")))


def packages(path: Path) -> set[str]:
    """Top-level packages of others that a file imports."""
    return {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"blemish"}


SOURCES = sorted((ROOT / "src").rglob("*.py"))
MODULES = {module_name(path): path for path in SOURCES}
TEXTS = [*SOURCES, ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def runtime() -> set[str]:
    """Modules that are imported with the command line's verbs or the detector, without any of `NEEDS`."""
    found: set[str] = set()
    coming = [name for name in MODULES if name in ROOTS or name.startswith("blemish.cli.")]
    while coming:
        name = coming.pop()
        if name in MODULES and name not in found and extra_of(name) is None:
            found.add(name)
            coming += imports(MODULES[name], at_once=True)
    return found


def extra_of(module: str) -> str | None:
    return next((extra for prefix, extra in NEEDS.items() if f"{module}.".startswith(f"{prefix}.")), None)


def test_every_extra_that_is_named_exists() -> None:
    named = [
        (path.name, extra.strip())
        for path in TEXTS
        for found in LINE.finditer(path.read_text(encoding="utf-8"))
        for extra in found["extras"].split(",")
    ]
    assert {extra for _, extra in named} >= {
        "train",
        "serve",
        "export",
        "openvino",
        "explain",
    }  # so that some are found
    assert [one for one in named if one[1] not in EXTRAS] == []


RUNTIME = runtime()
HOMES = packages_distributions()  # takes a second


@pytest.mark.parametrize("module", MODULES)
def test_every_import_is_declared_where_it_is_needed(module: str) -> None:
    extra = extra_of(module) or (None if module in RUNTIME else "train")
    training = EXTRAS["train"] if module.startswith("blemish.training") else []
    declared = {normal(one) for one in [*PROJECT["dependencies"], *EXTRAS.get(extra, []), *training]}
    for package in packages(MODULES[module]):
        names = {normal(one) for one in HOMES.get(package, [package])} | PARTS.get(package, set())
        assert names & declared, f"{module} imports {package}, which {extra or 'the runtime'} does not bring"


def test_the_runtime_and_training_are_apart() -> None:
    assert {
        "blemish.model.detector",
        "blemish.imaging.heatmaps",
        "blemish.cli.train",
        "blemish.model.metadata",
    } <= RUNTIME
    assert (
        not {
            "blemish.training.run",
            "blemish.networks.detector",
            "blemish.training.pipeline",
            "blemish.training.onnx_export",
        }
        & RUNTIME
    )


@pytest.mark.parametrize(
    ("extra", "package"),
    [("openvino", "onnx"), ("openvino", "openvino"), ("export", "onnx"), ("int8", "onnx"), ("explain", "onnx")],
)
def test_an_export_finds_its_packages(extra: str, package: str) -> None:
    assert package in {normal(one) for one in EXTRAS[extra]}


@pytest.mark.parametrize("package", ["uvicorn", "h11"])
def test_packages_with_internals_that_are_used_are_bounded_from_above(package: str) -> None:
    (requirement,) = [one for one in EXTRAS["serve"] if normal(one) == package]
    assert re.search(r"<\d", requirement), f"{requirement}: blemish.serving.protocol subclasses its internals"


def test_nothing_is_declared_in_vain() -> None:
    used = {package for path in SOURCES for package in packages(path)}
    brought = {normal(home) for package, homes in HOMES.items() if package in used for home in homes}
    elsewhere = {
        "onnxscript",  # of torch's exporter
        "tensorboard",  # of torch's writer
        "scikit-image",  # the demo's photograph lies in it
        "python-multipart",  # of FastAPI's forms
    }
    names = {normal(one) for one in PROJECT["dependencies"]}
    names |= {normal(one) for extra, ones in EXTRAS.items() if extra not in ("dev", "docs") for one in ones}
    assert names - brought <= elsewhere
