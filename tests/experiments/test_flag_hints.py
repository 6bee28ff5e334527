"""An unknown flag is answered with the flag that its user means, or with none."""

import dataclasses

import pytest

from experiments import studies
from experiments.flag_hints import _OTHER_NAMES, suggest
from experiments.studies import train


def names(settings):
    return [field.name for field in dataclasses.fields(settings)]


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        ("--lr", "--learning-rate"),
        ("-lr", "--learning-rate"),
        ("--LR=0.1", "--learning-rate"),
        ("--learning_rat", "--learning-rate"),
        ("--batch", "--batch-size"),
        ("--bs", "--batch-size"),
        ("--batchsize", "--batch-size"),
        ("--epochs", "--steps (an epoch is the number of examples divided by --batch-size)"),
        ("--iterations", "--steps"),
        ("--max-steps", "--steps"),
        ("--wd", "--weight-decay"),
        ("--momentum", "--optimizer momentum, which has momentum 0.9"),
        ("--opt", "--optimizer"),
        ("--sgd", "--optimizer sgd"),
        ("--hidden-size", "--width"),
        ("--layers", "--depth"),
        ("--dataset", "--data"),
        ("--output-dir", "--runs"),
        ("--eval-interval", "--evaluate-every"),
        ("--grad-clip", "--clip"),
        ("--seq-len", "--context"),
        ("--vocab-size", "--vocabulary-size"),
        ("--continue", "--resume"),
        ("--label", "--target"),
        ("--population", "--agents"),
        ("-steps", "--steps"),
        ("--xyz", ""),
        ("--", ""),
    ],
)
def test_train_suggests_the_flag_that_is_meant(unknown, expected):
    assert suggest(unknown, [*names(train.Settings), "resume"]) == expected


def test_a_flag_that_the_study_lacks_is_not_suggested():
    known = names(studies.load("quickstart").Settings)
    assert [suggest(word, known) for word in ("--lr", "--wd", "--epochs", "--bs")] == [""] * 4
    assert suggest("--optimizer", names(studies.load("league").Settings)) == "--optimizers"


def test_a_remark_names_only_flags_that_the_study_has():
    assert suggest("--epochs", ["steps"]) == "--steps"
    assert suggest("--epochs", ["steps", "batch_size"]).endswith("divided by --batch-size)")


def test_no_guess_is_the_name_of_another_setting():
    known = {*names(train.Settings)}
    assert {*_OTHER_NAMES} <= known | {"resume"}
    guesses = [word for words in _OTHER_NAMES.values() for word in words.split()]
    assert len({*guesses}) == len(guesses)
    assert not {*guesses} & known
