"""What is shipped: a typed wheel that needs few packages, and exact pins."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
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


def test_constraints_pin_names_and_versions_and_nothing_more():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    declared = [name for group in (project["dependencies"], *extras) for name in group]
    assert {name.split(">=")[0].lower() for name in declared} <= pinned
