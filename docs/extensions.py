"""Sphinx extension: docstrings with plain backticks, links from names, formulas as MathML."""

import inspect
import operator
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from jax.typing import ArrayLike
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.util.typing import stringify_annotation

import jaxdescent

LOGGER = getLogger(__name__)
SECTION = re.compile(r"(Args|Attributes|Example|Raises|Returns|Warns|Yields):$")
NAMES = re.compile(r"^  [a-z]\w*(, \w+)+(?=: )")
"""Several arguments or attributes that share a description; napoleon takes names without spaces."""
LITERAL_BLOCKS_AND_DOCTESTS = re.compile(
    r"(?m)(^::\n\n(?:(?: +.*)?(?:\n|\Z))+|^ *(?:>>>|\.\.\.).*$)"
)
INTERNAL_METHODS = ("tree_flatten", "tree_unflatten")
LONG_ANNOTATION = stringify_annotation(ArrayLike, "smart")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the functions of this file to Sphinx."""
    app.connect("autodoc-process-docstring", rewrite_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("doctree-read", link_names)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite_docstring(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """Rewrites a docstring in place as reStructuredText.

    Backticks mark code. Before the first section, an indented paragraph is a block of code or a
    formula.
    """
    head = next((i for i, line in enumerate(lines) if SECTION.match(line)), len(lines))
    sections = [NAMES.sub(lambda names: names[0].replace(", ", ","), line) for line in lines[head:]]
    text = "\n".join([*_with_literal_blocks(lines[:head]), *sections])
    pieces = LITERAL_BLOCKS_AND_DOCTESTS.split(text)
    lines[:] = "".join(
        piece if i % 2 else _rewrite_prose(piece) for i, piece in enumerate(pieces)
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


def _rewrite_prose(text: str) -> str:
    """Returns prose with special characters escaped, and code marked as reStructuredText does."""
    pieces = re.split(r"`([^`]+)`", text)
    return "".join(
        f"``{piece}``\\ " if i % 2 else re.sub(r"([\\*|]|(?<=\w)_(?!\w))", r"\\\1", piece)
        for i, piece in enumerate(pieces)
    )


def shorten_signature(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, arguments: Any, returns: Any
) -> tuple[str | None, str | None]:
    """Returns the signature with `ArrayLike` in place of the union that it stands for."""
    return tuple(
        part and part.replace(LONG_ANNOTATION, "~jax.typing.ArrayLike")
        for part in (arguments, returns)
    )


def skip_member(_app: Sphinx, _what: str, name: str, obj: Any, skip: bool, _options: Any) -> bool:
    """Leaves out fields of NamedTuples, which the class describes, and methods for JAX."""
    return skip or name in INTERNAL_METHODS or type(obj).__name__ == "_tuplegetter"


def link_names(app: Sphinx, doctree: nodes.document) -> None:
    """Links code such as `jd.minimize` to the reference; warns of names that do not exist."""
    if app.env.docname == "changelog":  # it has names of the past
        return
    for node in [*doctree.findall(nodes.literal)]:
        path = re.fullmatch(r"jd\.([\w.]+)", node.astext())
        if path is None or isinstance(node.parent, nodes.title):
            continue
        try:
            target = operator.attrgetter(path[1])(jaxdescent)
        except AttributeError as error:
            LOGGER.warning("%s: %s", node.astext(), error, location=node)
            continue
        if not inspect.ismodule(target):
            name = f"jaxdescent.{path[1]}"
            link = addnodes.pending_xref(
                refdomain="py", reftype="obj", reftarget=name, refwarn=True
            )
            link["refdoc"] = app.env.docname
            node.replace_self(link)
            link += node


def visit_math(writer: Any, node: nodes.math) -> None:
    """Writes a formula in the text as MathML."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(writer: Any, node: nodes.math_block) -> None:
    """Writes a formula on its own lines as MathML."""
    formula = tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode
