"""Elec2 from CSV: synthetic, broken and real files."""

import numpy as np
import pytest

from experiments.data import elec2
from tests.experiments.data.disk import real, refused, write


def rows(count=20):
    return [
        f"{i},{i % 7 + 1},0.25,0.5,0.75,1,0.{i:02d},0,{'UP' if i % 3 else 'DOWN'}"
        for i in range(count)
    ]


def csv(*lines):
    return "\n".join(lines)


@pytest.mark.parametrize("zipped", [True, False])
def test_rows_are_read_in_order(tmp_path, zipped):
    write(tmp_path / "elec2.csv", csv(*rows()), zipped=zipped)
    data = elec2.load(tmp_path)
    whole = data.whole()
    np.testing.assert_array_equal(whole.inputs[:, 0], np.arange(20))
    np.testing.assert_allclose(whole.inputs[:, 6], np.arange(20) / 100, rtol=1e-6)
    np.testing.assert_array_equal(whole.targets, np.arange(20) % 3 > 0)
    assert [len(part.targets) for part in data[1:4]] == [12, 4, 4]
    assert (whole.inputs.dtype, whole.targets.dtype) == (np.float32, np.int32)
    assert (data.name, data.classes) == ("elec2", 2)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["date,day,period,a,b,c,d,e,class", *rows()], ["line 1", "UP or DOWN", "'class'"]),
        ([*rows(), "1,2,3,4,5,6,7,UP"], ["line 21", "8 numbers", "8 fields"]),
        ([*rows(), "1,2,3,4,5,6,7,8,9,UP"], ["line 21", "8 numbers", "10 fields"]),
        ([*rows(), "1,2,3,4,5,6,7,8,SIDEWAYS"], ["line 21", "UP or DOWN", "'SIDEWAYS'"]),
        ([*rows(), "1,2,3,4,5,6,7,8,up"], ["line 21", "UP or DOWN", "'up'"]),
        ([*rows(), "1,2,?,4,5,6,7,8,UP"], ["line 21", "finite", "'?'"]),
        ([*rows(), "UP"], ["line 21", "1 fields"]),
        ([], ["at least 10 rows", "got 0"]),
        (rows(9), ["at least 10 rows", "got 9"]),
    ],
)
def test_an_invalid_file_is_refused(tmp_path, lines, words):
    path = write(tmp_path / "elec2.csv", csv(*lines))
    with refused(path, *words, "Harries"):
        elec2.load(tmp_path)


def test_a_truncated_gzip_is_refused(tmp_path):
    path = write(tmp_path / "elec2.csv.gz", csv(*rows(200)), zipped=True)
    path.write_bytes(path.read_bytes()[:-20])
    with refused(path, "gzip", "ends early", "Harries"):
        elec2.load(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with refused(tmp_path / "elec2.csv", "missing", "Harries"):
        elec2.load(tmp_path)


def test_the_real_stream_has_its_published_counts():
    data = elec2.load(real("elec2.csv.gz"))
    whole = data.whole()
    assert whole.inputs.shape == (45_312, 8)
    assert np.bincount(whole.targets).tolist() == [26_075, 19_237]
    # Predicting the previous label is correct in 85.33 % of cases, as published.
    assert round(100 * np.mean(whole.targets[1:] == whole.targets[:-1]), 2) == 85.33
    # 944 days of 48 half-hours, in order.
    day, half_hour = whole.inputs[:, 1].reshape(944, 48), whole.inputs[:, 2].reshape(944, 48)
    np.testing.assert_allclose(half_hour, np.tile(np.arange(48) / 47, (944, 1)), atol=1e-5)
    np.testing.assert_array_equal(day, (np.arange(944)[:, None] + 1) % 7 + np.ones(48))
