"""What ends a run, said in one line."""


class RunError(Exception):
    """A run that cannot start or finish, with what to do about it."""
