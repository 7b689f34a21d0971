"""The masked convolutions.

Each says only how it uses its kernel; `MPTDense` documents what a masked
layer computes and the arguments that all of them share.
"""

import math
from typing import ClassVar

import keras
from keras import ops

from mpt_keras.layers.masked import MaskedLayer


class _MaskedConvolution(MaskedLayer):
    """Forward convolutions of any rank; the rank is the Keras layer's."""

    def apply_kernel(self, inputs, kernel):
        return ops.conv(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


class _MaskedDepthwise(MaskedLayer):
    """Depthwise convolutions of any rank."""

    kernel_initializers: ClassVar[dict] = {"kernel": "depthwise_initializer"}

    def fan_in(self, kernel_name, kernel_shape):
        return math.prod(self.kernel_size)

    def apply_kernel(self, inputs, kernel):
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


class _MaskedSeparable(MaskedLayer):
    """Separable convolutions of any rank, with two kernels."""

    kernel_initializers: ClassVar[dict] = {
        "depthwise_kernel": "depthwise_initializer",
        "pointwise_kernel": "pointwise_initializer",
    }

    @property
    def kernel(self):
        """The pair of frozen kernels, `(depthwise, pointwise)`."""
        return tuple(m.kernel for m in self.masked_kernels)

    def fan_in(self, kernel_name, kernel_shape):
        if kernel_name == "pointwise_kernel":
            return kernel_shape[-2]
        return math.prod(self.kernel_size)

    def apply_kernel(self, inputs, depthwise_kernel, pointwise_kernel):
        return ops.separable_conv(
            inputs,
            depthwise_kernel,
            pointwise_kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


class _MaskedTransposed(MaskedLayer):
    """Transposed convolutions of any rank."""

    def fan_in(self, kernel_name, kernel_shape):
        # The kernel is (..., filters, channels); a stride spreads the taps
        # over as many outputs.
        taps = math.prod(self.kernel_size) / math.prod(self.strides)
        return max(taps, 1.0) * kernel_shape[-1]

    def apply_kernel(self, inputs, kernel):
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTConv1D(_MaskedConvolution, keras.layers.Conv1D):
    """A 1D convolution whose random weights are frozen and selected by scores.

    Computes what `keras.layers.Conv1D` computes, with `effective_kernel()`
    for a kernel; see `MPTDense` for the formulas forward and backward.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv1D`, in the same
            order; `padding="causal"` included. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, steps, channels)`

    Output shape:
        `(batch, new_steps, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTConv1D(8, 3, padding="causal")
    >>> keras.ops.shape(layer(np.ones((2, 16, 4))))
    (2, 16, 8)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """

    def apply_kernel(self, inputs, kernel):
        if self.padding != "causal":
            return super().apply_kernel(inputs, kernel)
        past = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        steps_axis = 1 if self.data_format == "channels_last" else 2
        pads = [[0, 0], [0, 0], [0, 0]]
        pads[steps_axis] = [past, 0]
        return ops.conv(
            ops.pad(inputs, pads),
            kernel,
            strides=list(self.strides),
            padding="valid",
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTConv2D(_MaskedConvolution, keras.layers.Conv2D):
    """A 2D convolution whose random weights are frozen and selected by scores.

    Computes what `keras.layers.Conv2D` computes, with `effective_kernel()`
    for a kernel; see `MPTDense` for the formulas forward and backward.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv2D`, in the same
            order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        `(batch, new_height, new_width, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTConv2D(16, 3, padding="same", sparsity=0.8)
    >>> keras.ops.shape(layer(np.ones((2, 32, 32, 3))))
    (2, 32, 32, 16)
    >>> keras.ops.shape(layer.mask())
    (3, 3, 3, 16)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTConv3D(_MaskedConvolution, keras.layers.Conv3D):
    """A 3D convolution whose random weights are frozen and selected by scores.

    Computes what `keras.layers.Conv3D` computes, with `effective_kernel()`
    for a kernel; see `MPTDense` for the formulas forward and backward.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv3D`, in the same
            order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, depth, height, width, channels)` with
        `data_format="channels_last"`.

    Output shape:
        `(batch, new_depth, new_height, new_width, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> keras.ops.shape(mpt_keras.MPTConv3D(4, 2)(np.ones((1, 5, 5, 5, 2))))
    (1, 4, 4, 4, 4)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTDepthwiseConv1D(_MaskedDepthwise, keras.layers.DepthwiseConv1D):
    """A 1D depthwise convolution with frozen, selected random weights.

    Computes what `keras.layers.DepthwiseConv1D` computes, with
    `effective_kernel()` for a kernel; see `MPTDense` for the formulas.

    Args:
        kernel_size, ...: As for `keras.layers.DepthwiseConv1D`, in the same
            order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, steps, channels)` with `data_format="channels_last"`.

    Output shape:
        `(batch, new_steps, channels * depth_multiplier)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> keras.ops.shape(mpt_keras.MPTDepthwiseConv1D(3)(np.ones((1, 8, 4))))
    (1, 6, 4)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTDepthwiseConv2D(_MaskedDepthwise, keras.layers.DepthwiseConv2D):
    """A 2D depthwise convolution with frozen, selected random weights.

    Computes what `keras.layers.DepthwiseConv2D` computes, with
    `effective_kernel()` for a kernel; see `MPTDense` for the formulas.

    Args:
        kernel_size, ...: As for `keras.layers.DepthwiseConv2D`, in the same
            order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        `(batch, new_height, new_width, channels * depth_multiplier)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> keras.ops.shape(mpt_keras.MPTDepthwiseConv2D(3)(np.ones((1, 8, 8, 4))))
    (1, 6, 6, 4)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTSeparableConv1D(_MaskedSeparable, keras.layers.SeparableConv1D):
    """A 1D separable convolution with frozen, selected random weights.

    Computes what `keras.layers.SeparableConv1D` computes with two effective
    kernels, depthwise and pointwise. Each is selected by itself, so
    `kernel`, `scores`, `sparsity`, `mask()`, `gain()` and
    `effective_kernel()` are pairs `(depthwise, pointwise)`; see `MPTDense`
    for the formulas.

    Args:
        filters, kernel_size, ...: As for `keras.layers.SeparableConv1D`, in
            the same order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, steps, channels)` with `data_format="channels_last"`.

    Output shape:
        `(batch, new_steps, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTSeparableConv1D(16, 3)
    >>> keras.ops.shape(layer(np.ones((1, 8, 4))))
    (1, 6, 16)
    >>> [keras.ops.shape(mask) for mask in layer.mask()]
    [(3, 4, 1), (1, 4, 16)]

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTSeparableConv2D(_MaskedSeparable, keras.layers.SeparableConv2D):
    """A 2D separable convolution with frozen, selected random weights.

    Computes what `keras.layers.SeparableConv2D` computes with two effective
    kernels, depthwise and pointwise. Each is selected by itself, so
    `kernel`, `scores`, `sparsity`, `mask()`, `gain()` and
    `effective_kernel()` are pairs `(depthwise, pointwise)`; see `MPTDense`
    for the formulas.

    Args:
        filters, kernel_size, ...: As for `keras.layers.SeparableConv2D`, in
            the same order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        `(batch, new_height, new_width, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTSeparableConv2D(16, 3)
    >>> keras.ops.shape(layer(np.ones((1, 8, 8, 4))))
    (1, 6, 6, 16)
    >>> [keras.ops.shape(mask) for mask in layer.mask()]
    [(3, 3, 4, 1), (1, 1, 4, 16)]

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTConv1DTranspose(_MaskedTransposed, keras.layers.Conv1DTranspose):
    """A 1D transposed convolution with frozen, selected random weights.

    Computes what `keras.layers.Conv1DTranspose` computes, with
    `effective_kernel()` for a kernel; see `MPTDense` for the formulas.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv1DTranspose`, in
            the same order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, steps, channels)` with `data_format="channels_last"`.

    Output shape:
        `(batch, new_steps, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTConv1DTranspose(4, 2, 2)
    >>> keras.ops.shape(layer(np.ones((1, 8, 3))))
    (1, 16, 4)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTConv2DTranspose(_MaskedTransposed, keras.layers.Conv2DTranspose):
    """A 2D transposed convolution with frozen, selected random weights.

    Computes what `keras.layers.Conv2DTranspose` computes, with
    `effective_kernel()` for a kernel; see `MPTDense` for the formulas.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv2DTranspose`, in
            the same order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, height, width, channels)` with `data_format="channels_last"`.

    Output shape:
        `(batch, new_height, new_width, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTConv2DTranspose(4, 2, 2)
    >>> keras.ops.shape(layer(np.ones((1, 8, 8, 3))))
    (1, 16, 16, 4)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTConv3DTranspose(_MaskedTransposed, keras.layers.Conv3DTranspose):
    """A 3D transposed convolution with frozen, selected random weights.

    Computes what `keras.layers.Conv3DTranspose` computes, with
    `effective_kernel()` for a kernel; see `MPTDense` for the formulas.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv3DTranspose`, in
            the same order. `use_bias` is False by default.
        sparsity, binarize, input_quantizer, scores_initializer: As for
            `MPTDense`.
        scores_regularizer, seed, frozen_pruned, frozen_kept: As for
            `MPTDense`.

    Input shape:
        `(batch, depth, height, width, channels)` with
        `data_format="channels_last"`.

    Output shape:
        `(batch, new_depth, new_height, new_width, filters)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTConv3DTranspose(4, 2, 2)
    >>> keras.ops.shape(layer(np.ones((1, 4, 4, 4, 3))))
    (1, 8, 8, 8, 4)

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021.
    """
