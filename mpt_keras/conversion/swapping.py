"""Other layers in the place of those that a layer holds."""

# What TensorFlow and PyTorch keep themselves.
_OF_BACKENDS = (
    *("_self_unconditional_", "_self_setattr_", "_self_update_uid"),
    *("_self_name_based_", "_self_saveable_", "_modules"),
)


def swap_layers(layer, swap):
    """Replaces the layers that a layer holds, in all that refers to them.

    Attributes, and the lists, dictionaries and tuples in them, nested as they
    may be; what Keras, TensorFlow and PyTorch track follows.

    Args:
        layer: A built Keras layer or model; changed in place.
        swap: Function of a layer held; returns the one to stand there, which
            may be the same.
    """
    pairs = {}  # with the old layers, whose ids no other object may take
    for inner in list(layer._layers):
        other = swap(inner)
        if other is not inner:
            layer._tracker.replace_tracked_value("layers", inner, other)
            pairs[id(inner)] = inner, other
    if not pairs:
        return
    # PyTorch's modules keep layers apart from other attributes.
    attributes = vars(layer) | vars(layer).get("_modules", {})
    for name, value in attributes.items():
        if name.startswith(_OF_BACKENDS):
            continue
        other = _swapped(value, pairs)
        if other is not value:
            setattr(layer, name, other)
    if hasattr(layer, "_torch_params"):
        layer._track_variables()


def _swapped(value, pairs):
    if id(value) in pairs:
        return pairs[id(value)][1]
    if isinstance(value, (list, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in list(items):
            other = _swapped(item, pairs)
            if other is not item:
                value[key] = other
    elif isinstance(value, tuple):
        others = [_swapped(item, pairs) for item in value]
        if any(map(_is_not, others, value)):
            make = getattr(value.__class__, "_make", value.__class__)
            return make(others)
    return value


def _is_not(one, other):
    return one is not other
