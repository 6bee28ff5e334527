"""Short names of runs: the titles or settings in which they differ, such as "self-tuning Adam"."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runner.settings import NOT_IN_RESULTS

LONGEST_VALUE = 30
TITLE = "the report's title"
"""Stands for the title among the settings; it is not part of the name of a run."""


def run_names(descriptions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a name for each run, all of them different.

    A name has the titles of the reports, if they differ and all runs of a study have one, without
    words that all have. It has the fewest settings that tell the runs of one study further apart,
    without values that most of the runs have, and the study if there are runs of several. Runs with
    equal settings are numbered in their order.

    Args:
      descriptions: contents of `run.json`.

    Example:
      >>> settings = [{"seed": 0, "lr": 0.1, "tower": 0}, {"seed": 0, "lr": 0.1, "tower": 2}]
      >>> run_names([{"study": "train", "settings": each} for each in settings])
      ['tower 0', 'tower 2']
      >>> titles = "digits, Adam", "digits, self-tuning Adam"
      >>> run_names([{"study": "train", "title": each, "settings": {}} for each in titles])
      ['Adam', 'self-tuning Adam']
    """
    studies = list(dict.fromkeys(each["study"] for each in descriptions))
    names = [""] * len(descriptions)
    for study in studies:
        indices = [i for i, each in enumerate(descriptions) if each["study"] == study]
        runs = [descriptions[i] for i in indices]
        titles = _short_titles([run.get("title") for run in runs])
        settings = zip(titles, (run["settings"] for run in runs), strict=True)
        found = _of_one_study([{TITLE: title, **each} for title, each in settings])
        for i, name in zip(indices, found, strict=True):
            names[i] = f"{study}, {name}" if name and len(studies) > 1 else name or study
    return _numbered(names)


def _short_titles(titles: Sequence[Any]) -> list[str]:
    """Returns the titles without parts that all have; "" for each if a title is missing."""
    if not all(titles):
        return [""] * len(titles)
    parts = [title.split(", ") for title in titles]
    for end in (0, -1):
        while all(len(each) > 1 for each in parts) and len({each[end] for each in parts}) == 1:
            for each in parts:
                each.pop(end)
    return [", ".join(each) for each in parts]


def _of_one_study(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the settings that tell each run from the others; "" if nothing does."""
    shown = _distinguishing(settings)
    names = []
    for each in settings:
        rare = [
            _text(name, each.get(name))
            for name in shown
            if name == TITLE
            or 2 * sum(other.get(name) == each.get(name) for other in settings) <= len(settings)
        ]
        names.append(", ".join(rare) or ("common settings" if shown else ""))
    return names


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the settings that differ between runs and affect results."""
    names = dict.fromkeys(name for each in settings for name in each)
    return [
        name
        for name in names
        if name not in NOT_IN_RESULTS
        and any(each.get(name) != settings[0].get(name) for each in settings)
    ]


def _distinguishing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the differing settings, without those that tell no further runs apart.

    The seed is tried last, because a difference in another setting says more.
    """
    shown: list[str] = []
    groups = 1
    for name in sorted(differing(settings), key="seed".__eq__):
        more = len({str([each.get(key) for key in (*shown, name)]) for each in settings})
        if more > groups:
            shown, groups = [*shown, name], more
    return shown


def _text(name: str, value: Any) -> str:
    """Returns a setting in a few words."""
    if name == TITLE:
        return value
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if value is None:
        return f"default {words}"
    if isinstance(value, list):
        value = " ".join(map(str, value))
    text = Path(value).name if isinstance(value, str) and "/" in value else str(value)
    short = text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
    return f"{words} {short}"


def _numbered(names: Sequence[str]) -> list[str]:
    """Returns the names, with a number after those that occur several times."""
    counts, seen = Counter(names), Counter[str]()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} #{seen[name]}" if counts[name] > 1 else name)
    return numbered
