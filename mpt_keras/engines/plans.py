"""From a Keras model to the operations of the runtime, without a file."""

import keras
import numpy as np
from keras import ops

from mpt_keras.runtime.lowering import lower
from mpt_keras.runtime.operations import Plan
from mpt_keras.ticket.reading import Ticket
from mpt_keras.ticket.saving import configuration
from mpt_keras.ticket.slots import other_weights


def plan_of(model: keras.Model) -> Plan:
    """Returns the operations of a frozen or ordinary model.

    Args:
        model: A built Keras model without masked layers.

    Raises:
        ValueError: If a layer is none that the runtime computes.

    Example:

    >>> plan_of(mpt_keras.freeze(model)).input_shape
    (4,)
    """
    weights = {
        name: np.asarray(ops.convert_to_numpy(variable))
        for name, variable in other_weights(model, []).items()
    }
    return lower(Ticket(configuration(model), {}, weights, "", 0, b""))
