"""Imports of optional packages."""

import math
import sys

import pytest

from jaxdescent.extras import require


def test_an_installed_package_is_imported():
    assert require("math", "some") is math


def test_the_error_for_a_missing_package_says_how_to_install_it():
    with pytest.raises(
        ImportError, match=r"no_such_package is not installed; .* 'jaxdescent\[some\]'"
    ):
        require("no_such_package.part", "some")


def test_the_error_for_a_missing_dependency_of_a_package_is_unchanged(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "half_installed", raising=False)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_dependency'"):
        require("half_installed", "some")
