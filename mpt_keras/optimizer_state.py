"""What an optimizer keeps from one step to the next: momenta, step count."""

import numpy as np
from keras import ops


def state_of(optimizer):
    """Returns the values of an optimizer's variables, NumPy arrays.

    None if it has not trained yet, so that it has no momenta.
    """
    if optimizer is None or not optimizer.built:
        return None
    return [
        np.asarray(ops.convert_to_numpy(variable))
        for variable in optimizer.variables
    ]


def fresh_state(optimizer, variables):
    """Returns what `state_of` would be before the first step.

    The learning rate, where it is a number, is what it is now.

    Args:
        optimizer: A built Keras optimizer.
        variables: List of the variables that it trains.

    Raises:
        ValueError: If a new one cannot be made from its configuration, or
            these are not the variables that it was built for.
    """
    what = f"optimizer {type(optimizer).__name__}"
    expected = "Compile the model anew before you train another task."
    try:
        fresh = optimizer.from_config(optimizer.get_config())
        fresh.build(variables)
    except Exception as error:
        raise ValueError(
            f"The {what} cannot be made again from its configuration, and so "
            f"not be set back. {expected} Keras says: {error}"
        ) from error
    state = state_of(fresh)
    shapes = [tuple(variable.shape) for variable in optimizer.variables]
    if [value.shape for value in state] != shapes:
        raise ValueError(
            f"The {what} was built for other variables than those that train "
            f"now. {expected}"
        )
    return state


def set_state(optimizer, state) -> None:
    """Makes `state_of` what it was; nothing is compiled anew."""
    for variable, value in zip(optimizer.variables, state, strict=True):
        variable.assign(value)
