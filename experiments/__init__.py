"""Studies and benchmarks that use jaxdescent, and what they share."""
