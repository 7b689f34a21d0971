"""The checkpoints that the papers' authors publish, as models of ours."""

import os

import keras

from mpt_keras.checkpoints import architectures, placing, reading
from mpt_keras.checkpoints.reading import CheckpointError


def load_biprop(
    path: str | os.PathLike[str], *, binarize: bool = True
) -> keras.Model:
    """Reads a checkpoint of the authors' code into a network of ours.

    The network computes what their code computes: its masks prune
    `int((1 - k) * n)` weights per layer, `k` being their `prune_rate` (the
    fraction kept), or those at or below their one threshold (`conv_type`
    `GlobalSubnetConv`). Where they divide a layer's gain by `int(k * n)`,
    which can be one less than the number kept, its kernel is scaled to have
    their gain. The ResNets with 20 to 110 layers get the 40 outputs that
    theirs have; see `mpt_keras.models.residual_net`.

    Their sign of an exact 0 is 0, ours is 1, so that one bit is enough. It
    shows in `VGG_Small_BinAct` alone, where no batch norm stands in front and
    sums of +-1 are often 0.

    Reading needs PyTorch (the extra `torch`) and runs no code of the file:
    `torch.load(weights_only=True)`.

    Args:
        path: A file of `torch.save`: a dictionary with `arch`, `state_dict`
            and `prune_rate`, and perhaps `conv_type` and more. Names in
            `state_dict` may begin with `module.`.
        binarize: False for the files of edge-popup's code, which have the
            same form and do not say which of the two they are.

    Returns:
        A built Keras model, from images normalised as in training to logits.
        Masked, to be trained on, frozen or saved.

    Raises:
        ImportError: If PyTorch is not installed.
        CheckpointError: If the file is missing, damaged, holds anything but
            plain values and arrays, or an architecture that we do not know;
            or if a name in it has no place in the network, or the reverse:
            all of them are named.

    Example:

    >>> model = mpt_keras.checkpoints.load_biprop(
    ...     "model_best.pth"
    ... )  # doctest: +SKIP
    >>> ticket = mpt_keras.freeze(model)  # doctest: +SKIP

    Reference:
        Diffenderfer and Kailkhura, "Multi-Prize Lottery Ticket Hypothesis",
        ICLR 2021 (the checkpoints).
    """
    checkpoint = reading.read(path)
    try:
        model, sites = architectures.build(checkpoint, binarize)
        placing.place(checkpoint, sites)
        placing.select(checkpoint, sites)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot load '{path}': {error}") from error
    return model
