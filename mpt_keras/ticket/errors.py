"""What is raised for a file that is no whole, valid ticket."""


class TicketError(ValueError):
    """A file that is not a whole, valid ticket, or not for this base.

    Its text says what was expected and what was found.
    """
