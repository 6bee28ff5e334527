"""The pages build without warnings, need nothing from the network, and list every public name."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdescent

DOCS = Path(__file__).parents[2] / "docs"
LOADED = r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)"'
"""Addresses in HTML that a browser loads without a click."""


def spaces(prefix, module):
    """Returns public modules by their full names, with those in them."""
    found = {prefix: module}
    for name in module.__all__:
        if inspect.ismodule(getattr(module, name)):
            found |= spaces(f"{prefix}.{name}", getattr(module, name))
    return found


def public_names():
    """Returns the full names of all that is public, without the submodules themselves."""
    names = {
        f"{prefix}.{name}"
        for prefix, space in spaces("jaxdescent", jaxdescent).items()
        for name in space.__all__
        if not inspect.ismodule(getattr(space, name))
    }
    # What a submodule repeats from the package is documented once.
    return {
        name
        for name in names
        if name.count(".") == 1 or f"jaxdescent.{name.rpartition('.')[2]}" not in names
    }


def test_the_pages_build_and_are_complete(tmp_path, subtests):
    pytest.importorskip("sphinx_book_theme", reason="needs the extra docs")
    from sphinx.util.inventory import InventoryFile

    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    built = subprocess.run(  # noqa: S603
        [*build, str(DOCS), str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    pages = {page: page.read_text() for page in tmp_path.rglob("*.html")}
    with subtests.test("nothing is loaded from the network"):
        for page, html in pages.items():
            loaded = ["".join(found) for found in re.findall(LOADED, html)]
            assert not [each for each in loaded if each.startswith(("http", "//"))], page
        for sheet in tmp_path.rglob("*.css"):
            assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text()), sheet
    with subtests.test("the reference has every public name and no other"):
        inventory = InventoryFile.loads((tmp_path / "objects.inv").read_bytes(), uri="").data
        kinds = ("py:function", "py:class", "py:data", "py:exception")
        found = {  # classes are also listed where they are defined, with this anchor
            item.uri.partition("#")[2]
            for kind in kinds
            for item in inventory.get(kind, {}).values()
        }
        assert found == public_names()
    with subtests.test("no page shows markup"):
        for page, html in pages.items():
            prose = re.sub(r"(?s)<(pre|script|style)\b.*?</\1>|<code\b.*?</code>", "", html)
            assert not re.search(r"`|:py:obj:|\\ ", prose), page
    with subtests.test("formulas are MathML"):
        assert "<math" in (tmp_path / "theory" / "towers.html").read_text()
