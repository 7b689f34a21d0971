"""Finding the layers of a model, its masked ones above all, by name."""

import collections

import keras

from mpt_keras.layers.masked import MaskedLayer

# Their projections have the same names in each of them.
_ATTENTIONS = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)


def masked_layers(model):
    """Returns every masked layer of a model, those of nested models included.

    Args:
        model: A Keras model or layer.

    Returns:
        List of masked layers, each once, in the model's order.

    Raises:
        ValueError: If `model` is no Keras model or layer.

    Example:

    >>> model = keras.Sequential([mpt_keras.MPTDense(8), mpt_keras.MPTDense(2)])
    >>> len(mpt_keras.masked_layers(model))
    2
    """
    return [layer for _, layer in walk(model) if isinstance(layer, MaskedLayer)]


def named_layers(model, kind):
    """Returns the layers of a kind by name, in the model's order.

    Args:
        model: A Keras model or layer.
        kind: Class, or tuple of classes.

    Returns:
        Dictionary. A layer's key is its name, behind that of the attention
        that it is a projection of (`"attention/query"`); where several layers
        share it, the names of the layers that hold them stand before it, as a
        path.

    Raises:
        ValueError: If `model` is no Keras model or layer, or two layers have
            the same path.
    """
    found, names = [], {}
    for path, layer in walk(model):
        name = names.setdefault(id(layer), layer.name)
        if isinstance(layer, kind):
            found.append((path, name, layer))
        if isinstance(layer, _ATTENTIONS):
            names |= {
                id(inner): f"{name}/{inner.name}" for inner in layer._layers
            }
    often = collections.Counter(name for _, name, _ in found)
    named = {}
    for path, name, layer in found:
        if often[name] > 1:
            name = path
        if name in named:
            raise ValueError(
                f"Model '{model.name}' holds two layers called '{name}'. "
                "Expected names that tell the layers apart."
            )
        named[name] = layer
    return named


def masked_kernels(model):
    """Returns the masked kernels of a model by name.

    Args:
        model: A built Keras model or layer.

    Returns:
        Dictionary, name of the layer (`named_layers`) -> `MaskedKernel`; a
        layer with two kernels has `name/depthwise_kernel` and
        `name/pointwise_kernel`.

    Raises:
        ValueError: As for `named_layers`, and if a masked layer is not built.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), mpt_keras.MPTDense(2, name="last")]
    ... )
    >>> {name: kernel.size for name, kernel in masked_kernels(model).items()}
    {'last': 8}
    """
    found = masked_kernels_and_layers(model)
    return {name: masked for name, (masked, _, _) in found.items()}


def masked_kernels_and_layers(model):
    """`masked_kernels`, each with its layer and its attribute there."""
    found = {}
    for name, layer in named_layers(model, MaskedLayer).items():
        check_built(layer, name, model)
        attributes = layer.kernel_initializers
        for attribute, masked in zip(
            attributes, layer.masked_kernels, strict=True
        ):
            kernel = f"{name}/{attribute}" if len(attributes) > 1 else name
            found[kernel] = masked, layer, attribute
    return found


def check_built(layer, name, model):
    if not layer.built:
        raise ValueError(
            f"Layer '{name}' of model '{model.name}' has no weights yet. "
            "Start the model with keras.Input(...), or call it once."
        )


def walk(model):
    """Pairs of path and layer, each layer once, in the model's order."""
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(
            f"Expected a Keras model or layer. Received: {model!r}"
        )
    seen = set()

    def visit(layer, path):
        if id(layer) in seen:
            return
        seen.add(id(layer))
        yield path, layer
        is_model = isinstance(layer, keras.Model)
        for inner in layer.layers if is_model else layer._layers:
            yield from visit(
                inner, f"{path}/{inner.name}" if path else inner.name
            )

    return visit(model, "")
