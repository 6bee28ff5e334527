"""Learners for streams: optax transformations with a guarantee for every sequence of losses."""
