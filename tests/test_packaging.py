"""Packaging: a typed wheel with few dependencies, and exact version pins."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import jaxdescent

ROOT = Path(__file__).parents[1]


def test_the_wheel_contains_only_the_package(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)  # noqa: S603
    (wheel,) = tmp_path.glob("jaxdescent-*-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"jaxdescent"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "jaxdescent").rglob("*.py")}
    assert modules | {"jaxdescent/py.typed"} <= set(names)


def test_importing_the_package_needs_only_its_base_dependencies():
    blocked = ["flax", "sklearn", "matplotlib", "rich", "tyro", "jinja2", "pytest", "hypothesis"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import jaxdescent"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)  # noqa: S603


def test_constraints_are_names_and_versions_and_cover_all_dependencies():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    declared = [name for group in (project["dependencies"], *extras) for name in group]
    assert {name.split(">=")[0].lower() for name in declared} <= pinned


def packages():
    modules = pkgutil.walk_packages(jaxdescent.__path__, "jaxdescent.")
    imported = (importlib.import_module(module.name) for module in modules if module.ispkg)
    return [package for package in (jaxdescent, *imported) if hasattr(package, "__all__")]


def namespaces():
    public = (getattr(jaxdescent, name) for name in jaxdescent.__all__)
    return [jaxdescent, *filter(inspect.ismodule, public)]


@pytest.mark.parametrize("namespace", namespaces(), ids=lambda namespace: namespace.__name__)
def test_dir_of_a_public_namespace_lists_its_public_names(namespace):
    assert {*dir(namespace)} - {"__version__"} == {*namespace.__all__}


@pytest.mark.parametrize("package", packages(), ids=lambda package: package.__name__)
def test_public_names_are_all_that_a_package_defines_and_have_docstrings(package):
    assert len(package.__all__) == len(set(package.__all__))
    defined = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert defined <= set(package.__all__)
    for name in package.__all__:
        value = getattr(package, name)
        assert inspect.getdoc(value) or not callable(value), name
