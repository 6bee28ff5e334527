"""The registry of data sets by name."""

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

from experiments import data
from experiments.data.registry import ENTRIES
from tests.experiments.data.disk import real

every_name = pytest.mark.parametrize("name", data.NAMES)
BUNDLED = [name for name in data.NAMES if not data.entry(name).needs_files]
REAL = {
    "mnist": "mnist",
    "cifar10_subset": "cifar10_subset.npz",
    "pneumoniamnist": "pneumoniamnist.npz",
    "elec2": "elec2.csv.gz",
    "tinyshakespeare": "tinyshakespeare.txt.gz",
    "war_and_peace": "war_and_peace.txt.gz",
    "sp500": "sp500_daily.csv.gz",
}
SOME = {
    "n": 60,
    "noise": 0.1,
    "seed": 1,
    "factor": 0.5,
    "features": 6,
    "classes": 3,
    "informative": 2,
    "tokenizer": "byte_pair",
    "vocabulary_size": 260,
    "validation": 0.1,
    "test": 0.2,
}


@pytest.mark.parametrize("name", [*BUNDLED, *REAL])
def test_a_data_set_has_its_registered_kind(name):
    kind = data.entry(name).kind
    loaded = data.load(name, real(REAL[name]) if name in REAL else None)
    expected = {"text": data.Corpus, "series": data.Series}.get(kind, data.Dataset)
    assert isinstance(loaded, expected)
    assert loaded.name == name
    assert loaded.source
    assert len(loaded.source.splitlines()) == 1
    if isinstance(loaded, data.Dataset):
        assert (loaded.classes > 0) == (kind != "regression")
        for part in (loaded.train, loaded.validation, loaded.test):
            assert len(part.inputs) == len(part.targets) > 0
            assert np.isfinite(loaded.normalized(part).inputs).all()


@every_name
def test_needs_files_tells_which_data_sets_read_the_data_folder(name, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXDESCENT_DATA", raising=False)
    if not data.entry(name).needs_files:
        data.load(name)
        return
    with pytest.raises(data.DataError, match="JAXDESCENT_DATA"):
        data.load(name)
    with pytest.raises(data.DataError, match="get it from") as caught:
        data.load(name, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/")
    assert len(str(caught.value).splitlines()) == 1


@every_name
def test_each_option_is_a_keyword_of_its_loader(name):
    entry = ENTRIES[name]
    module, function = entry.loader.split(".")
    loader = getattr(importlib.import_module(f"experiments.data.{module}"), function)
    parameters = set(inspect.signature(loader).parameters)
    if "options" in parameters:
        known = set(importlib.import_module("experiments.data.corpus").Options.__annotations__)
        parameters = parameters - {"options"} | known
    assert parameters == {*entry.options, *entry.arguments, *["data_dir"] * entry.needs_files}


@pytest.mark.parametrize("name", [name for name in BUNDLED if data.entry(name).options])
def test_options_reach_the_loader(name):
    options = {option: SOME[option] for option in data.entry(name).options}
    loaded = data.load(name, **options)
    if isinstance(loaded, data.Corpus):
        assert loaded.tokenizer.vocabulary_size == 260
    else:
        assert len(loaded.whole().targets) == 60


def test_all_kinds_are_listed():
    assert {entry.kind for entry in ENTRIES.values()} == set(data.KINDS)


@pytest.mark.parametrize(
    ("given", "near"),
    [("mnst", "mnist"), ("cifar", "cifar10"), ("Digits", "digits"), ("shakespeare", "tiny")],
)
def test_the_error_for_an_unknown_name_suggests_the_nearest(given, near):
    with pytest.raises(ValueError, match=f"unknown data set '{given}'; did you mean {near}"):
        data.load(given)


@pytest.mark.parametrize("given", ["", "zzz", None])
def test_the_error_for_a_name_without_a_near_one_lists_all_names(given):
    with pytest.raises(ValueError, match=r"unknown data set .*; the names are digits, "):
        data.load(given)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match=r"^moons takes n, noise, seed, got sed$"):
        data.load("moons", sed=1)
    with pytest.raises(ValueError, match=r"^digits takes no options, got n$"):
        data.load("digits", n=1)


def test_listing_names_imports_no_heavy_packages():
    program = (
        "import sys; from experiments import data; data.entry('digits');"
        "print([name for name in ('sklearn', 'matplotlib', 'tokenizers') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)  # noqa: S603
    assert ran.stdout.decode().strip() == "[]"
