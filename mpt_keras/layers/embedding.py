"""The masked embedding."""

from typing import ClassVar

import keras
from keras import ops

from mpt_keras.layers.masked import MaskedLayer


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTEmbedding(MaskedLayer, keras.layers.Embedding):
    """An embedding whose random table is frozen and selected by scores.

    Looks up what `keras.layers.Embedding` looks up, in `effective_kernel()`
    for a table; see `MPTDense` for the formulas. The mask is of the whole
    table, entry by entry, so that rows may keep different numbers of weights.
    In the gradient, the scores of rows that no example asks for get 0.

    A lookup is the product of a one-hot vector with the table: one input
    alone counts for an output, whatever the vocabulary's size. The fan-in is
    therefore 1. The kernel starts at variance `2 / (1 - sparsity)` and the
    scores in `+-1`; the vectors looked up have variance 2, as the outputs of
    other masked layers have for inputs of variance 1. Scores as large as these
    keep more of the table than of other layers under one global threshold.

    Args:
        input_dim, output_dim, mask_zero: As for `keras.layers.Embedding`, in
            the same order. Its regularizer, constraint and `weights` are
            refused; the table that a model is to have is assigned to
            `layer.embeddings` once the layer is built.
        embeddings_initializer: Initializer of the frozen table. By default
            `mpt_keras.initializers.KaimingNormal` with this layer's seed.
        sparsity, binarize, scores_initializer: As for `MPTDense`.
        scores_regularizer, seed: As for `MPTDense`.
        frozen_pruned, frozen_kept: As for `MPTDense`.
        input_quantizer: None, because indices cannot be quantized.

    Input shape:
        `(batch, ...)`, integers in `[0, input_dim)`.

    Output shape:
        `(batch, ..., output_dim)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTEmbedding(100, 8, sparsity=0.75)
    >>> keras.ops.shape(layer(np.array([[1, 2, 3]])))
    (1, 3, 8)
    >>> int(keras.ops.sum(layer.mask()))
    200

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """

    kernel_initializers: ClassVar[dict] = {
        "embeddings": "embeddings_initializer"
    }
    _refused_arguments: ClassVar[dict] = {
        "input_quantizer": "whose inputs are indices; quantize its outputs, "
        "by the `input_quantizer` of the layer behind it",
        "weights": "whose weights are scores as well; build the layer, then "
        "assign the table: `layer.embeddings.assign(weights)`",
    }

    def build(self, input_shape=None):
        super().build(input_shape)

    @property
    def kernel(self):
        """The frozen table, which is `embeddings` by another name."""
        return self.embeddings

    def fan_in(self, kernel_name, kernel_shape):
        return 1

    def apply_kernel(self, inputs, kernel):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if dtype not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        return ops.take(kernel, inputs, axis=0)
