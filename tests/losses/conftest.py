"""Excludes a script that needs PyTorch and Keras from collection."""

collect_ignore = ["make_fixtures.py"]
