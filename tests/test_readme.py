"""Every code block of the README runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def test_every_block_names_its_language():
    assert {language for language, _ in BLOCKS} == {"bash", "python"}


@pytest.mark.parametrize("block", [code for language, code in BLOCKS if language == "python"])
def test_python_block_runs(block):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102


@pytest.mark.parametrize("block", [code for language, code in BLOCKS if language == "bash"])
def test_make_targets_exist(block):
    makefile = (ROOT / "Makefile").read_text()
    for target in [*re.findall(r"^make (\w+)", block, flags=re.MULTILINE), "bench", "picture"]:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_mentioned_files_exist():
    for path in re.findall(r"`((?:\w+/)+\w+\.\w+)`", README) + re.findall(r"\]\((\S+?)\)", README):
        assert (ROOT / path).exists(), path
