"""From the configuration in a ticket to a network, by allowed names only."""

import copy

import keras

from mpt_keras.ticket.allowed import check_config
from mpt_keras.ticket.errors import TicketError


def network(config, custom_objects):
    """Makes the model of a configuration.

    Args:
        config: What `keras.saving.serialize_keras_object` returned, by way of
            JSON.
        custom_objects: Dictionary, name -> class that is allowed beside those
            of Keras and mpt_keras.

    Raises:
        TicketError: If the configuration names other objects, or is of no
            model.
    """
    check_config(config, custom_objects)
    model = keras.saving.deserialize_keras_object(
        copy.deepcopy(config),  # which Keras empties
        custom_objects=custom_objects,
        safe_mode=True,
    )
    if not isinstance(model, keras.Model):
        raise TicketError("Its configuration is not of a Keras model.")
    return model
