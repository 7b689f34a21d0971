"""What ends a run, said in one line."""


class RunError(Exception):
    """A run that cannot start or finish, with what to do about it.

    Example:

    >>> try:
    ...     mpt_keras.experiments.report("none.jsonl")
    ... except RunError as error:
    ...     print(error)
    No finished run in 'none.jsonl'. Expected the folder of a sweep ...
    """


class WorkerLost(RunError):
    """Another worker is gone: this process must start again to go on.

    A command does so itself (`restart.start_again`).
    """
