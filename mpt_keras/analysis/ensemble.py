"""Several tickets over one random kernel, as one model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mpt_keras.layers.traversal import masked_kernels


def ensemble(
    models: Sequence[keras.Model],
    name: str = "ensemble",
    activation: Any = None,
) -> keras.Model:
    """Returns one model that predicts the mean of several tickets.

        output = sum_i activation(model_i(input)) / k

    All tickets must be masks over the same random kernels, so that what has
    to be stored is `k` masks and one seed; their biases and batch norms may
    differ. The ensemble holds the given models' own layers: it costs no
    memory beside theirs, and whatever trains it trains them. They are left as
    they are. The mean is computed in float32.

    Args:
        models: Sequence of two or more built Sequential or functional models,
            with one input and one output of equal shapes and masked layers of
            equal names and kernels.
        name: Name of the ensemble.
        activation: Function, or its name, applied to each model's output:
            `"softmax"` averages probabilities where the models end in logits.

    Returns:
        A functional model whose layers `member_0`, `member_1`, ... are the
        models. It can be saved, and frozen by `mpt_keras.freeze`.

    Raises:
        ValueError: If there are fewer than two models, one is of another
            kind, holds no masked layer, or differs from the first.

    Example:

    >>> def ticket(seed):
    ...     scores = keras.initializers.RandomUniform(-1, 1, seed=seed)
    ...     layer = mpt_keras.MPTDense(
    ...         3, seed=0, scores_initializer=scores, name="last"
    ...     )
    ...     return keras.Sequential([keras.Input((4,)), layer])
    >>> tickets = [ticket(seed=1), ticket(seed=2)]
    >>> both = mpt_keras.analysis.ensemble(tickets)
    >>> mean = np.mean([t.predict(images, verbose=0) for t in tickets], axis=0)
    >>> np.allclose(both.predict(images, verbose=0), mean, atol=1e-6)
    True

    Reference:
        Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty
        Estimation using Deep Ensembles", NeurIPS 2017. That tickets over one
        kernel differ: Gorbett and Whitley, "Randomly Initialized Subnetworks
        with Iterative Weight Recycling", 2023.
    """
    models = list(models)
    if len(models) < 2:
        raise ValueError(
            f"An ensemble needs two models at least. Received: {len(models)}"
        )
    for number, model in enumerate(models):
        _check_kind(model, number)
    kernels = _kernels(models[0])
    for number, model in enumerate(models[1:], 1):
        _check_shapes(models[0], model, number)
        _check_kernels(kernels, _kernels(model), number)

    source = models[0].inputs[0]
    inputs = keras.Input(
        batch_shape=source.shape, dtype=source.dtype, name=source.name
    )
    outputs = []
    for number, model in enumerate(models):
        # The same layers under another name, because most models share one.
        member = keras.Model(
            model.inputs[0], model.outputs[0], name=f"member_{number}"
        )
        output = member(inputs)
        if activation is not None:
            output = keras.layers.Activation(
                activation, dtype="float32", name=f"activation_{number}"
            )(output)
        outputs.append(output)
    mean = keras.layers.Average(dtype="float32", name="mean")(outputs)
    return keras.Model(inputs, mean, name=name)


def _check_kind(model, number):
    if (
        not isinstance(model, (keras.Sequential, keras.Function))
        or not model.built
        or len(model.inputs) != 1
        or len(model.outputs) != 1
    ):
        raise ValueError(
            f"Cannot put model {number} into an ensemble. Expected a built "
            "Sequential or functional model with one input and one output. "
            f"Received: {model!r}"
        )


def _kernels(model):
    kernels = masked_kernels(model)
    if not kernels:
        raise ValueError(
            f"Model '{model.name}' holds no masked layer. Expected tickets "
            "over one random kernel, before mpt_keras.freeze."
        )
    return {name: masked.kernel for name, masked in kernels.items()}


def _check_shapes(first, model, number):
    for what in ("inputs", "outputs"):
        expected, received = (
            (getattr(m, what)[0].shape, getattr(m, what)[0].dtype)
            for m in (first, model)
        )
        if expected != received:
            raise ValueError(
                f"The {what} of model {number} differ from those of the first. "
                f"Expected: {expected}. Received: {received}"
            )


def _check_kernels(expected, received, number):
    unshared = sorted(expected.keys() ^ received.keys())
    if unshared:
        raise ValueError(
            f"Only one of the first model and model {number} has the masked "
            f"layers {unshared}. Expected tickets of one architecture, with "
            "layers called alike."
        )
    for name, kernel in expected.items():
        if not np.array_equal(
            ops.convert_to_numpy(kernel), ops.convert_to_numpy(received[name])
        ):
            raise ValueError(
                f"The kernel of layer '{name}' differs in the first model and "
                f"in model {number}. Expected tickets over one random kernel, "
                "built with the same sparsity and kernel initializer and other "
                "scores: `kernel_seed=0, seed=1` in mpt_keras.models, or "
                "`scores_initializer` of a layer; and no weight recycling."
            )
