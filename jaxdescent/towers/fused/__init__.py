"""Derivatives of coordinate-wise updates, at low cost."""
