"""Tests of towers run tiny programs, so that compiling is most of the time."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_to_compile(request):
    if not getattr(request.module, "AS_USERS_COMPILE", False):
        request.getfixturevalue("quick_to_compile")
