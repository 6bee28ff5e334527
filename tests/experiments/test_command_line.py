"""The command line says what is there, and every mistake in one line."""

import pytest

from experiments import studies
from experiments.__main__ import main


def said(capsys, *arguments):
    """Exit code, standard output and standard error."""
    try:
        main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_lists_every_study_with_its_summary(capsys, arguments):
    code, out, _ = said(capsys, *arguments)
    assert code == 0
    for name in studies.NAMES:
        assert f"{name} " in out
        assert studies.summary(name) in out


def test_help_of_a_study_comes_from_its_settings(capsys):
    code, out, _ = said(capsys, "quickstart", "--help")
    assert code == 0
    for flag in ("--seeds", "--scale", "--seed", "--runs", "--picture"):
        assert flag in out
    assert "Networks trained side by side" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quickstrat"], ["unknown study 'quickstrat'", "did you mean quickstart?"]),
        (["quickstart", "--seeeds", "3"], ["unknown flag '--seeeds'", "did you mean --seeds?"]),
        (["quickstart", "--seeds", "0"], ["--seeds must be in [1, inf), got 0"]),
        (["quickstart", "--seed", "-1"], ["--seed must be in [0, 4294967296), got -1"]),
        (["quickstart", "--seed", "9" * 20], ["--seed must be in [0, 4294967296), got 999"]),
        (["quickstart", "--picture", "a.xyz"], ["--picture must be a .png", "a.xyz"]),
        (["quickstart", "--picture", "/no/where/a.png"], ["--picture", "/no/where/a.png"]),
        (["quickstart", "--picture", "a.png", "--grid"], ["--picture", "--grid"]),
        (["quickstart", "--seeds", "many"], ["--seeds", "many", "--help lists the flags"]),
        (["quickstart", "--scale", "huge"], ["--scale", "huge", "small", "--help lists the flags"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, words):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_an_unwritable_folder_is_one_line_and_exit_code_2(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = said(capsys, "quickstart", "--runs", str(tmp_path / "file" / "runs"))
    assert code == 2
    assert err.count("\n") == 1
    assert "cannot write" in err
    assert "--runs PATH" in err
