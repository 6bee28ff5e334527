"""Packaging: a typed wheel with few dependencies, and exact version pins."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def test_the_source_distribution_has_documentation_and_tests(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)  # noqa: S603
    (archive,) = tmp_path.glob("jaxdescent-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {"/".join(name.split("/")[1:]) for name in opened.getnames()}
    folders = ("jaxdescent", "experiments", "tests")
    modules = {str(path.relative_to(ROOT)) for f in folders for path in (ROOT / f).rglob("*.py")}
    pages = {str(path.relative_to(ROOT)) for path in ROOT.glob("*.md")}
    assert modules | pages | {"CITATION.cff", "docs/quickstart.png", "Makefile"} <= names


def test_the_citation_names_the_version_of_the_package():
    versions = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert versions == [jaxdescent.__version__] == [PROJECT["version"]]


def test_importing_the_package_needs_only_its_base_dependencies():
    blocked = ["flax", "sklearn", "matplotlib", "rich", "tyro", "jinja2", "pytest", "hypothesis"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import jaxdescent"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)  # noqa: S603


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSIONS = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))


@pytest.mark.parametrize("version", VERSIONS)
def test_constraints_pin_each_dependency_once_for_each_python(version):
    def applies(requirement):
        marker = requirement.marker
        return marker is None or marker.evaluate({"python_version": version})

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [each for each in map(Requirement, lines) if applies(each)]
    assert all(re.fullmatch(r"==[\w.+]+", str(pin.specifier)) for pin in pins)
    pinned = [canonicalize_name(pin.name) for pin in pins]
    assert len(pinned) == len(set(pinned))
    extras = PROJECT["optional-dependencies"].values()
    declared = [Requirement(each) for group in (PROJECT["dependencies"], *extras) for each in group]
    chosen = {canonicalize_name(pin.name): pin for pin in pins}
    for requirement in filter(applies, declared):
        (pin,) = chosen[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(pin.version)


def newest_python(default, versions, folder):
    """Returns what the script prints if these versions of Python, and no others, are found."""
    for version in versions:
        fake = folder / "versions" / f"{version}.7" / "bin" / "python"
        fake.parent.mkdir(parents=True)
        fake.write_text("#!/bin/sh\n")
        fake.chmod(0o755)
    found = subprocess.run(  # noqa: S603
        ["/bin/bash", ROOT / ".ci/newest_python", default],
        env={"PATH": "", "PYENV_ROOT": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert not found.stderr
    return found.stdout.removeprefix(f"{folder}/versions/").partition("/")[0].strip()


@pytest.mark.parametrize(
    ("default", "versions", "newest"),
    [
        ("3.11", ["3.11", "3.12", "3.13"], "3.13.7"),
        ("3.13", ["3.10", "3.12", "3.13"], "3.12.7"),
        ("3.11", ["3.11", "3.10", "3.99"], ""),
        ("3.12", [], ""),
    ],
)
def test_compatibility_is_tested_on_the_newest_other_python(default, versions, newest, tmp_path):
    assert newest_python(default, versions, tmp_path) == newest
    assert {*VERSIONS} == {"3.11", "3.12", "3.13"}


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
