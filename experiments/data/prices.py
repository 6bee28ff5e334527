"""Price series: bundled, and from CSV files in the format of market data sites.

A row is a day: the opening, highest, lowest and closing price and the traded volume (OHLCV).
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import cbook

from experiments.data import files
from experiments.data.files import File
from experiments.data.series import Series

COLUMNS = ("Open", "High", "Low", "Close", "Volume")


def goog() -> Series:
    """Loads daily prices of Google's shares, from 19 August 2004 to 14 October 2008.

    Values f32[1047, 5]: prices in US dollars and the number of shares traded.

    Source: Yahoo Finance, bundled with matplotlib as sample data (`goog.npz`, matplotlib
    license, PSF-like).

    Raises:
      DataError: this matplotlib does not include its sample data.

    Example:
      >>> series = goog()
      >>> series.values.shape, str(series.times[0])
      ((1047, 5), '2004-08-19')
    """
    source = "matplotlib's sample data (Yahoo Finance; matplotlib license, PSF-like)"
    path = Path(cbook.get_sample_data("goog.npz", asfileobj=False))
    prices = File(path, source).arrays(["price_data"])["price_data"]
    values = np.stack([prices[column.lower()] for column in COLUMNS], axis=1)
    return Series("goog", values.astype(np.float32), COLUMNS, prices["date"], path, source)


def sp500(data_dir: str | os.PathLike[str] | None = None) -> Series:
    """Loads daily values of the S&P 500 index, from `sp500_daily.csv` or `.csv.gz`.

    Values f32[t, 5]: points of the index and the number of shares traded; 4,697 days from
    3 January 2000 to 31 August 2018.

    Args:
      data_dir: the folder; None for the environment's `JAXDESCENT_DATA`.

    Raises:
      DataError: the file is missing or invalid.
    """
    source = (
        "any market data site (the S&P 500 index, daily, symbol ^GSPC), as CSV with the columns "
        f"Date, {', '.join(COLUMNS)}"
    )
    return _read("sp500", files.find(data_dir, "sp500_daily.csv", source))


def from_csv(path: str | os.PathLike[str]) -> Series:
    """Loads an OHLCV file: UTF-8 CSV, gzipped or not, with a header, the oldest day first.

    The columns Date, Open, High, Low, Close and Volume are found by name in any order and case;
    other columns are ignored. Dates are ISO (`2000-01-03`) or `dd-mm-yy` (`03-01-00`; 69 to 99 mean
    1969 to 1999).

    Args:
      path: the file; the series is named after it.

    Returns:
      Values f32[t, 5] in the units of the file.

    Raises:
      DataError: the file is missing or invalid; the message names the line of an invalid row.
    """
    path = Path(path).expanduser()
    source = f"any market data site, as CSV with the columns Date, {', '.join(COLUMNS)}"
    series = _read(path.name.split(".")[0], File(path, source))
    return series._replace(source=f"the CSV file {path.name}")


def _read(name: str, file: File) -> Series:
    rows = file.rows()
    header = [title.strip().lower() for title in next(rows, (1, []))[1]]
    wanted = ("Date", *COLUMNS)
    missing = [title for title in wanted if title.lower() not in header]
    if missing:
        raise file.error(f"line 1 must name the columns {', '.join(wanted)}; {missing[0]} is not")
    places = [header.index(title.lower()) for title in wanted]
    times, values = [], []
    for line, row in rows:
        if len(row) != len(header):
            raise file.error(f"line {line} must have {len(header)} fields, got {len(row)}")
        date, *numbers = (row[place].strip() for place in places)
        times.append(_day(file, line, date))
        if len(times) > 1 and times[-1] <= times[-2]:
            raise file.error(f"line {line} must be of a later day than the row before, got {date}")
        values.append([file.number(line, text) for text in numbers])
    if not values:
        raise file.error("must hold at least one row after its header")
    days = np.array(times, "datetime64[D]")
    return Series(name, np.array(values, np.float32), COLUMNS, days, file.path, file.source)


def _day(file: File, line: int, text: str) -> Any:
    for read in (datetime.fromisoformat, lambda text: datetime.strptime(text, "%d-%m-%y")):
        try:
            return read(text).date()
        except ValueError:
            continue
    raise file.error(f"line {line} must have a date such as 2000-01-03 or 03-01-00, got {text!r}")
