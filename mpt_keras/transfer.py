"""Weights of one network in another of the same architecture."""

import re

import keras
from keras import ops

from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.traversal import walk


def transfer_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives a network the weights of its twin, masked or not.

    Layer by layer, in the order of the models. A masked layer takes the kernel
    of the ordinary layer that it derives from, or of a masked one, and leaves
    scores and sparsity as they are; an ordinary layer takes the kernel of a
    masked one. Everything else, such as batch norms, takes over all weights.

    Args:
        source: A built Keras model.
        target: A built Keras model of the same layers.

    Raises:
        ValueError: If the layers or their shapes differ, or a bias other than
            0 has no place in the target. Nothing is changed then.

    Example:

    >>> dense = mpt_keras.models.lenet_300_100(masked=False, seed=0)
    >>> masked = mpt_keras.models.lenet_300_100(seed=1)
    >>> mpt_keras.transfer_weights(dense, masked)
    """
    pairs = weight_pairs(source, target)
    values = [ops.convert_to_numpy(ours) for ours, _ in pairs]
    for (_, theirs), value in zip(pairs, values, strict=True):
        theirs.assign(value)
    for layer, _ in _layers_with_weights(target):
        if hasattr(layer, "finalize_state"):  # what Normalization derives
            layer.finalize_state()


def weight_pairs(source, target):
    """Pairs of a weight and the one of the twin that stands for it.

    Arguments and errors as for `transfer_weights`.
    """
    sources, targets = map(_layers_with_weights, (source, target))
    if len(sources) != len(targets):
        raise ValueError(
            f"Expected models of the same layers. Received: '{source.name}' "
            f"with {len(sources)} layers that have weights, '{target.name}' "
            f"with {len(targets)}."
        )
    pairs = []
    for layers in zip(sources, targets, strict=True):
        pairs += _pairs(*layers)
    return pairs


def _layers_with_weights(model):
    found = ((layer, _own_weights(layer)) for _, layer in walk(model))
    return [(layer, weights) for layer, weights in found if weights]


def _own_weights(layer):
    """Those of no inner layer; without scores and what is pruned; by name."""
    others = {id(w) for inner in layer._layers for w in inner.weights}
    if isinstance(layer, MaskedLayer):
        for masked in layer.masked_kernels:
            others |= {id(masked.scores), id(masked.pruned), id(masked.frozen)}
    own = [weight for weight in layer.weights if id(weight) not in others]
    return sorted(own, key=_name)


def _name(weight):
    """Without the number that Keras gives a weight of no name."""
    made_up = re.fullmatch(r"variable_\d+", weight.name)
    return "variable" if made_up else weight.name


def _pairs(source, target):
    (source, ours), (target, theirs) = source, target
    names = set(map(_name, theirs))
    without = [weight for weight in ours if _name(weight) not in names]
    if list(map(_name, without)) == ["bias"]:
        if ops.any(ops.convert_to_tensor(without[0]) != 0):
            raise ValueError(
                f"Layer '{source.name}' has a bias, and '{target.name}' has no "
                "place for it. Build the target with use_bias=True."
            )
        ours = [weight for weight in ours if _name(weight) in names]
    there, here = (
        [(_name(w), tuple(w.shape)) for w in x] for x in (ours, theirs)
    )
    if there != here:
        raise ValueError(
            "Expected layers of the same weights at the same place. Received: "
            f"'{source.name}' with {there}, '{target.name}' with {here}"
        )
    return zip(ours, theirs, strict=True)
