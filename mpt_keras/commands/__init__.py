"""What `mpt-keras` does with a file: a module per command.

Each has `HELP`, `add_arguments(parser)` and `run(options)`.
"""
