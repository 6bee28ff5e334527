"""Derivatives of any update, by running it again on its own inputs."""
