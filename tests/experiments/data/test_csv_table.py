"""A user's CSV file becomes a data set, or is refused in one line that says what to change."""

import gzip
import re

import numpy as np
import pytest

from experiments.data import DataError, csv_table

HEADER = "size,color,kind"
ROWS = [f"{i}.5,{('red', 'green', 'blue')[i % 3]},{'ab'[i % 2]}" for i in range(30)]


def text_of(rows=ROWS, header=HEADER):
    return "\n".join([header, *rows]) + "\n"


def changed(line, text):
    """Returns the file with another text in a line, counted from 1."""
    lines = text_of().splitlines()
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.fixture
def load(tmp_path):
    def load_text(content, target="kind", **options):
        path = tmp_path / "my.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return csv_table.load(path, target, **options)

    return load_text


def test_numbers_are_one_input_and_texts_are_one_input_each(load):
    data = load(text_of())
    assert data.columns.inputs == ["size", "color=blue", "color=green", "color=red"]
    assert data.labels == ("a", "b")
    inputs, targets = data.whole()
    places = {"blue": 0, "green": 1, "red": 2}
    by_size = {float(row.split(",")[0]): row.split(",")[1:] for row in ROWS}
    assert {*inputs[:, 0]} == {*by_size}
    for (size, *one_hot), label in zip(inputs, targets, strict=True):
        color, kind = by_size[size]
        assert one_hot == [float(place == places[color]) for place in range(3)]
        assert data.labels[label] == kind


def test_a_fifth_is_for_validation_and_a_fifth_for_test_with_all_classes(load):
    data = load(text_of())
    assert [np.bincount(part.targets).tolist() for part in data[1:4]] == [[9, 9], [3, 3], [3, 3]]
    np.testing.assert_allclose(data.mean, data.train.inputs.mean(0), rtol=1e-6)
    assert not np.allclose(data.mean, data.whole().inputs.mean(0))


@pytest.mark.parametrize(
    "content",
    [
        text_of().replace(",", ";"),
        text_of().replace(",", "\t"),
        text_of().replace(",", " , ").replace("\n", "\r\n") + ",,\n\n",
        "\ufeff" + text_of(),
        gzip.compress(text_of().encode()),
        text_of().replace("color", '"color"').replace("red", '"red"'),
    ],
    ids=["semicolons", "tabs", "spaces", "byte order mark", "gzip", "quotes"],
)
def test_the_same_table_in_another_dialect_is_the_same_data(load, content):
    data, expected = load(content), load(text_of())
    np.testing.assert_array_equal(data.train.inputs, expected.train.inputs)
    assert data.columns == expected.columns


def test_a_quoted_cell_may_contain_the_delimiter(load):
    assert load(text_of().replace("red", '"re,d"')).columns.texts[1] == ("blue", "green", "re,d")


@pytest.mark.parametrize(
    ("values", "task", "labels", "reason"),
    [
        (["x", "y"], None, ("x", "y"), "classification of 'y', which has 2 different texts"),
        ([2, 10, 3], None, ("2", "3", "10"), "has 3 different whole numbers (--task regression"),
        (["1.0", "0.0"], None, ("0", "1"), "2 different whole numbers"),
        ([2, 10, 3], "regression", (), "regression of 'y', which has 3 different whole numbers"),
        ([0.5, 2], None, (), "regression of 'y', which has 2 different numbers"),
        ([2**53, 2**53 + 1], None, (str(2**53), str(2**53 + 1)), "2 different whole numbers"),
        (range(21), None, (), "regression of 'y', which has 21 different whole numbers"),
        (range(21), "classification", (*map(str, range(21)),), "classification of 'y'"),
    ],
)
def test_the_target_decides_the_task_unless_it_is_given(load, values, task, labels, reason):
    values = [*values] * 40
    rows = [f"{i % 7},{value}" for i, value in enumerate(values)]
    data = load(text_of(rows, "x,y"), "y", task=task)
    assert (data.classes, data.labels) == (len(labels), labels)
    assert reason in data.source
    if not labels:
        assert {*data.whole().targets[:, 0]} == {*values}


def test_values_to_predict_must_be_resolved(load):
    rows = [f"{i % 7},{1.7e9 + i}" for i in range(40)]
    with pytest.raises(DataError, match="column 'y': must have a spread that float32 resolves"):
        load(text_of(rows, "x,y"), "y")


def test_a_first_line_that_is_data_is_named_where_the_target_is_not_found(load):
    rows = text_of(["5.1,3.5,a"] * 9, "5.1,3.5,a")
    with pytest.raises(ValueError, match=r"5\.1, 3\.5, a\); the first line must have the names"):
        load(rows, "kind")
    with pytest.raises(ValueError, match="did you mean kind") as caught:
        load(text_of(), "kinds")
    assert "looks like data" not in str(caught.value)


def test_at_most_ten_columns_are_named(load):
    header = ",".join(f"c{i}" for i in range(13))
    with pytest.raises(
        ValueError, match=r"did you mean c12\? .*the columns are c0, .*, c9 and 3 more"
    ):
        load(text_of([header.replace("c", "1")] * 3, header), "cc12")


def test_ignored_columns_are_not_read(load):
    rows = [f"{row},note {i}" for i, row in enumerate(ROWS)]
    data = load(text_of(rows, f"{HEADER},note"), ignore=["note", "size"])
    assert data.columns.names == ("color",)


