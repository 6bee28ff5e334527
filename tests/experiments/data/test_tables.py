"""Bundled tables: published facts, and fixed parts."""

import zlib

import numpy as np
import pytest
from sklearn import datasets

from experiments.data import Split, tables

LOADERS = {
    "breast_cancer": (tables.breast_cancer, datasets.load_breast_cancer, {}),
    "wine": (tables.wine, datasets.load_wine, {}),
    "diabetes": (tables.diabetes, datasets.load_diabetes, {"scaled": False}),
}
# Checksums of the parts' inputs. Published results are valid for these parts only.
CHECKSUMS = {
    "breast_cancer": [590789315, 582035726, 2483650097],
    "wine": [1527377855, 3754826285, 33852616],
    "diabetes": [102039139, 3092499356, 69767754],
}
every_table = pytest.mark.parametrize("name", LOADERS)


@every_table
def test_parts_never_change(name):
    np.random.seed(1)  # noqa: NPY002  parts must not depend on the global seed
    data = LOADERS[name][0]()
    assert [zlib.crc32(part.inputs.tobytes()) for part in data[1:4]] == CHECKSUMS[name]


@every_table
def test_parts_contain_each_example_once_with_its_target(name):
    load, bundled, options = LOADERS[name]
    whole = load().whole()
    inputs, targets = bundled(return_X_y=True, **options)
    targets = targets.reshape(len(targets), -1)
    loaded_rows = np.column_stack([whole.inputs, whole.targets])
    bundled_rows = np.column_stack([inputs, targets]).astype(np.float32)
    np.testing.assert_array_equal(
        *(rows[np.lexsort(rows.T)] for rows in (loaded_rows, bundled_rows))
    )


@every_table
def test_dtypes_match_the_task(name):
    data = LOADERS[name][0]()
    assert data.name == name
    for part in data[1:4]:
        assert part.inputs.dtype == np.float32
        assert part.targets.dtype == (np.int32 if data.classes else np.float32)
        assert part.targets.ndim == (1 if data.classes else 2)


def test_classes_have_their_published_counts_in_proportion_in_each_part():
    for load, counts in ((tables.breast_cancer, [212, 357]), (tables.wine, [59, 71, 48])):
        data = load()
        assert data.classes == len(counts)
        assert np.bincount(data.whole().targets).tolist() == counts
        for part in data[1:4]:
            shares = np.bincount(part.targets) / len(part.targets)
            np.testing.assert_allclose(shares, np.array(counts) / sum(counts), atol=0.03)


def test_diabetes_has_its_published_units():
    whole = tables.diabetes().whole()
    age, sex, bmi = whole.inputs[:, :3].T
    assert (age.min(), age.max()) == (19, 79)
    assert set(sex) == {1, 2}
    assert round(float(bmi.mean()), 1) == 26.4
    assert (whole.targets.min(), whole.targets.max()) == (25, 346)


def test_parts_at_random_are_disjoint():
    everything = Split(np.arange(100), np.arange(100) % 2)
    parts = tables.parts_at_random(everything, validation=10, test=20)
    assert [len(part.targets) for part in parts] == [70, 10, 20]
    assert sorted(np.concatenate([part.inputs for part in parts])) == list(range(100))
    for part in parts:
        assert 2 * part.targets.sum() == len(part.targets)
        np.testing.assert_array_equal(part.inputs % 2, part.targets)
