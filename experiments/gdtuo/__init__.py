"""The published package of hypergradient descent: its rules, and its table of results."""
