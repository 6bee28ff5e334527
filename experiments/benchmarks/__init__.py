"""Speed and memory, measured in one process against what a user would use instead."""
