"""Models whose variables have shapes first, and values later.

A configuration may announce any size. So a model is made without memory for
its weights, and only when their shapes are known to be right, they get their
values: those of a file, for which none need be drawn.
"""

import contextlib

import keras
from keras.src.backend.common import global_state

# Keras keeps the variables without values here.
_PENDING = "uninitialized_variables"


@contextlib.contextmanager
def without_values():
    """A scope in which variables are made without values.

    Yields:
        List; it holds these variables once the scope ends.
    """
    made = []
    before = global_state.get_global_attribute(_PENDING, [])
    global_state.set_global_attribute(_PENDING, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield made
    finally:
        made += global_state.get_global_attribute(_PENDING, [])
        global_state.set_global_attribute(_PENDING, before)


def initialize(variable, value=None) -> None:
    """Gives a variable its first value.

    Args:
        variable: Keras variable that was made in `without_values`.
        value: Array of its shape; by default what its initializer draws.
    """
    if value is not None:
        variable._initializer = lambda shape, dtype: (
            keras.ops.convert_to_tensor(value, dtype)
        )
    variable._deferred_initialize()
