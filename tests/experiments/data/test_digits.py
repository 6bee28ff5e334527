"""The digits and their fixed parts."""

import zlib

import numpy as np

from experiments.data import digits


def test_parts_never_change():
    data = digits.load()
    checksums = [zlib.crc32(part.inputs.tobytes()) for part in data[1:4]]
    assert checksums == [3743847739, 2398396104, 976538140]


def test_parts_contain_each_image_once_with_its_label():
    data = digits.load()
    bundled = digits.datasets.load_digits()
    whole = data.whole()
    loaded_rows = np.column_stack([whole.inputs * 16, whole.targets])
    bundled_rows = np.column_stack([bundled.data, bundled.target])
    np.testing.assert_array_equal(
        *(rows[np.lexsort(rows.T)] for rows in (loaded_rows, bundled_rows))
    )
    assert (whole.inputs.dtype, whole.targets.dtype) == (np.float32, np.int32)


def test_all_pixels_share_one_scale():
    data = digits.load()
    np.testing.assert_allclose(data.mean, [data.train.inputs.mean()], rtol=1e-6)
    np.testing.assert_allclose(data.std, [data.train.inputs.std()], rtol=1e-6)
    assert np.isfinite(data.normalized(data.test).inputs).all()
