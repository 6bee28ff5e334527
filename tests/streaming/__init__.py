"""Tests of learners, detectors and loops for streams."""
