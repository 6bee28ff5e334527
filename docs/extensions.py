"""Sphinx extension: docstrings with plain backticks, and formulas as MathML without JavaScript."""

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import jaxdescent

SECTION = re.compile(r"(Args|Attributes|Example|Raises|Returns|Warns|Yields):$")
NAMES = re.compile(r"^  [a-z]\w*(, \w+)+(?=: )")
"""Several arguments or attributes that share a description; napoleon takes names without spaces."""
CODE = re.compile(r"`([^`]+)`")
INTERNAL_METHODS = ("tree_flatten", "tree_unflatten")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the functions of this file to Sphinx."""
    app.connect("autodoc-process-docstring", rewrite_docstring, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_member)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite_docstring(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """Rewrites a docstring in place as reStructuredText.

    Backticks mark code, and public names become links. Before the first section, an indented
    paragraph is a block of code or a formula.
    """
    head = next((i for i, line in enumerate(lines) if SECTION.match(line)), len(lines))
    sections = [NAMES.sub(lambda names: names[0].replace(", ", ","), line) for line in lines[head:]]
    text = "\n".join([*_with_literal_blocks(lines[:head]), *sections])
    pieces = re.split(r"(?m)(^::\n\n(?:(?: +.*)?(?:\n|\Z))+|^ *(?:>>>|\.\.\.).*$)", text)
    lines[:] = "".join(
        piece if i % 2 else _rewrite_inline(piece) for i, piece in enumerate(pieces)
    ).split("\n")


def _with_literal_blocks(lines: list[str]) -> Iterator[str]:
    """Yields the lines, with `::` before each indented paragraph that is not in another one."""
    inside, blank = False, True
    for line in lines:
        if line and not line.startswith(" "):
            inside = False
        elif line and blank and not inside and not line.lstrip().startswith(">>>"):
            inside = True
            yield "::"
            yield ""
        blank = not line
        yield line


def _rewrite_inline(text: str) -> str:
    """Returns prose with special characters escaped, and code and references marked."""
    prose = re.split(r"(`[^`]+`)", text)
    return "".join(
        CODE.sub(_reference, piece) if i % 2 else re.sub(r"([\\*|]|(?<=\w)_(?!\w))", r"\\\1", piece)
        for i, piece in enumerate(prose)
    )


def _reference(match: re.Match[str]) -> str:
    """Returns a link if the code is a public name, such as `jd.minimize`, or else a literal."""
    code = match[1]
    path = code.removeprefix("jd.")
    if path == code or not re.fullmatch(r"[\w.]+", path):
        return f"``{code}``\\ "
    target: Any = jaxdescent
    for name in path.split("."):
        target = getattr(target, name)  # an AttributeError is a docstring that is out of date
    return f":py:obj:`{code} <jaxdescent.{path}>`\\ "


def skip_member(_app: Sphinx, _what: str, name: str, obj: Any, skip: bool, _options: Any) -> bool:
    """Leaves out fields of NamedTuples, which the class describes, and methods for JAX."""
    return skip or name in INTERNAL_METHODS or type(obj).__name__ == "_tuplegetter"


def visit_math(writer: Any, node: nodes.math) -> None:
    """Writes a formula in the text as MathML."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(writer: Any, node: nodes.math_block) -> None:
    """Writes a formula on its own lines as MathML."""
    formula = tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode
