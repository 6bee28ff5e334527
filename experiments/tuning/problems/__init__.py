"""Problems of generated workloads, each a function that returns a `generated.Problem`.

streams.py      targets that drift or jump
"""
