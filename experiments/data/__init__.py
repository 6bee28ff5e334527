"""Data sets, each as arrays on the host."""
