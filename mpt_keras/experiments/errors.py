"""What ends a run, said in one line."""


class RunError(Exception):
    """A run that cannot start or finish, with what to do about it."""


class WorkerLost(RunError):
    """Another worker is gone: this process must start again to go on.

    A command does so itself (`restart.start_again`).
    """
