"""Namespaces list their public names only, and the types of their signatures are among them."""

import inspect

import pytest

import jaxdescent as jd

NAMESPACES = {
    "flows": jd.flows,
    "sharpness": jd.stability.sharpness,
    "step_sizes": jd.step_sizes,
    "thresholds": jd.thresholds,
}


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_lists_its_public_names_only(name):
    namespace = NAMESPACES[name]
    assert dir(namespace) == sorted(namespace.__all__)


@pytest.mark.parametrize("name", NAMESPACES)
def test_public_names_are_documented(name):
    namespace = NAMESPACES[name]
    for each in namespace.__all__:
        value = getattr(namespace, each)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__doc__, each


@pytest.mark.parametrize("name", NAMESPACES)
def test_return_types_are_public(name):
    namespace = NAMESPACES[name]
    for each in namespace.__all__:
        if inspect.isfunction(value := getattr(namespace, each)):
            returned = inspect.signature(value).return_annotation
            if getattr(returned, "__module__", "").startswith("jaxdescent."):
                assert returned.__name__ in namespace.__all__


def test_the_function_named_sharpness_is_public():
    assert jd.sharpness is jd.stability.sharpness.sharpness
