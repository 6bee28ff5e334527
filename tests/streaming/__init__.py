"""Tests of `jaxdescent.streaming`."""
