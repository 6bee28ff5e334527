"""Links lead somewhere, pictures are small and have their command, and tables say what they are."""

import importlib.util
import re
from pathlib import Path

import pytest

from experiments import runner, studies

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md"))]
GALLERY = (DOCS / "gallery" / "index.md").read_text()
PICTURES = re.findall(r"!\[[^\]]+\]\((\S+?)\)\n\n```bash\n(.*?)```", GALLERY, re.DOTALL)
RESULTS = [
    section
    for page in ("index", "quantum")
    for section in (DOCS / "results" / f"{page}.md").read_text().split("\n## ")[1:]
]
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def anchor(heading):
    """Returns the anchor that Markdown hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(page):
    """Returns the links of a page to files or headings that do not exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text())):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"https?:", link):
            continue
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
        if not target.exists() or (heading and heading not in map(anchor, headings)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert not broken_links(page)


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](page.md#a-title) [b](#b) [c](c.md) `[d](d.md)`")
    assert broken_links(page) == ["#b", "c.md"]


@pytest.mark.parametrize(
    "picture", sorted((DOCS / "gallery").iterdir()), ids=lambda path: path.name
)
def test_the_gallery_shows_each_picture_of_at_most_150_kilobytes(picture):
    if picture.suffix != ".md":
        assert picture.suffix == ".png"
        assert picture.stat().st_size <= 150_000
        assert picture.name in dict(PICTURES)


def test_each_picture_has_the_commands_that_draw_it():
    assert len(PICTURES) == GALLERY.count("![") >= 6
    for _, commands in PICTURES:
        for command in commands.splitlines():
            assert re.match(r"python -m experiments (\w+)", command)[1] in studies.NAMES


@pytest.mark.parametrize("section", RESULTS, ids=lambda section: section.partition("\n")[0])
def test_a_table_of_results_says_how_it_was_made(section):
    facts = re.match(
        r"(\w+)\n\n\*.+\*\.? `python -m experiments (\w+)[^`]*`: scale (smoke|small|full), "
        r"\d{4}-\d\d-\d\d, jax [\d.]+, optax [\d.]+, CPU time [\d.,]+ \w+\.\n\n"
        r"(?:[^|\n].*\n\n)?\|",  # a verdict, if there is one
        section,
    )
    assert facts, section[:300]
    assert facts[1] == facts[2]
    assert facts[2] in studies.NAMES
    assert not re.search(r"(?<![\w.])/(tmp|home|work|root)/", section)


def test_the_section_of_a_run_has_its_table(tmp_path):
    spec = importlib.util.spec_from_file_location("section", DOCS / "results" / "section.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = runner.Run.start("train", runner.Settings(scale="smoke", runs=tmp_path))
    rows = [["sgd | *", "0.5"], ["adam", "0.25"]]
    notes = [f"load_network('{run.folder}') loads it.", f"{run.folder} is read."]
    runner.write_report(run, runner.Results("Losses", ["optimizer", "loss"], rows, notes, {}))
    run.close()
    printed = module.section(run.folder)
    assert "| sgd \\| \\* | 0.5 |\n| adam | 0.25 |" in printed
    folder = f"runs/train/{run.folder.name}"
    assert printed.endswith(f"\n\nload_network('{folder}') loads it.\n\n{folder} is read.")
    assert ": scale smoke, " in printed
