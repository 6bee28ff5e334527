"""Optimizers for agents: pruning inside a transformation, basin hopping, several in one."""
