"""VGG-Small, in the forms in which the papers use it."""

import keras

from mpt_keras.models.families import family

_CHANNELS = (128, 128, 256, 256, 512, 512)
# What follows each of the six convolutions.
_FORMS = {
    "two_activations": (
        "activation",
        "pool norm",
        "",
        "pool norm",
        "",
        "pool norm relu",
    ),
    "norm_at_pools": (
        *("activation", "pool norm activation") * 2,
        *("activation", "pool norm relu"),
    ),
    "norm_everywhere": (
        *("norm activation", "pool norm activation") * 2,
        *("norm activation", "pool norm relu"),
    ),
}


@family
def vgg_small(
    make, *, form=None, classes=10, input_shape=(32, 32, 3), name="vgg_small"
):
    """Builds VGG-Small: six 3x3 convolutions, three pools, one dense layer.

    4,656,512 weights; 7,249,120 at width 1.25, the network of the papers'
    tables with binary weights and activations. The last activation is a ReLU
    also where the others are binary.

    Args:
        form: What stands between the convolutions.

            - `"two_activations"` (default with real activations): batch norm
              behind each pool, and an activation only behind the first and
              the last convolution, as in the authors' `VGG_Small`.
            - `"norm_everywhere"` (default with binary activations): batch
              norm and activation behind every convolution, as in their
              `VGG_Small_bn_BinAct`, `Wide_VGG_Small` (whose width of 10 is
              1.25 here) and `Wide_VGG_Small_132`.
            - `"norm_at_pools"`: an activation behind every convolution, batch
              norm behind the pools alone, as in their `VGG_Small_BinAct`.
        classes: Number of outputs (logits).
        input_shape: `(height, width, channels)`.
        {options}

    Returns:
        A built `keras.Sequential` that maps images to logits.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> model = mpt_keras.models.vgg_small(width=0.1, binary_activations=True)
    >>> model.output_shape
    (None, 10)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """
    if form is None:
        binary = make.binary_activations
        form = "norm_everywhere" if binary else "two_activations"
    if form not in _FORMS:
        raise ValueError(
            f"Invalid value for argument `form`. Expected one of "
            f"{sorted(_FORMS)} or None. Received: form={form!r}"
        )
    kinds = {
        "activation": make.activation,
        "norm": make.norm,
        "pool": keras.layers.MaxPooling2D,
        "relu": keras.layers.ReLU,
    }
    layers = [keras.Input(input_shape, name="images")]
    for number, channels in enumerate(_CHANNELS, 1):
        layers += make.convolution(
            make.channels(channels),
            role="first" if number == 1 else None,
            name=f"conv{number}",
        )
        layers += [kinds[kind]() for kind in _FORMS[form][number - 1].split()]
    layers.append(keras.layers.Flatten(name="flatten"))
    layers.append(make.dense(classes, role="last", name="logits"))
    return keras.Sequential(layers, name=name)
