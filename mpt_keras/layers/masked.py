"""What all masked layers share: frozen kernels, scores, selection.

A masked layer is an ordinary Keras layer whose kernels are frozen at their
random values. Beside each kernel stand scores, one per weight; training moves
the scores, and the layer computes with the weights whose scores are largest.
"""

import functools
import math
from typing import ClassVar

import keras
from keras import ops

from mpt_keras import (
    _fusion,
    initializers,
    quantizers,
    selection,
    value_checks,
)
from mpt_keras.layers.arguments import (
    OWN_DEFAULTS,
    check_flag,
    joined_signature,
    own_signature,
    refuse_meaningless,
    refuse_quantized_policy,
)
from mpt_keras.layers.exporting import check_exportable
from mpt_keras.layers.masked_kernel import MaskedKernel


class MaskedLayer:
    """Mixin: turns the Keras layer it precedes into a masked layer.

    A subclass names its kernels and says, in `apply_kernel`, what the layer
    does with them; everything else is here. The constructor takes the
    arguments of the Keras layer and then those below.
    """

    # Attribute of each kernel -> constructor argument of its initializer.
    kernel_initializers: ClassVar[dict] = {"kernel": "kernel_initializer"}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if issubclass(cls, keras.layers.Layer):
            keras_layer = cls.__mro__[cls.__mro__.index(MaskedLayer) + 1]
            cls._arguments = joined_signature(cls, keras_layer)
            # What `help` and completion show.
            cls.__signature__ = own_signature(cls) or cls._arguments

    def __init__(self, *args, **kwargs):
        arguments = self._arguments.bind(*args, **kwargs)
        arguments.apply_defaults()
        options = arguments.arguments
        options |= options.pop("kwargs", {})
        ours = {name: options.pop(name) for name in OWN_DEFAULTS}
        where = f" (layer '{options['name']}')" if options.get("name") else ""

        refuse_meaningless(options, where)
        initial_sparsity = selection.check_sparsity(ours["sparsity"], where)
        seed = initializers.check_seed(ours["seed"], where)
        binarize = check_flag("binarize", ours["binarize"], where)
        for stream, name in enumerate(self.kernel_initializers.values()):
            if options.get(name) is None:
                options[name] = initializers.KaimingNormal(
                    scale_fan="paper",
                    sparsity=initial_sparsity,
                    seed=seed,
                    stream=2 * stream,
                )
        super().__init__(**options)
        refuse_quantized_policy(self)
        self.initial_sparsity = initial_sparsity
        self.seed = seed
        self.binarize = binarize
        self.input_quantizer = quantizers.get(ours["input_quantizer"])
        self.scores_initializer = keras.initializers.get(
            ours["scores_initializer"]
        )
        self.scores_regularizer = keras.regularizers.get(
            ours["scores_regularizer"]
        )
        self._masked_kernels = ()

    # --- State -----------------------------------------------------------

    def add_weight(self, *args, **kwargs):
        name = kwargs.get("name")
        if name in self.kernel_initializers:
            # Not trainable from birth: Keras makes every weight born
            # trainable trainable again when `layer.trainable` is set.
            kwargs.update(trainable=False, autocast=False)
            kwargs["initializer"] = self._with_fan_in(
                kwargs["initializer"], name, kwargs["shape"]
            )
        return super().add_weight(*args, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        quantizer = self.input_quantizer
        if isinstance(quantizer, keras.layers.Layer) and not quantizer.built:
            quantizer.build(input_shape)
        self._masked_kernels = tuple(
            self._build_masked_kernel(name, stream)
            for stream, name in enumerate(self.kernel_initializers)
        )

    def _build_masked_kernel(self, name, stream):
        kernel = getattr(self, name)
        prefix = name.removesuffix("kernel")
        initializer = self.scores_initializer
        if initializer is None:
            initializer = initializers.KaimingUniform(
                seed=self.seed, stream=2 * stream + 1
            )
        size = math.prod(kernel.shape)
        variables = {
            "scores": self.add_weight(
                name=f"{prefix}scores",
                shape=kernel.shape,
                initializer=self._with_fan_in(initializer, name, kernel.shape),
                regularizer=self.scores_regularizer,
                autocast=False,
            ),
            "sparsity": self.add_weight(
                name=f"{prefix}sparsity",
                shape=(),
                dtype="float32",
                initializer=keras.initializers.Constant(self.initial_sparsity),
                trainable=False,
                autocast=False,
            ),
            "pruned": self.add_weight(
                name=f"{prefix}pruned",
                shape=(),
                # The integer type that Keras places where the floats are.
                dtype="int",
                initializer=functools.partial(
                    _constant_count,
                    selection.pruned_count(self.initial_sparsity, size),
                ),
                trainable=False,
            ),
        }
        # TensorFlow's checkpoints and SavedModels hold the variables that are
        # attributes of the layer, and no others.
        for attribute, variable in variables.items():
            setattr(self, f"_{prefix}{attribute}", variable)
        return MaskedKernel(
            self.name, kernel, **variables, binarize=self.binarize
        )

    def _with_fan_in(self, initializer, kernel_name, shape):
        """Tells our initializers the fan-in; checks what others give."""
        if isinstance(initializer, initializers.PhiloxInitializer):
            fan_in = self.fan_in(kernel_name, shape)
            return functools.partial(initializer, fan_in=fan_in)
        return functools.partial(
            _checked_values,
            keras.initializers.get(initializer),
            f" in layer '{self.name}'",
        )

    def initializer_with_seed(self, kernel_name, seed):
        """Returns a kernel's initializer with another seed.

        Args:
            kernel_name: Name of the kernel's attribute, such as `"kernel"`.
            seed: Integer.

        Returns:
            Function of a shape and a dtype.

        Raises:
            ValueError: If the initializer takes no seed.
        """
        reseeded = initializers.reseeded(
            getattr(self, self.kernel_initializers[kernel_name]),
            seed,
            f" of layer '{self.name}'",
        )
        shape = getattr(self, kernel_name).shape if self.built else ()
        return self._with_fan_in(reseeded, kernel_name, shape)

    def fan_in(self, kernel_name, kernel_shape):
        """Number of inputs that one output of a kernel sees."""
        return math.prod(kernel_shape[:-1])

    def save_own_variables(self, store):
        # Keras' convolution and dense layers save a fixed list of weights,
        # in which the scores would be missing.
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    # --- Use -------------------------------------------------------------

    def call(self, inputs):
        if _fusion.is_traced(inputs):
            check_exportable(self)
        if self.input_quantizer is not None:
            # A quantizer layer has a dtype of its own.
            inputs = ops.cast(self.input_quantizer(inputs), self.compute_dtype)
        kernels = [
            ops.cast(masked.effective(), self.compute_dtype)
            for masked in self._built_kernels()
        ]
        outputs = self.apply_kernel(inputs, *kernels)
        if self.use_bias:
            bias = ops.convert_to_tensor(self.bias)
            if getattr(self, "data_format", None) == "channels_first":
                bias = ops.reshape(bias, (-1,) + (1,) * self.rank)
            outputs = ops.add(outputs, bias)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs

    def apply_kernel(self, inputs, *kernels):
        """What the layer does with its kernels, before bias and activation."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `apply_kernel`."
        )

    @property
    def masked_kernels(self):
        """Tuple of the layer's `MaskedKernel`s, one for most layers."""
        return self._built_kernels()

    def _built_kernels(self):
        # A method, because PyTorch's modules replace what a property says.
        if not self._masked_kernels:
            raise AttributeError(
                f"{type(self).__name__} layer '{self.name}' has no kernel "
                "yet. Build the layer (call it once, or "
                "`layer.build(input_shape)`) before you use its mask, its "
                "scores or its sparsity."
            )
        return self._masked_kernels

    def _one_or_all(self, values):
        values = tuple(values)
        return values[0] if len(values) == 1 else values

    @property
    def scores(self):
        """The trained variable, one score per weight of the kernel."""
        return self._one_or_all(m.scores for m in self._built_kernels())

    @property
    def sparsity(self):
        """Scalar variable, the fraction of weights pruned, in [0, 1)."""
        return self._one_or_all(m.sparsity for m in self._built_kernels())

    @sparsity.setter
    def sparsity(self, value):
        value = selection.check_sparsity(value, f" (layer '{self.name}')")
        for masked in self._built_kernels():
            masked.set_sparsity(value)

    def mask(self):
        """Returns the boolean mask, True at the weights kept.

        Shape of the kernel; exactly `n - floor(sparsity * n)` entries are
        True, those of largest `abs(scores)`.

        Raises:
            AttributeError: If the layer is not built.
            ValueError: If a score is NaN.
        """
        self.check_scores()
        return self._one_or_all(m.mask() for m in self._built_kernels())

    def gain(self):
        """Returns the scale of the binary weights, a float32 scalar.

        Mean `|w|` of the weights kept; 1 with `binarize=False`.
        """
        return self._one_or_all(m.gain() for m in self._built_kernels())

    def effective_kernel(self):
        """Returns the kernel that the layer computes with.

        `gain * mask * sign(kernel)` (biprop) or `mask * kernel` (edge-popup),
        differentiable with respect to the scores by
        `dL/dscores = dL/deffective * kernel * sign(scores)`.
        """
        return self._one_or_all(m.effective() for m in self._built_kernels())

    def check_scores(self):
        """Raises `ValueError` naming the layer if a score is NaN."""
        for masked in self._built_kernels():
            masked.check_scores()

    def enable_lora(self, *args, **kwargs):
        raise ValueError(
            f"Layer '{self.name}' keeps its kernel frozen and cannot be "
            "fine-tuned with LoRA. Turn the model into an ordinary one first: "
            "mpt_keras.freeze(model)."
        )

    def quantize(self, *args, **kwargs):
        raise ValueError(
            f"Layer '{self.name}' selects its weights anew at every call and "
            "cannot be quantized. Turn the model into an ordinary one first: "
            "mpt_keras.freeze(model)."
        )

    def get_config(self):
        return {
            **super().get_config(),
            "sparsity": self.initial_sparsity,
            "binarize": self.binarize,
            "input_quantizer": _serialized(self.input_quantizer),
            "scores_initializer": _serialized(self.scores_initializer),
            "scores_regularizer": _serialized(self.scores_regularizer),
            "seed": self.seed,
        }


def _constant_count(count, shape, dtype=None):
    return ops.full(shape, count, dtype=dtype)


def _checked_values(initializer, where, shape, dtype=None):
    values = initializer(shape, dtype=dtype)
    if tuple(values.shape) != tuple(shape):
        raise ValueError(
            f"The initializer {initializer!r}{where} must give one number per "
            f"weight. Expected shape: {tuple(shape)}. Received shape: "
            f"{tuple(values.shape)}"
        )
    value_checks.check_no_nan(values, where, what="initial values")
    if value_checks.are_all_zero(values):
        raise ValueError(
            f"The initializer {initializer!r}{where} gives nothing but 0, "
            "whose sign is 0: such weights compute nothing, and such scores "
            "never change. Expected other numbers, as by default. Received: "
            f"{math.prod(shape)} zeros."
        )
    return values


def _serialized(value):
    if value is None:
        return None
    # From the second time on Keras says by which number it shares an object.
    keras.saving.serialize_keras_object(value)
    return keras.saving.serialize_keras_object(value)
