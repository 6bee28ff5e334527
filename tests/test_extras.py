"""Optional packages."""

import math
import sys

import pytest

from jaxdescent.extras import require


def test_what_is_there_is_imported():
    assert require("math", "some") is math


def test_what_is_missing_says_how_to_install_it():
    with pytest.raises(
        ImportError, match=r"no_such_package is not installed; .* 'jaxdescent\[some\]'"
    ):
        require("no_such_package.part", "some")


def test_what_is_there_and_lacks_something_of_its_own_says_that(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "half_installed", raising=False)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_dependency'"):
        require("half_installed", "some")