def test_columns_without_information_are_remarked(load):
    rows = [f"{i + 7},{row},4" for i, row in enumerate(ROWS)]
    data = load(text_of(rows, f",{HEADER},c"))
    assert "constant in the training part: c" in data.source
    assert data.advice == (
        "Column '' counts up from row to row: unless it describes the rows, leave it out with "
        "--ignore ''.",
    )
    assert data.std[-1] == 1


@pytest.mark.parametrize(
    ("numbers", "is_advised"),
    [
        (range(1, 21), True),
        (range(100, 300, 10), True),
        ([*range(19), 18], False),
        ([*range(1, 20), 0], False),
        ([0.5 * i for i in range(20)], False),
    ],
)
def test_advice_is_about_whole_numbers_that_count_up(load, numbers, is_advised):
    data = load(text_of([f"{n},{'ab'[i % 2]}" for i, n in enumerate(numbers)], "n,y"), "y")
    assert bool(data.advice) == is_advised


ERRORS = {
    "a missing value": (
        changed(5, ",red,a"),
        "lack one); fill it in or remove the row, or leave it out with --ignore size",
    ),
    "a missing text": (
        changed(6, "1,NA,a"),
        "column 'color': must have a value, got 'NA' (1 of 30 rows lack one); fill it in or remove "
        "the row, or leave it out with --ignore color",
    ),
    "a missing target": (
        changed(6, "1,red,?"),
        "column 'kind': must have a value, got '?' (1 of 30 rows lack one); fill it in or remove "
        "the row\n",
    ),
    "missing values in all columns": (
        text_of([f"{',' * 7}{row}" for row in ROWS], f"a,b c,d,e,f,g,h,{HEADER}"),
        "'a': must have a value, got '' (30 of 30 rows lack one; so do rows of 'b c', 'd', 'e', "
        "'f' and 2 more); fill it in or remove the row, or leave columns out with --ignore a 'b c' "
        "d e f",
    ),
    "a text cell": (changed(7, "1O,red,a"), "line 7, column 'size': must be a finite number in"),
    "infinity": (changed(7, "inf,red,a"), "line 7, column 'size': must be a finite number"),
    "more than float32": (changed(7, "1e39,red,a"), "must be a finite number in float32, got '1e3"),
    "decimal commas": (
        text_of().replace(",", ";").replace(".", ","),
        "line 2, column 'size': must be a finite number in float32, got '0,5'; write decimals",
    ),
    "an id": (
        text_of([f"k{i},{row}" for i, row in enumerate(ROWS)], f"name,{HEADER}"),
        "column 'name': must be numbers or at most 20 different texts, got 30 different texts, "
        "such as 'k0'; leave it out with --ignore name",
    ),
    "seconds since 1970": (
        text_of([f"{1700000000 + i},red,{'ab'[i % 2]}" for i in range(30)]),
        "line 2, column 'size': must have a spread that float32 resolves, got numbers near "
        "1700000000 with the standard deviation 8.66; subtract an offset",
    ),
    "numbers that are equal in float64": (
        text_of([f"{2**60 + i},red,{'ab'[i % 2]}" for i in range(30)]),
        f"got numbers near {2**60} with the standard deviation 0; subtract",
    ),
    "a rare class": (
        changed(9, "1,red,c"),
        "line 9, column 'kind': must have at least 3 examples of each class for three parts, got 1",
    ),
    "one class": (text_of([f"{i},red,a" for i in range(30)]), "at least two different values"),
    "few rows": (
        text_of([f"{i},red,{'abc'[i % 3]}" for i in range(10)]),
        "must have at least 11 rows for 3 classes in three parts, got 10",
    ),
    "no rows": (HEADER, "must have rows below the column names of line 1"),
    "nothing": ("\n\n", "must have a line of column names and rows below it, but is empty"),
    "one column": ("a b\n1\n", "the names of at least two columns, separated by commas"),
    "no header": (text_of(["1,2,3"] * 9, "1,2,3"), "line 1 must have the names of the columns"),
    "a repeated name": (text_of(header="a,a,kind"), "got 'a' 2 times; rename them"),
    "repeated data in place of names": (
        text_of(["5.1,5.1,a"] * 9, "5.1,5.1,a"),
        "2 times; rename them; the first line must have the names of the columns, but it looks",
    ),
    "a short row": (changed(8, "1,red"), "line 8 must have 3 cells, as the column names in line 1"),
    "another encoding": (text_of().replace("red", "röd").encode("latin-1"), "save it as UTF-8"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_unsuitable_table_is_refused_in_one_line(load, tmp_path, name):
    content, message = ERRORS[name]
    with pytest.raises(DataError) as caught:
        load(content)
    assert str(caught.value).startswith(f"{tmp_path / 'my.csv'}: ")
    assert message in f"{caught.value}\n"
    assert "get it from" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": None}, "--target must name the column of PATH to predict, one of size, color"),
        (
            {"target": "kin"},
            "--target must be a column of PATH, got 'kin'; did you mean kind? (the columns are",
        ),
        (
            {"ignore": ["x"]},
            "--ignore must be a column of PATH, got 'x' (the columns are size, c",
        ),
        ({"ignore": ["size", "color"]}, "--ignore must leave the target and a column to predict"),
        ({"ignore": ["kind"]}, "--ignore must leave the target"),
        ({"task": "regression"}, "line 2, column 'kind': must be a finite number in float32, got "),
        ({"target": "size", "task": "classification"}, "or a whole number with --task classifica"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(load, tmp_path, options, message):
    message = message.replace("PATH", str(tmp_path / "my.csv"))
    with pytest.raises(ValueError, match=re.escape(message)):
        load(text_of(), **options)
