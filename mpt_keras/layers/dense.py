"""The masked dense layers."""

import math

import keras
from keras import ops

from mpt_keras.layers.masked import MaskedLayer


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTDense(MaskedLayer, keras.layers.Dense):
    """A dense layer whose random weights are frozen and selected by scores.

    Forward::

        y = activation(quantizer(x) @ effective_kernel + bias)
        effective_kernel = gain * mask * sign(kernel)   (binarize=True, biprop)
        effective_kernel = mask * kernel                (binarize=False)

    `mask` is True at the `n - floor(sparsity * n)` weights of largest
    `abs(scores)`, ties broken by position; `gain` is the mean `abs(kernel)`
    over them. The kernel never changes; the scores train::

        dL/dscores = dL/deffective_kernel * kernel * sign(scores)

    Args:
        units: Positive integer, dimensionality of the output.
        activation, bias_initializer, ...: As for `keras.layers.Dense`, in the
            same order. `use_bias` is False by default; a bias is trained.
            Regularizers and constraints of the kernel are refused.
        kernel_initializer: Initializer of the frozen kernel. By default
            `mpt_keras.initializers.KaimingNormal` with this layer's seed.
        sparsity: Number in [0, 1), the fraction of weights pruned at first.
            `layer.sparsity` is a variable: `layer.sparsity = 0.8` holds from
            the next step on, also inside `fit`.
        binarize: True for biprop (binary weights), False for edge-popup.
        input_quantizer: None, `"approx_sign"`, `"ste_sign"`, `"swish_sign"`,
            a quantizer object (also Larq's) or any callable; applied to the
            input.
        scores_initializer: Initializer of the scores. By default uniform in
            `+-1/sqrt(fan_in)` with this layer's seed.
        scores_regularizer: Regularizer of the scores. The authors' weight
            decay `wd` is `keras.regularizers.L2(wd / 2)`.
        seed: Integer, the seed of kernel and scores; drawn if None. Give
            every layer a seed of its own: layers of one shape and one seed
            start alike.
        frozen_pruned, frozen_kept: Numbers in [0, 1) that add up to less
            than 1, fractions of the weights that are pruned, and kept, for
            ever. Which ones, the seed says; the search chooses among the
            others, and a ticket file has mask bits for these alone. The
            sparsity still counts all weights and lies between
            `frozen_pruned` and `1 - frozen_kept`. To freeze a fraction `f`
            and leave the others the same sparsity, pass `f * sparsity` and
            `f * (1 - sparsity)`: half of them at sparsity 0.5, a quarter
            each, is an example of the authors'; with 70 % of a ResNet
            frozen, they report 3.3 times smaller tickets on ImageNet. Layers
            with two kernels take a pair as well.

    Input shape:
        `(..., input_dim)`

    Output shape:
        `(..., units)`

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTDense(10, sparsity=0.8, seed=0)
    >>> keras.ops.shape(layer(np.ones((4, 100))))
    (4, 10)
    >>> int(keras.ops.sum(layer.mask()))
    200

    Reference:
        Diffenderfer and Kailkhura, "Multi-Prize Lottery Ticket Hypothesis",
        ICLR 2021; Ramanujan et al., CVPR 2020 (`binarize=False`); Otsuka et
        al., "Partially Frozen Random Networks Contain Compact Strong Lottery
        Tickets", TMLR 2025 (`frozen_pruned`, `frozen_kept`).
    """

    def apply_kernel(self, inputs, kernel):
        return ops.matmul(inputs, kernel)


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTEinsumDense(MaskedLayer, keras.layers.EinsumDense):
    """A masked dense layer over any axes, by an einsum equation.

    Forward::

        y = activation(einsum(equation, quantizer(x), effective_kernel) + bias)

    with the effective kernel of `MPTDense`, over all weights of the kernel.
    Where `MPTDense` computes the same, so does this layer, from the same
    kernel and scores.

    Args:
        equation: The einsum of input and kernel, such as `"abc,cd->abd"`.
        output_shape, activation, bias_axes, ...: As for
            `keras.layers.EinsumDense`, in the same order. There is a bias
            only with `bias_axes`; it is trained. Regularizers and constraints
            of the kernel are refused.
        kernel_initializer, sparsity, ..., seed: As for `MPTDense`. The fan-in
            is the product of the kernel's axes that the equation sums over,
            those that are missing in its output.

    Input shape, output shape:
        As the equation says.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> heads = mpt_keras.MPTEinsumDense(
    ...     "btd,dhk->bthk", (None, 2, 8), sparsity=0.9
    ... )
    >>> keras.ops.shape(heads(np.ones((4, 10, 16))))
    (4, 10, 2, 8)
    >>> int(keras.ops.sum(heads.mask()))
    26

    Reference:
        As for `MPTDense`.
    """

    def fan_in(self, kernel_name, kernel_shape):
        operands, output = self.equation.split("->")
        axes = operands.split(",")[1]
        return math.prod(
            size
            for axis, size in zip(axes, kernel_shape, strict=True)
            if axis not in output
        )

    def apply_kernel(self, inputs, kernel):
        return ops.einsum(self.equation, inputs, kernel)
