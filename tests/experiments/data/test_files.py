"""Files are found and read, or refused with a one-line message."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from experiments.data import DataError, files
from tests.experiments.data.disk import npz, refused, write

SOURCE = "the fields (CC0)"


def file(path):
    return files.File(path, SOURCE)


def test_a_message_is_always_one_line():
    for end in ("\n", "\r\n", "\r", "\u2028"):
        assert str(DataError(f"a{end}b")) == "a b"


def test_errors_can_be_pickled():
    assert str(pickle.loads(pickle.dumps(DataError("a: b")))) == "a: b"  # noqa: S301


def test_a_given_folder_is_preferred_to_the_folder_of_the_environment(tmp_path, monkeypatch):
    given, other = tmp_path / "given", tmp_path / "other"
    for place in (given, other):
        write(place / "x", place.name)
    monkeypatch.setenv("JAXDESCENT_DATA", str(other))
    assert files.find(given, "x", SOURCE).text() == "given"
    assert files.find(str(given), "x", SOURCE).text() == "given"
    assert files.find(None, "x", SOURCE).text() == "other"


@pytest.mark.parametrize("unset", [True, False])
def test_a_missing_folder_argument_is_refused(unset, monkeypatch):
    monkeypatch.setenv("JAXDESCENT_DATA", "")
    if unset:
        monkeypatch.delenv("JAXDESCENT_DATA")
    with refused("x", "--data-dir", "JAXDESCENT_DATA", SOURCE):
        files.find(None, "x", SOURCE)


def test_a_path_that_is_not_a_folder_is_refused(tmp_path):
    with refused(tmp_path / "none", "x", "missing", SOURCE):
        files.find(tmp_path / "none", "x", SOURCE)
    path = write(tmp_path / "file", "")
    with refused(path, "must be a folder", "is a file"):
        files.find(path, "x", SOURCE)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "data" / "x", "here")
    assert files.find("~/data", "x", SOURCE).text() == "here"


@pytest.mark.parametrize("name", ["x", "x.gz"])
@pytest.mark.parametrize("place", ["", "sub"])
def test_a_file_is_found_in_folder_and_subfolder_plain_or_gzipped(tmp_path, name, place):
    path = write(tmp_path / place / name, "found")
    assert files.find(tmp_path, "x", SOURCE, subfolder="sub").path == path


def test_the_error_for_a_missing_file_names_the_searched_folders(tmp_path):
    with refused(tmp_path / "x", "missing", "sub", ".gz", SOURCE):
        files.find(tmp_path, "x", SOURCE, subfolder="sub")


@pytest.mark.parametrize("name", ["x", "x.gz"])
@pytest.mark.parametrize("zipped", [True, False])
def test_gzip_is_detected_by_the_contents(tmp_path, name, zipped):
    path = write(tmp_path / name, "contents", zipped=zipped)
    assert file(path).contents() == b"contents"


def test_a_gzip_truncated_at_any_byte_is_refused(tmp_path):
    full = gzip.compress(np.random.default_rng(0).bytes(200))
    for end in (2, 3, 9, 10, 11, 100, len(full) - 8, len(full) - 1):
        path = write(tmp_path / "x.gz", full[:end])
        with refused(path, "gzip", "ends early"):
            file(path).contents()


def test_a_damaged_gzip_is_refused(tmp_path):
    full = gzip.compress(b"contents" * 100)
    for at in (12, len(full) - 6):
        damaged = bytearray(full)
        damaged[at] ^= 255
        path = write(tmp_path / "x.gz", bytes(damaged))
        with refused(path, "gzip"):
            file(path).contents()


def test_an_unreadable_path_is_refused(tmp_path):
    with refused(tmp_path, "cannot be read", "directory"):
        file(tmp_path).contents()
    with refused(tmp_path / "x", "cannot be read", "No such file"):
        file(tmp_path / "x").contents()


def test_text_has_unix_line_ends_and_no_byte_order_mark(tmp_path):
    path = write(tmp_path / "x", b"\xef\xbb\xbfa\r\nb\rc\nd\xc3\xa9\xef\xbb\xbf")
    assert file(path).text() == "a\nb\nc\ndé\ufeff"


@pytest.mark.parametrize(("raw", "byte", "offset"), [(b"ab\xffc", "0xff", 2), (b"\xc3", "0xc3", 0)])
def test_the_error_for_text_that_is_not_utf8_names_the_position(tmp_path, raw, byte, offset):
    path = write(tmp_path / "x", raw)
    with refused(path, "UTF-8", byte, f"offset {offset}"):
        file(path).text()


def test_rows_have_line_numbers_from_1(tmp_path):
    path = write(tmp_path / "x", 'a,b\n\n"c\nd",e\n\nf,g')
    assert list(file(path).rows()) == [(1, ["a", "b"]), (4, ["c\nd", "e"]), (6, ["f", "g"])]


def test_the_error_for_a_field_too_long_for_csv_names_its_line(tmp_path):
    path = write(tmp_path / "x", "a\n" + "b" * 200_000)
    with refused(path, "line 2", "CSV"):
        list(file(path).rows())


@pytest.mark.parametrize("text", ["", "a", "nan", "inf", "-Infinity", "1,5", "0x1"])
def test_a_field_that_is_not_a_finite_number_is_refused(tmp_path, text):
    with refused("x", "line 7", "finite", repr(text)):
        file(Path("x")).number(7, text)


def test_numbers_are_read():
    assert [file(Path("x")).number(1, text) for text in ("1", "-2.5", "1e3")] == [1, -2.5, 1000]


def test_the_requested_arrays_are_returned(tmp_path):
    path = write(tmp_path / "x.npz", npz(a=np.arange(3), b=np.ones(2)))
    arrays = file(path).arrays(["a"])
    assert list(arrays) == ["a"]
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])


def test_the_error_for_a_missing_key_lists_the_arrays_of_the_archive(tmp_path):
    path = write(tmp_path / "x.npz", npz(a=np.arange(3), b=np.ones(2)))
    with refused(path, "a, c", "holds a, b"):
        file(path).arrays(["a", "c"])


def test_an_archive_truncated_at_any_byte_is_refused(tmp_path):
    full = npz(a=np.arange(300), b=np.ones(2))
    for end in (0, 4, 100, len(full) // 2, len(full) - 1):
        path = write(tmp_path / "x.npz", full[:end])
        with refused(path, "npz"):
            file(path).arrays(["a"])


def test_an_archive_with_a_changed_byte_is_refused_unless_the_byte_is_unused(tmp_path):
    full = npz(a=np.arange(20))
    messages = []
    for at in range(len(full)):
        damaged = bytearray(full)
        damaged[at] ^= 255
        path = write(tmp_path / "x.npz", bytes(damaged))
        try:
            loaded = file(path).arrays(["a"])["a"]
        except DataError as error:
            messages.append(str(error))
        else:
            np.testing.assert_array_equal(loaded, np.arange(20))
    assert len(messages) > 160
    assert all(message.startswith(f"{path}: must") for message in messages)


def test_other_files_than_archives_are_refused(tmp_path):
    path = write(tmp_path / "x.npz", "<!DOCTYPE html>")
    with refused(path, "npz archive"):
        file(path).arrays(["a"])
    np.save(tmp_path / "x.npy", np.ones(3))
    with refused(tmp_path / "x.npy", "npz archive"):
        file(tmp_path / "x.npy").arrays(["a"])


def test_an_archive_of_pickled_objects_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = write(tmp_path / "x.npz", npz(a=np.array([Trap()], object)))
    with refused(path, "a must hold numbers or texts, got objects"):
        file(path).arrays(["a"])
    assert not (tmp_path / "sprung").exists()
