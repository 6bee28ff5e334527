"""Tests of the study of streams."""
