"""Tests of `jaxdescent.estimators`."""
