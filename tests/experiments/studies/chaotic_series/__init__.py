"""Tests of the study of chaotic series."""
