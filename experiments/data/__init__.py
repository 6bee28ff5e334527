"""Data sets, each as arrays on the host.

    from experiments import data
    digits = data.load("digits")
    mnist = data.load("mnist", data_dir="data")

`data.NAMES` lists the data sets; `data.entry(name)` describes one. Data sets that are not bundled
are read from a folder: `data_dir`, or the environment variable `JAXDESCENT_DATA`. Problems with a
file raise a `DataError`, whose message is one line that says what to do.
"""

from experiments.data.corpus import Corpus as Corpus
from experiments.data.dataset import Dataset as Dataset
from experiments.data.dataset import Split as Split
from experiments.data.files import DataError as DataError
from experiments.data.forecasting import windows as windows
from experiments.data.registry import KINDS as KINDS
from experiments.data.registry import NAMES as NAMES
from experiments.data.registry import Entry as Entry
from experiments.data.registry import entry as entry
from experiments.data.registry import load as load
from experiments.data.series import Series as Series
