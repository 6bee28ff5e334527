"""Every study gives a verdict: the smoke runs of this folder check it."""

import pytest

from experiments import __main__ as command_line


@pytest.fixture(scope="module", autouse=True)
def _every_report_has_a_verdict(request):
    """Checks the results of each run from the command line, of which each study has one here."""
    if request.path.name == "test_resume_flags.py":  # whose studies are replaced
        yield
        return
    write_report = command_line.write_report

    def check_and_write(run, results):
        verdict = results.verdict
        assert verdict.endswith("."), f"{run.description['study']} needs a verdict, got {verdict!r}"
        write_report(run, results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "write_report", check_and_write)
        yield
