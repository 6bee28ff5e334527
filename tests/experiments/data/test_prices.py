"""Prices from CSV: synthetic, broken and real files."""

import numpy as np
import pytest

from experiments.data import prices
from tests.experiments.data.disk import real, refused, write

HEADER = "Date,Open,High,Low,Close,Volume"
ROWS = ["03-01-00,1,2,0.5,1.5,100", "04-01-00,1.5,3,1,2,200", "01-02-00,2,4,2,3.25,3e9"]
VALUES = [[1, 2, 0.5, 1.5, 100], [1.5, 3, 1, 2, 200], [2, 4, 2, 3.25, 3e9]]
DAYS = np.array(["2000-01-03", "2000-01-04", "2000-02-01"], "datetime64[D]")


def csv(*rows, header=HEADER):
    return "\n".join([header, *rows]) + "\n"


def assert_read(series):
    np.testing.assert_array_equal(series.values, np.float32(VALUES))
    np.testing.assert_array_equal(series.times, DAYS)
    assert series.values.dtype == np.float32
    assert series.times.dtype == "datetime64[D]"
    assert series.columns == ("Open", "High", "Low", "Close", "Volume")


@pytest.mark.parametrize("zipped", [True, False])
def test_written_files_are_read(tmp_path, zipped):
    path = write(tmp_path / "mine.csv", csv(*ROWS), zipped=zipped)
    series = prices.from_csv(path)
    assert_read(series)
    assert (series.name, series.file) == ("mine", path)
    write(tmp_path / "sp500_daily.csv", csv(*ROWS), zipped=zipped)
    assert_read(prices.sp500(tmp_path))


@pytest.mark.parametrize("end", ["", " 00:00:00-05:00", "T16:00:00"])
def test_iso_dates_are_read(tmp_path, end):
    rows = [f"{day}{end},{row.split(',', 1)[1]}" for day, row in zip(DAYS, ROWS, strict=True)]
    assert_read(prices.from_csv(write(tmp_path / "x.csv", csv(*rows))))


def test_columns_are_found_by_name(tmp_path):
    header = "Adj Close, volume,CLOSE,low,high,open,date"
    rows = [",".join(["7", *row.split(",")[::-1]]) for row in ROWS]
    assert_read(prices.from_csv(write(tmp_path / "x.csv", csv(*rows, header=header))))


def test_windows_line_ends_blank_lines_and_a_byte_order_mark_are_accepted(tmp_path):
    text = "\ufeff" + csv(*ROWS).replace("\n", "\r\n") + "\r\n\r\n"
    assert_read(prices.from_csv(write(tmp_path / "x.csv", text)))


def test_two_digit_years_turn_at_69(tmp_path):
    rows = ["31-12-69,1,1,1,1,1", "03-01-00,1,1,1,1,1", "31-12-68,1,1,1,1,1"]
    times = prices.from_csv(write(tmp_path / "x.csv", csv(*rows))).times
    assert times.astype(str).tolist() == ["1969-12-31", "2000-01-03", "2068-12-31"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["line 1", "Date, Open, High, Low, Close, Volume"]),
        (csv(header="Date,Open,High,Low,Close"), ["line 1", "Volume is not"]),
        (csv(*ROWS, header="a,b,c,d,e,f"), ["line 1", "Date is not"]),
        (csv(), ["at least one row"]),
        (csv(*ROWS, "02-02-00,1,1,1,1"), ["line 5", "6 fields", "got 5"]),
        (csv(*ROWS, "02-02-00,1,1,1,1,1,1"), ["line 5", "6 fields", "got 7"]),
        (csv(*ROWS, "02-02-00,1,1,one,1,1"), ["line 5", "finite", "'one'"]),
        (csv(*ROWS, "02-02-00,1,1,,1,1"), ["line 5", "finite", "''"]),
        (csv(*ROWS, "02-02-00,1,nan,1,1,1"), ["line 5", "finite", "'nan'"]),
        (csv(*ROWS, "32-02-00,1,1,1,1,1"), ["line 5", "date", "'32-02-00'"]),
        (csv(*ROWS, "02/03/2000,1,1,1,1,1"), ["line 5", "date", "'02/03/2000'"]),
        (csv(*ROWS, "01-02-00,1,1,1,1,1"), ["line 5", "later", "01-02-00"]),
        (csv(*ROWS[::-1]), ["line 3", "later", "04-01-00"]),
        (csv(ROWS[0], "", "", "x"), ["line 5", "6 fields"]),
        (csv("caf\udce9").encode("utf-8", "surrogateescape"), ["UTF-8", "0xe9"]),
        ("<!DOCTYPE html>", ["line 1", "Date is not"]),
    ],
)
def test_an_invalid_file_is_refused(tmp_path, text, words):
    path = write(tmp_path / "sp500_daily.csv", text)
    with refused(path, *words, "S&P 500"):
        prices.sp500(tmp_path)
    with refused(path, *words, "Date, Open"):
        prices.from_csv(path)


def test_a_missing_file_is_refused(tmp_path):
    with refused(tmp_path / "sp500_daily.csv", "missing", "S&P 500"):
        prices.sp500(tmp_path)
    with refused(tmp_path / "x.csv", "No such file"):
        prices.from_csv(tmp_path / "x.csv")


def test_google_is_bundled_with_its_known_days():
    series = prices.goog()
    assert series.values.shape == (1047, 5)
    assert series.times[[0, -1]].astype(str).tolist() == ["2004-08-19", "2008-10-14"]
    # The first day of trading; the offering price was 85 dollars.
    np.testing.assert_allclose(series.values[0], [100, 104.06, 95.96, 100.34, 22351900], rtol=1e-6)
    assert (np.diff(series.times) > np.timedelta64(0, "D")).all()
    opening, high, low, close, _ = series.values.T
    assert (low <= np.minimum(opening, close)).all()
    assert (high >= np.maximum(opening, close)).all()


def test_the_real_index_has_its_known_days():
    series = prices.sp500(real("sp500_daily.csv.gz"))
    assert series.values.shape == (4697, 5)
    assert series.times[[0, -1]].astype(str).tolist() == ["2000-01-03", "2018-08-31"]
    np.testing.assert_allclose(series.values[0, 3], 1455.22, atol=0.01)
    # The low of the financial crisis, 9 March 2009.
    close = series.values[:, series.columns.index("Close")]
    assert str(series.times[close.argmin()]) == "2009-03-09"
    np.testing.assert_allclose(close.min(), 676.53, atol=0.01)
