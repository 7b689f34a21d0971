"""The fully connected network of the papers: LeNet-300-100."""

import keras

from mpt_keras.models.families import family, published


@family
def dense_net(make, hidden, *, classes=10, input_shape=(28, 28, 1), name=None):
    """Builds a fully connected network.

    Binary activations come with a batch norm before each, real ones without.

    Args:
        hidden: Sequence of integers, the widths of the hidden layers.
        classes: Number of outputs (logits).
        input_shape: Shape of one input; it is flattened.
        {options}

    Returns:
        A built `keras.Sequential` that maps images to logits.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> model = mpt_keras.models.dense_net((20, 10), input_shape=(8, 8, 1))
    >>> model.output_shape
    (None, 10)

    Reference:
        LeCun et al., 1998 (the network); Frankle and Carbin, ICLR 2019.
    """
    layers = [
        keras.Input(input_shape, name="images"),
        keras.layers.Flatten(name="flatten"),
    ]
    for number, units in enumerate(hidden, 1):
        layers.append(
            make.dense(
                make.channels(units),
                role="first" if number == 1 else None,
                name=f"dense{number}",
            )
        )
        if make.binary_activations:
            layers.append(make.norm())
        layers.append(make.activation())
    layers.append(make.dense(classes, role="last", name="logits"))
    return keras.Sequential(layers, name=name)


lenet_300_100 = published(
    dense_net,
    "lenet_300_100",
    "LeNet-300-100 for MNIST: 266,200 weights.",
    shape={"hidden": (300, 100)},
)
