"""Runs are named by the settings in which they differ, and each name is unique."""

import pytest

from experiments.runner.run_names import run_names


def names(*settings, study="train"):
    return run_names([{"study": study, "settings": each} for each in settings])


def test_a_name_is_the_setting_that_differs():
    common = {"width": 3, "runs": "a"}
    other = {"width": 3, "runs": "b"}
    assert names({**common, "optimizer": "adam"}, {**other, "optimizer": "sgd"}) == [
        "optimizer adam",
        "optimizer sgd",
    ]


def test_a_name_is_the_title_of_the_report_where_titles_differ():
    settings = {"optimizer": "adam", "learning_rate": 0.1}
    runs = [
        ("digits, Adam", settings),
        ("digits, self-tuning Adam", {**settings, "self_tuning": True}),
        ("digits, SGD", {**settings, "optimizer": "sgd"}),
        ("digits, SGD", {**settings, "optimizer": "sgd", "learning_rate": 0.2}),
    ]
    described = [{"study": "train", "title": title, "settings": each} for title, each in runs]
    assert run_names(described[:3]) == ["Adam", "self-tuning Adam", "SGD"]
    assert run_names(described[1:]) == ["self-tuning Adam", "SGD", "SGD, learning rate 0.2"]
    assert run_names(described[2:]) == ["learning rate 0.1", "learning rate 0.2"]
    titles = ["wine, Adam, 2 agents", "iris, Adam, 2 agents"]
    described = [{"study": "train", "title": title, "settings": {}} for title in titles]
    assert run_names(described) == ["wine", "iris"]
    del described[0]["title"]
    assert run_names(described) == ["train #1", "train #2"]


def test_a_setting_that_tells_no_further_runs_apart_is_left_out():
    first, second = {"steps": 10, "evaluate_every": 1}, {"steps": 20, "evaluate_every": 2}
    assert names(first, second) == ["steps 10", "steps 20"]
    assert names(first, second, {**second, "evaluate_every": 5}) == [
        "steps 10, evaluate every 1",
        "evaluate every 2",
        "evaluate every 5",
    ]


def test_the_seed_is_named_only_if_no_other_setting_tells_runs_apart():
    assert names({"seed": 0, "rate": 0.1}, {"seed": 1, "rate": 0.2}) == ["rate 0.1", "rate 0.2"]
    assert names({"seed": 0}, {"seed": 1}) == ["seed 0", "seed 1"]


def test_values_that_most_runs_have_are_left_out():
    plain = {"optimizer": "adam", "tower": 0, "self_tuning": False}
    changes = [{}, {"tower": 1}, {"self_tuning": True}, {"optimizer": "sgd", "tower": 1}]
    assert names(*({**plain, **change} for change in changes[:3])) == [
        "common settings",
        "tower 1",
        "self tuning",
    ]
    assert names(*({**plain, **change} for change in changes)) == [
        "tower 0",
        "tower 1",
        "tower 0, self tuning",
        "optimizer sgd, tower 1",
    ]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (True, False, ["bias", "no bias"]),
        (None, 3, ["default bias", "bias 3"]),
        ("/data/a.txt", "/data/b.txt", ["bias a.txt", "bias b.txt"]),
        (["x", "y"], ["x"], ["bias x y", "bias x"]),
        ("a" * 99, "b", [f"bias {'a' * 29}…", "bias b"]),
        ("a" * 99, "a" * 98, [f"bias {'a' * 29}… #1", f"bias {'a' * 29}… #2"]),
        (1, 1, ["train #1", "train #2"]),
    ],
)
def test_values_are_short(first, second, expected):
    assert names({"bias": first}, {"bias": second}) == expected


def test_runs_of_several_studies_have_the_name_of_their_study():
    studies = [("train", {"tower": 0}), ("train", {"tower": 1}), ("functions", {"seed": 0})]
    descriptions = [{"study": study, "settings": settings} for study, settings in studies]
    assert run_names(descriptions) == ["train, tower 0", "train, tower 1", "functions"]


def test_twelve_runs_of_a_grid_have_twelve_names():
    grid = [{"lr": 10.0**-i, "optimizer": name} for i in range(4) for name in ("a", "b", "c")]
    found = names(*grid)
    assert len({*found}) == 12
    assert found[0] == "lr 1.0, optimizer a"
