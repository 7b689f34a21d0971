"""What a runtime cannot run."""


class UnsupportedLayerError(ValueError):
    """A layer that the runtime does not compute; the message names it."""
