"""The environment has versions, device and commit, or why the commit is unknown."""

import importlib.metadata
import subprocess
from types import SimpleNamespace

import jax
import pytest

from experiments.runner import environment as module
from experiments.runner.environment import environment


def test_it_has_versions_device_and_commit():
    found = environment()
    for name in ("jax", "jaxlib", "optax", "flax", "numpy", "jaxdescent"):
        assert found[name] == importlib.metadata.version(name)
    assert found["device"] == f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    assert found["devices"] == jax.device_count()
    assert found["git_commit"]


def test_a_checkout_that_is_not_installed_runs_too(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "version", version)
    assert environment()["jaxdescent"] == "not installed"


@pytest.mark.parametrize(
    ("answer", "commit"),
    [
        (SimpleNamespace(returncode=0, stdout="0123456789ab-dirty\n"), "0123456789ab-dirty"),
        (SimpleNamespace(returncode=128, stdout=""), "unknown: not in a git checkout"),
        (FileNotFoundError("git"), "unknown: git does not answer"),
        (subprocess.TimeoutExpired("git", 10), "unknown: git does not answer"),
    ],
)
def test_the_commit_is_the_answer_of_git_or_why_it_is_unknown(monkeypatch, answer, commit):
    def run(*_, **__):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module.subprocess, "run", run)
    assert environment()["git_commit"] == commit
