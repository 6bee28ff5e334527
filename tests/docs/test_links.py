"""Links between pages lead somewhere, and pictures are small and name the study that drew them."""

import re
from pathlib import Path

import pytest

from experiments import studies

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md"))]
GALLERY = (DOCS / "gallery" / "index.md").read_text()
PICTURES = re.findall(r"!\[[^\]]*\]\((\S+?)\)\n+```bash\n(.*?)```", GALLERY, re.DOTALL)


def anchor(heading):
    """Returns the anchor that Markdown hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    ):
        if re.match(r"https?:", link):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if fragment:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), link


@pytest.mark.parametrize(
    "picture", sorted((DOCS / "gallery").glob("*.png")), ids=lambda path: path.name
)
def test_a_picture_is_shown_and_has_at_most_150_kilobytes(picture):
    assert picture.stat().st_size <= 150_000
    pages = [page for page in PAGES if f"{picture.name})" in page.read_text()]
    assert pages


def test_each_picture_of_the_gallery_has_the_command_of_a_study():
    assert len(PICTURES) == GALLERY.count("![") >= 6
    for _, command in PICTURES:
        assert {*re.findall(r"-m experiments (\w+)", command)} <= {*studies.NAMES}
        assert command.startswith("python -m experiments ")
