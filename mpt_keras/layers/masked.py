"""What all masked layers share: frozen kernels, scores, selection.

A masked layer is an ordinary Keras layer whose kernels are frozen at their
random values. Beside each kernel stand scores, one per weight; training moves
the scores, and the layer computes with the weights whose scores are largest.
"""

import contextlib
import functools
import itertools
import math
from typing import ClassVar

import keras
from keras import ops

from mpt_keras import (
    compilation,
    frozen_part,
    initial_values,
    initializers,
    quantizers,
    seeds,
)
from mpt_keras.layers.constructor import (
    OWN_DEFAULTS,
    check_flag,
    joined_signature,
    own_signature,
    refuse_meaningless,
    refuse_quantized_policy,
    shared_names,
)
from mpt_keras.layers.exporting import check_exportable
from mpt_keras.layers.masked_kernel import MaskedKernel, check_pruned
from mpt_keras.sparsity import check_sparsity, pruned_count


class MaskedLayer:
    """Mixin: turns the Keras layer that it precedes into a masked layer.

    A subclass says in `apply_kernel` what the layer does with its effective
    kernel. What else may differ from one layer to another it says where the
    defaults below do not fit:

    - `kernel_initializers`, a class attribute: a dictionary from the attribute
      of each kernel to the constructor argument of its initializer,
      `{"kernel": "kernel_initializer"}` by default;
    - `fan_in(kernel_name, kernel_shape)`: the number of inputs that one output
      sees, by default the product of all but the kernel's last dimension.

    The Keras layer must make its kernels by `add_weight(name=...)` with these
    names. Its `bias`, if it has any, must fit its outputs by broadcasting; the
    `activation`, if any, comes last. Scores, masks, sparsity, gradients,
    saving, callbacks and `freeze` are then those of every masked layer;
    `MPTDense` documents them, and the arguments that follow on those of the
    Keras layer.

    Example:

    >>> @keras.saving.register_keras_serializable()
    ... class MaskedEinsum(mpt_keras.MaskedLayer, keras.layers.EinsumDense):
    ...     def fan_in(self, kernel_name, kernel_shape):
    ...         return kernel_shape[0]
    ...
    ...     def apply_kernel(self, inputs, kernel):
    ...         return keras.ops.einsum(self.equation, inputs, kernel)
    >>> heads = MaskedEinsum("btd,dhk->bthk", (None, 2, 8), sparsity=0.9)
    >>> keras.ops.shape(heads(np.ones((4, 10, 16))))
    (4, 10, 2, 8)
    >>> int(keras.ops.sum(heads.mask()))
    26
    """

    kernel_initializers: ClassVar[dict] = {"kernel": "kernel_initializer"}
    # Arguments that the layer would have but cannot use, and why.
    _refused_arguments: ClassVar[dict] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if issubclass(cls, keras.layers.Layer):
            place = cls.__mro__.index(MaskedLayer)
            for before in cls.__mro__[:place]:
                if not issubclass(before, MaskedLayer):
                    raise TypeError(
                        f"Expected MaskedLayer before {before.__name__} among "
                        f"the bases of {cls.__name__}, whose methods it takes "
                        "the place of."
                    )
            keras_layer = next(
                base
                for base in cls.__mro__[place:]
                if issubclass(base, keras.layers.Layer)
            )
            cls._arguments = joined_signature(cls, keras_layer)
            cls._shared = shared_names(keras_layer)
            # What `help` and completion show.
            cls.__signature__ = own_signature(cls) or cls._arguments

    def __init__(self, *args, **kwargs):
        arguments = self._arguments.bind(*args, **kwargs)
        arguments.apply_defaults()
        options = arguments.arguments
        ours = {name: options.pop(name) for name in OWN_DEFAULTS}
        name = arguments.kwargs.get("name")
        where = f" (layer '{name}')" if name else ""

        refuse_meaningless(
            {**options, **arguments.kwargs, **ours},
            self.kernel_initializers.values(),
            self._refused_arguments,
            where,
        )
        sparsities = self._one_per_kernel(ours["sparsity"], where)
        fractions = tuple(
            frozen_part.check_fractions(pruned, kept, where)
            for pruned, kept in zip(
                *(
                    self._one_for_each_kernel(ours[name])
                    for name in ("frozen_pruned", "frozen_kept")
                ),
                strict=True,
            )
        )
        seed = seeds.check_seed(ours["seed"], where)
        binarize = check_flag("binarize", ours["binarize"], where)
        for name in self.kernel_initializers.values():
            if options.get(name) is None:
                options[name] = initializers.KaimingNormal(scale_fan="paper")
        options |= {name: ours[name] for name in self._shared}
        super().__init__(*arguments.args, **arguments.kwargs)
        refuse_quantized_policy(self)
        self._masked_kernels = ()
        self._sparsities = sparsities
        self._sparsities_when_drawn = sparsities
        self._frozen_fractions = fractions
        self.seed = seed
        self.binarize = binarize
        self.input_quantizer = quantizers.get(ours["input_quantizer"])
        self.scores_initializer = (
            initializers.KaimingUniform()
            if ours["scores_initializer"] is None
            else keras.initializers.get(ours["scores_initializer"])
        )
        self.scores_regularizer = keras.regularizers.get(
            ours["scores_regularizer"]
        )

    # --- State -----------------------------------------------------------

    def add_weight(self, shape=None, initializer=None, *args, **kwargs):
        name = kwargs.get("name")
        if name in self.kernel_initializers:
            # Not trainable from birth: Keras makes every weight born
            # trainable trainable again when `layer.trainable` is set.
            kwargs.update(trainable=False, autocast=False)
            initializer = self._bound(
                initializer or "glorot_uniform", name, shape
            )
        return super().add_weight(shape, initializer, *args, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        quantizer = self.input_quantizer
        if isinstance(quantizer, keras.layers.Layer) and not quantizer.built:
            quantizer.build(input_shape)
        self._masked_kernels = tuple(
            self._build_masked_kernel(number, name, sparsity)
            for number, (name, sparsity) in enumerate(
                zip(self.kernel_initializers, self._sparsities, strict=True)
            )
        )

    def _build_masked_kernel(self, number, name, sparsity):
        kernel = getattr(self, name)
        is_kernel = name.endswith("kernel")
        prefix = name.removesuffix("kernel") if is_kernel else f"{name}_"
        size = math.prod(kernel.shape)
        if not size:
            raise ValueError(
                f"'{name}' of layer '{self.name}' has no weights to choose "
                "among. Expected an input of at least one feature. Received: "
                f"a kernel of shape {tuple(kernel.shape)}"
            )
        part = frozen_part.frozen_part(
            self._frozen_fractions[number], size, self.seed, number
        )
        pruned = check_pruned(
            pruned_count(sparsity, size),
            size,
            part,
            f"sparsity={sparsity} (layer '{self.name}')",
        )
        scores_initializer = self._bound(
            self.scores_initializer, name, kernel.shape, of_scores=True
        )
        if part is not None:
            scores_initializer = functools.partial(
                _zero_where_frozen, scores_initializer, part
            )
        variables = {
            "scores": self.add_weight(
                name=f"{prefix}scores",
                shape=kernel.shape,
                initializer=scores_initializer,
                regularizer=self.scores_regularizer,
                autocast=False,
            ),
            "pruned": self.add_weight(
                name=f"{prefix}pruned",
                shape=(),
                # The integer type that Keras places where the floats are.
                dtype="int",
                initializer=functools.partial(_constant_count, pruned),
                trainable=False,
            ),
            "last_key": compilation.integer_between_calls(),
        }
        if part is not None:
            variables["frozen"] = self.add_weight(
                name=f"{prefix}frozen",
                shape=kernel.shape,
                dtype="int8",
                initializer=functools.partial(_positions, part),
                trainable=False,
                autocast=False,
            )
        # TensorFlow's checkpoints and SavedModels hold the variables that are
        # attributes of the layer, and no others.
        for attribute, variable in variables.items():
            setattr(self, f"_{prefix}{attribute}", variable)
        return MaskedKernel(
            self.name,
            kernel,
            **variables,
            binarize=self.binarize,
            frozen_part=part,
        )

    def _bound(self, initializer, kernel_name, shape, of_scores=False):
        """An initializer of a kernel or its scores, and what it must know."""
        return initial_values.bound(
            initializer,
            f" (layer '{self.name}')",
            **self._drawn_with(kernel_name, shape, of_scores),
        )

    def _drawn_with(self, kernel_name, shape, of_scores):
        number = list(self.kernel_initializers).index(kernel_name)
        return {
            "seed": self.seed,
            "stream": 2 * number + of_scores,
            "fan_in": self.fan_in(kernel_name, shape),
            "sparsity": self._sparsities_when_drawn[number],
        }

    def draw(self, kernel_name, of_scores=False):
        """What a kernel's first values, or its scores', are a function of.

        Args:
            kernel_name: Name of the kernel's attribute, such as `"kernel"`.
            of_scores: Whether its scores are meant.

        Returns:
            `mpt_keras.drawing.Draw`; None if they come from an initializer
            that is not of `mpt_keras.initializers`.

        Raises:
            AttributeError: If the layer is not built.
        """
        self._built_kernels()
        return initial_values.draw_of(
            self.scores_initializer
            if of_scores
            else getattr(self, self.kernel_initializers[kernel_name]),
            **self._drawn_with(
                kernel_name, getattr(self, kernel_name).shape, of_scores
            ),
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
        reseeded = initial_values.reseeded(
            getattr(self, self.kernel_initializers[kernel_name]),
            seed,
            f" (layer '{self.name}')",
        )
        shape = getattr(self, kernel_name).shape
        return self._bound(reseeded, kernel_name, shape)

    def fan_in(self, kernel_name, kernel_shape):
        """Number of inputs that one output of a kernel sees."""
        return math.prod(kernel_shape[:-1])

    def save_own_variables(self, store):
        # Keras' convolution and dense layers save a fixed list of weights,
        # in which the scores would be missing.
        with self._without_what_is_frozen():
            keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        with self._without_what_is_frozen():
            keras.layers.Layer.load_own_variables(self, store)

    @contextlib.contextmanager
    def _without_what_is_frozen(self):
        """While Keras saves: what the seed says need not be in a file."""
        every = self._non_trainable_variables
        left_out = {
            id(masked.frozen)
            for masked in self._masked_kernels
            if masked.frozen is not None
        }
        if not left_out:
            yield
            return
        self.__dict__["_non_trainable_variables"] = [
            variable for variable in every if id(variable) not in left_out
        ]
        try:
            yield
        finally:
            self.__dict__["_non_trainable_variables"] = every

    # --- Use -------------------------------------------------------------

    def call(self, inputs):
        if compilation.is_traced(inputs):
            check_exportable(self)
        if self.input_quantizer is not None:
            # A quantizer layer has a dtype of its own.
            inputs = ops.cast(self.input_quantizer(inputs), self.compute_dtype)
        kernels = [
            ops.cast(masked.effective(), self.compute_dtype)
            for masked in self._built_kernels()
        ]
        outputs = self.apply_kernel(inputs, *kernels)
        bias = getattr(self, "bias", None)
        if bias is not None:
            bias = ops.convert_to_tensor(bias)
            if getattr(self, "data_format", None) == "channels_first":
                bias = ops.reshape(bias, (-1,) + (1,) * self.rank)
            outputs = ops.add(outputs, bias)
        activation = getattr(self, "activation", None)
        return outputs if activation is None else activation(outputs)

    def apply_kernel(self, inputs, *kernels):
        """What the layer does with its kernels, before bias and activation."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `apply_kernel`."
        )

    @property
    def masked_kernels(self):
        """Tuple of the layer's kernels with their scores, one for most."""
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

    @property
    def binarize(self):
        """Whether the kept weights count by their signs; may be set."""
        return self._binarize

    @binarize.setter
    def binarize(self, value):
        where = f" (layer '{self.name}')"
        self._binarize = check_flag("binarize", value, where)
        for masked in self._masked_kernels:
            masked.binarize = value

    def _one_or_all(self, values):
        values = tuple(values)
        return values[0] if len(values) == 1 else values

    @property
    def scores(self):
        """The trained variable, one score per weight of the kernel."""
        return self._one_or_all(m.scores for m in self._built_kernels())

    @property
    def sparsity(self):
        """The fraction of weights pruned, a float in [0, 1); may be set.

        As it was asked for, `floor(sparsity * n)` of `n` weights, one of which
        always stays; otherwise the weights pruned by all of them.

        `layer.sparsity = 0.8` prunes `floor(0.8 * n)` of `n` weights from the
        next step on, also inside `fit`; before the layer is built, when it is.
        Of a layer with two kernels a pair, which is set by a pair or a number.

        Raises:
            ValueError: If the new value is outside [0, 1), or a built layer's
                frozen weights do not allow it. Nothing is changed then.
            AttributeError: Where it is read in a function that is being
                compiled, where the number is not known; `masked_kernels` have
                it as a tensor.
        """
        return self._one_or_all(
            asked if not masked else self._current_sparsity(masked, asked)
            for masked, asked in itertools.zip_longest(
                self._masked_kernels, self._sparsities
            )
        )

    @sparsity.setter
    def sparsity(self, value):
        where = f" (layer '{self.name}')"
        sparsities = self._one_per_kernel(value, where)
        pairs = list(zip(self._masked_kernels, sparsities, strict=False))
        for masked, sparsity in pairs:
            masked.check_sparsity(sparsity)
        self._sparsities = sparsities
        if not self._masked_kernels:
            self._sparsities_when_drawn = self._sparsities
        for masked, sparsity in pairs:
            masked.set_sparsity(sparsity)

    @property
    def frozen_pruned(self):
        """The fraction of weights that the seed prunes for ever."""
        return self._one_or_all(pruned for pruned, _ in self._frozen_fractions)

    @property
    def frozen_kept(self):
        """The fraction of weights that the seed keeps for ever."""
        return self._one_or_all(kept for _, kept in self._frozen_fractions)

    def _current_sparsity(self, masked, asked):
        """What was asked for, if it prunes as many as are pruned now."""
        kept = masked.kept()
        if compilation.is_traced(kept):
            # TensorFlow asks for an attribute before it sets it.
            raise AttributeError(
                f"The sparsity of layer '{self.name}' is a number, which is "
                "not known while a function is compiled. Read it outside, or "
                "use the tensor `layer.masked_kernels[0].kept()`."
            )
        pruned = masked.size - int(kept)
        if pruned == pruned_count(asked, masked.size):
            return asked
        return pruned / masked.size

    def _one_per_kernel(self, sparsity, where):
        """A number for all kernels or a sequence of numbers, as a tuple."""
        return tuple(
            check_sparsity(number, where)
            for number in self._one_for_each_kernel(sparsity)
        )

    def _one_for_each_kernel(self, value):
        count = len(self.kernel_initializers)
        is_sequence = isinstance(value, (tuple, list))
        if count == 1 or not is_sequence or len(value) != count:
            return [value] * count
        return value

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

    def set_mask(self, mask):
        """Selects the weights of a mask from now on, no more and no fewer.

        The sparsity becomes the mask's. The scores keep their signs and, all
        together, their magnitudes, of which the largest go to the weights
        kept: training continues from there.

        Args:
            mask: Boolean array of the kernel's shape, True at the weights
                kept, at least one; a pair of them for a layer with two
                kernels.

        Raises:
            AttributeError: If the layer is not built.
            ValueError: If the mask is no such array, or prunes a weight that
                is kept for ever or keeps one that is pruned for ever. Nothing
                is changed then.

        Example:

        >>> layer = mpt_keras.MPTDense(2)
        >>> layer.build((None, 2))
        >>> layer.set_mask(np.array([[True, False], [False, False]]))
        >>> layer.sparsity
        0.75
        """
        kernels = self._built_kernels()
        masks = (mask,) if len(kernels) == 1 else tuple(mask)
        if len(masks) != len(kernels):
            raise ValueError(
                f"Expected one mask for each of the {len(kernels)} kernels of "
                f"layer '{self.name}'. Received: {len(masks)}"
            )
        masks = [
            kernel.checked_mask(mask)
            for mask, kernel in zip(masks, kernels, strict=True)
        ]
        self.check_scores()
        for mask, kernel in zip(masks, kernels, strict=True):
            kernel.set_mask(mask)

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

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        backwards = "go_backwards"
        if backwards in config and backwards not in cls._arguments.parameters:
            # Keras would show the whole configuration.
            name = config["name"].removeprefix("backward_")
            raise ValueError(
                "keras.layers.Bidirectional runs a recurrent layer along a "
                "sequence, there and back. Expected one such as "
                f"keras.layers.LSTM. Received: {cls.__name__} layer "
                f"'{name}', which has no direction. Use it "
                "without Bidirectional, or in keras.layers.TimeDistributed."
            )
        drawn = config.pop("sparsity_when_drawn", None)
        layer = super().from_config(config)
        if drawn is not None:
            layer._sparsities_when_drawn = layer._one_per_kernel(drawn, "")
        return layer

    def get_config(self):
        # So that its kernel, drawn again, has the scale of the first draw.
        drawn = self._one_or_all(self._sparsities_when_drawn)
        changed = drawn != self.sparsity
        return {
            **super().get_config(),
            **({"sparsity_when_drawn": drawn} if changed else {}),
            "sparsity": self.sparsity,
            "binarize": self.binarize,
            "input_quantizer": serialized(self.input_quantizer),
            "scores_initializer": serialized(self.scores_initializer),
            "scores_regularizer": serialized(self.scores_regularizer),
            "seed": self.seed,
            **{
                name: getattr(self, name)
                for name, fractions in zip(
                    ("frozen_pruned", "frozen_kept"),
                    zip(*self._frozen_fractions, strict=True),
                    strict=True,
                )
                if any(fractions)
            },
        }


def _constant_count(count, shape, dtype=None):
    return ops.full(shape, count, dtype=dtype)


def _positions(part, shape, dtype=None):
    return ops.convert_to_tensor(part.positions(shape), dtype)


def _zero_where_frozen(initializer, part, shape, dtype=None):
    """Scores that a regularizer leaves as they are, as the loss does."""
    values = initializer(shape, dtype=dtype)
    free = ops.convert_to_tensor(part.positions(shape) == 0)
    return ops.where(free, values, ops.zeros_like(values))


def serialized(value):
    if value is None:
        return None
    # From the second time on Keras says by which number it shares an object.
    keras.saving.serialize_keras_object(value)
    return keras.saving.serialize_keras_object(value)
