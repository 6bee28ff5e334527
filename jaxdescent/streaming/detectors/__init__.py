"""Drift detectors: one protocol, one file for each detector."""
