"""Networks of one's own, for `mpt-keras search --model=small_networks:NAME`.

    cd examples
    mpt-keras search --model=small_networks:two_convolutions --dataset=mnist ...

A network is a function that takes the arguments of `mpt_keras.models.conv4`;
`family` gives it those that all networks share.
"""

import keras

from mpt_keras.models.families import family


@family
def two_convolutions(
    make, *, classes=10, input_shape=(28, 28, 1), name="two_convolutions"
):
    """Builds two 5x5 convolutions, each with a pool of 3x3, and a dense layer.

    Few layers: each costs a ticket file some two hundred bytes beside its
    mask. Batch norms only in front of binary activations.

    Args:
        classes: Number of outputs (logits).
        input_shape: `(height, width, channels)`.
        {options}

    Returns:
        A built `keras.Sequential` that maps images to logits.
    """
    layers = [keras.Input(input_shape, name="images")]
    for number, channels in enumerate((16, 32), 1):
        layers += make.convolution(
            make.channels(channels),
            size=5,
            role="first" if number == 1 else None,
            name=f"conv{number}",
        )
        layers.append(keras.layers.MaxPooling2D(3, name=f"pool{number}"))
        if make.binary_activations:
            layers.append(make.norm(f"norm{number}"))
        layers.append(make.activation())
    layers.append(keras.layers.Flatten(name="flatten"))
    layers.append(make.dense(classes, role="last", name="logits"))
    return keras.Sequential(layers, name=name)
