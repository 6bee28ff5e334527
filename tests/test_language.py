"""Docstrings, comments, messages and pages are plain American technical English."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("jaxdescent", "experiments", "tests")
SPELLING = "use the American spelling"

AVOIDED = {
    r"(?<!there )\b(is|are|was|were|be|gives?|has|have|had) (?-i:none)\b": "say 'is not a ...'",
    r"(?<!there )\b(is|are|was|were) no (?!more\b|less\b|\w+er\b)\w+": "say 'is not a ...'",
    r"\b(no|some|any|every)body\b": "name the subject",
    r"\bwhoever\b|\bwhatever\b": "name the thing",
    r"\bin the manner of\b": "say 'like' or 'as in'",
    r"\b(that|those) of\b": "repeat the noun",
    r"\bone that\b|\bones that\b": "repeat the noun",
    r"\bwho (needs?|is|are|was|were|has|have|falls?)\b": "programs are not persons",
    r"\b(all the same|to hand|of its own accord|of one's own)\b": "say it directly",
    r"\bthe bill\b|\b(can|could|may) bear\b|\bbears?\b": "say 'cost' or 'stability threshold'",
    r"\bfrom \([\w*, \[\].=]+\) to\b": "say 'Called as `f(x)`; returns ...'",
    r"\b(minim|maxim|normal|optim|general|initial|regular|linear|standard|token|factor|util|"
    r"random|vector|parallel|real|summar|recogn|penal|symmetr|discret|diagonal|parametr|"
    r"parameter|local|organ|visual|serial|equal|stabil)is(e|es|ed|er|ers|ing|ations?)\b": SPELLING,
    r"\b(behaviour|colour|favour|neighbour|honour|analys(e|ed|es|ing)\b|centre|"
    r"grey|licence|catalogue|modell(ed|ing)|labell(ed|ing)|travell|cancell(ed|ing)\b|analogue|"
    r"artefact|fulfil\b|towards\b|afterwards\b|whilst|amongst)": SPELLING,
}
"""Patterns of phrases to be avoided, and what to write instead."""

OPENINGS = r"(What|Whether|Who|Whom|Whose|How|Where|From [(`])"
"""How a docstring may not open; write 'Returns ...', 'State of ...', 'True if ...'."""

# From Python 3.12 on, an f-string is several tokens.
STRINGS = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
QUOTES = (getattr(tokenize, "FSTRING_START", None), getattr(tokenize, "FSTRING_END", None))
SPACES = (tokenize.NL, tokenize.INDENT, tokenize.DEDENT)


def texts(source):
    """Returns (line, text) of each comment and string; adjacent ones are joined."""
    found, last = [], None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            kind, text = "comment", token.string.lstrip("# ")
        elif token.type in STRINGS:
            kind = "string"
            text = re.sub(r"^\w*(\"{3}|'{3}|\"|')|(\"{3}|'{3}|\"|')$", "", token.string)
        else:
            if token.type not in (*SPACES, *QUOTES):
                last = None
            continue
        if last == kind:
            line, before = found.pop()
            found.append((line, f"{before} {text}"))
        else:
            found.append((token.start[0], text))
        last = kind
    return found


def docstrings(source):
    """Returns (line, text) of each docstring, those after attributes included."""
    return [
        (node.lineno, node.value.value.strip())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


def prose(text):
    """Returns a text on one line, without fenced blocks, doctests and code in backticks."""
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = re.sub(r"(?m)^\s*(>>>|\.\.\.).*$", " ", text)
    return " ".join(re.sub(r"`[^`]*`", "`x`", text).split())


def violations(content, *, is_page=False):
    """Returns (line, message) for each phrase of a source file or a page to be avoided."""
    pieces = [(1, content)] if is_page else texts(content)
    found = [
        (line, f"{match[0]!r}: {advice}")
        for line, text in pieces
        for pattern, advice in AVOIDED.items()
        for match in re.finditer(pattern, prose(text), re.IGNORECASE)
    ]
    opened = [] if is_page else docstrings(content)
    return found + [
        (line, f"a docstring opens with {match[0]!r}; open with a verb or a noun")
        for line, text in opened
        if (match := re.match(OPENINGS, text))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_sources_avoid_what_has_to_be_decoded(package):
    sources = [path for path in (ROOT / package).rglob("*.py") if path != Path(__file__)]
    assert sources
    found = [
        f"{path.relative_to(ROOT)}:{line}: {message}"
        for path in sorted(sources)
        for line, message in violations(path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


def test_pages_avoid_what_has_to_be_decoded():
    folders = [ROOT / name for name in ("jaxdescent", "experiments", "docs")]
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    assert pages
    found = [
        f"{path.relative_to(ROOT)}: {message}"
        for path in sorted(pages)
        for _, message in violations(path.read_text(), is_page=True)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('raise TypeError(f"{name} is no "\n    f"Rule")', "is no Rule"),
        ("# The rule\n# is none.", "is none"),
        ('def f():\n    """Whether it\'s so."""', "opens with 'Whether'"),
        ('x = 1\n"""What x is."""', "opens with 'What'"),
        ('def f():\n    """Returns\n    whatever it has."""', "whatever"),
        ("# Minimises a behaviour.", "Minimises"),
        ("# Minimizes a behaviour.", "behaviour"),
        ('"""Attributes:\n  init: from (key, x) to a state.\n"""', "from (key, x) to"),
    ],
)
def test_a_phrase_to_be_avoided_is_found(source, message):
    assert message in "\n".join(text for _, text in violations(source))


@pytest.mark.parametrize(
    "source",
    [
        "# There is no default, and it is no longer read. None of them is a rule.",
        '"""Returns the state.\n\n>>> whatever = `is none`\n"""',
        "whatever = nobody = 1",
    ],
)
def test_plain_english_and_code_pass(source):
    assert not violations(source)
