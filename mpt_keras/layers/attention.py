"""Attention with masked projections.

The attention itself is Keras' own code. It makes its projections when it is
built; each gets a masked layer of the same configuration in its place.
"""

import keras

from mpt_keras import frozen_part, initializers, quantizers, seeds
from mpt_keras.layers.constructor import (
    OWN_DEFAULTS,
    check_flag,
    joined_signature,
    refuse_meaningless,
    refuse_quantized_policy,
)
from mpt_keras.layers.dense import MPTEinsumDense
from mpt_keras.layers.masked import MaskedLayer, serialized
from mpt_keras.sparsity import check_sparsity

_PROJECTIONS = ("query", "key", "value", "attention_output")
_GATE = "gate"


class MaskedAttention:
    """Mixin: masks the projections of the Keras attention that it precedes.

    It stands before a class that makes its projections as `EinsumDense`
    layers in `build`, and assigns each to an attribute before building it.
    """

    kernel_initializers = MaskedLayer.kernel_initializers

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        keras_layer = next(
            base
            for base in cls.__mro__
            if issubclass(base, keras.layers.Layer)
            and not issubclass(base, MaskedAttention)
        )
        cls._arguments = joined_signature(cls, keras_layer)
        if "__init__" not in vars(cls):
            cls.__signature__ = cls._arguments

    def __init__(self, *args, **kwargs):
        arguments = self._arguments.bind(*args, **kwargs)
        arguments.apply_defaults()
        options = arguments.arguments
        ours = {name: options.pop(name) for name in OWN_DEFAULTS}
        name = arguments.kwargs.get("name")
        where = f" (layer '{name}')" if name else ""

        refuse_meaningless(
            {**options, **arguments.kwargs},
            self.kernel_initializers.values(),
            {},
            where,
        )
        names = _PROJECTIONS + (_GATE,) * bool(options.get("use_gate"))
        sparsity = _checked_sparsity(ours["sparsity"], names, where)
        seed = seeds.check_seed(ours["seed"], where)
        binarize = check_flag("binarize", ours["binarize"], where)
        if options.get("kernel_initializer") is None:
            options["kernel_initializer"] = initializers.KaimingNormal(
                scale_fan="paper"
            )
        super().__init__(*arguments.args, **arguments.kwargs)
        refuse_quantized_policy(self)
        self._names = names
        self._sparsity = sparsity
        self._own_settings = {}
        self._binarize = binarize
        self._own_seed = self.seed = seed
        frozen_part.check_fractions(
            ours["frozen_pruned"], ours["frozen_kept"], where
        )
        self.frozen_pruned = ours["frozen_pruned"]
        self.frozen_kept = ours["frozen_kept"]
        self.input_quantizer = quantizers.get(ours["input_quantizer"])
        self.scores_initializer = keras.initializers.get(
            ours["scores_initializer"]
        )
        self.scores_regularizer = keras.regularizers.get(
            ours["scores_regularizer"]
        )

    def build(self, query_shape, value_shape, key_shape=None):
        self.seed = self.dropout_seed
        try:
            super().build(query_shape, value_shape, key_shape)
        finally:
            self.seed = self._own_seed

    @property
    def dropout_seed(self):
        """The seed in fewer bits, of which some backends take no more."""
        return seeds.derived_seed(self._own_seed)

    def __setattr__(self, name, value):
        if type(value) is keras.layers.EinsumDense and not value.built:
            value = self._masked(value)
        super().__setattr__(name, value)

    def _masked(self, projection):
        """The masked layer that takes a projection's place."""
        name = projection.name
        settings = {
            "sparsity": _of_one(self._sparsity, name),
            "binarize": self.binarize,
            "input_quantizer": self.input_quantizer,
            "scores_initializer": self.scores_initializer,
            "scores_regularizer": self.scores_regularizer,
            "frozen_pruned": self.frozen_pruned,
            "frozen_kept": self.frozen_kept,
            # By name, whatever else a version of Keras projects.
            "seed": seeds.derived_seed(self._own_seed, *name.encode()),
        }
        return MPTEinsumDense.from_config(
            {
                **projection.get_config(),
                **settings,
                **self._own_settings.get(name, {}),
            }
        )

    @property
    def projections(self):
        """Dictionary, name -> masked projection; empty before it is built.

        `"query"`, `"key"`, `"value"`, `"attention_output"`, and `"gate"`
        where there is one.
        """
        return {
            layer.name: layer
            for layer in self._layers
            if isinstance(layer, MaskedLayer)
        }

    @property
    def sparsity(self):
        """The fraction of weights pruned of each projection; may be set.

        A number where all have the same, otherwise a dictionary, name of the
        projection -> number. It is set by either: `layer.sparsity = 0.8`
        prunes as many of each projection from the next step on.

        Raises:
            ValueError: If a new number is outside [0, 1), or a dictionary
                leaves out a projection.
        """
        projections = self.projections.items()
        if not projections:
            return _joined(self._sparsity)
        return _joined({name: layer.sparsity for name, layer in projections})

    @sparsity.setter
    def sparsity(self, value):
        where = f" (layer '{self.name}')"
        self._sparsity = _checked_sparsity(value, self._names, where)
        if not self.projections:
            self._own_settings = {}
        for name, layer in self.projections.items():
            layer.sparsity = _of_one(self._sparsity, name)

    @property
    def binarize(self):
        """Whether the weights kept count by their signs; may be set."""
        return self._binarize

    @binarize.setter
    def binarize(self, value):
        check_flag("binarize", value, f" (layer '{self.name}')")
        self._binarize = value
        for layer in self.projections.values():
            layer.binarize = value

    enable_lora = MaskedLayer.enable_lora
    quantize = MaskedLayer.quantize

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        own_settings = config.pop("projections", {})
        layer = super().from_config(config)
        layer._own_settings = own_settings
        return layer

    def get_config(self):
        own_settings = self._settings_of_projections()
        return {
            **super().get_config(),
            "sparsity": self.sparsity,
            "binarize": self.binarize,
            "input_quantizer": serialized(self.input_quantizer),
            "scores_initializer": serialized(self.scores_initializer),
            "scores_regularizer": serialized(self.scores_regularizer),
            "seed": self._own_seed,
            "frozen_pruned": self.frozen_pruned,
            "frozen_kept": self.frozen_kept,
            **({"projections": own_settings} if own_settings else {}),
        }

    def _settings_of_projections(self):
        """What a projection has of its own, and is not made with otherwise."""
        if not self.projections:
            return {name: dict(own) for name, own in self._own_settings.items()}
        found = {}
        for name, layer in self.projections.items():
            config = layer.get_config()
            own = {}
            if "sparsity_when_drawn" in config:
                own["sparsity_when_drawn"] = config["sparsity_when_drawn"]
            if layer.binarize != self.binarize:
                own["binarize"] = layer.binarize
            if own:
                found[name] = own
        return found


def _checked_sparsity(sparsity, names, where):
    """A number, or a dictionary of one for each projection."""
    if not isinstance(sparsity, dict):
        return check_sparsity(sparsity, where)
    if sorted(sparsity) != sorted(names):
        raise ValueError(
            "Invalid value for argument `sparsity`. Expected a number, or a "
            f"dictionary of a number for each of {sorted(names)}. Received: "
            f"sparsity={sparsity!r}{where}"
        )
    return {
        name: check_sparsity(number, where) for name, number in sparsity.items()
    }


def _of_one(sparsity, name):
    return sparsity[name] if isinstance(sparsity, dict) else sparsity


def _joined(sparsity):
    """One number for a dictionary of equal ones."""
    if not isinstance(sparsity, dict):
        return sparsity
    numbers = set(sparsity.values())
    return numbers.pop() if len(numbers) == 1 else dict(sparsity)


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTMultiHeadAttention(MaskedAttention, keras.layers.MultiHeadAttention):
    """Multi-head attention whose projections are masked.

    Keras' own attention (masks, causal masks, dropout, flash attention where
    Keras has it) between four `MPTEinsumDense` layers, those of query, key,
    value and output::

        y = output(sum(softmax(query(q) @ key(k) / sqrt(key_dim)) @ value(v)))

    Each has scores of its own and keeps exactly `n - floor(sparsity * n)` of
    its `n` weights; `masked_layers` lists them, `layer.projections` has them
    by name. With `use_gate=True`, its projection is masked as well.

    Args:
        num_heads, key_dim, value_dim, dropout, ...: As for
            `keras.layers.MultiHeadAttention`, in the same order. `use_bias`
            is False by default; biases are trained. Regularizers and
            constraints of the kernels are refused.
        kernel_initializer: Initializer of the frozen kernels. By default
            `mpt_keras.initializers.KaimingNormal`, for each projection with a
            seed of its own.
        sparsity: Number in [0, 1), the fraction of each projection's weights
            pruned at first; or a dictionary, name of the projection
            (`"query"`, `"key"`, `"value"`, `"attention_output"`) -> number.
            `layer.sparsity` is a variable, as for `MPTDense`.
        binarize: True for biprop (binary weights), False for edge-popup.
        input_quantizer: As for `MPTDense`; applied to the input of each
            projection, so that the output's is quantized as well.
        scores_initializer, scores_regularizer, frozen_pruned, frozen_kept: As
            for `MPTDense`; fractions of each projection's weights.
        seed: Integer, from which the seeds of the projections and the dropout
            follow; drawn if None.

    Call arguments, returns:
        As for `keras.layers.MultiHeadAttention`.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTMultiHeadAttention(2, 8, sparsity=0.8, seed=0)
    >>> x = np.ones((4, 10, 16))
    >>> keras.ops.shape(layer(x, x, use_causal_mask=True))
    (4, 10, 16)
    >>> int(keras.ops.sum(layer.projections["query"].mask()))
    52

    Reference:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017; for the
        masks as for `MPTDense`.
    """


@keras.saving.register_keras_serializable(package="mpt_keras")
class MPTGroupedQueryAttention(
    MaskedAttention, keras.layers.GroupQueryAttention
):
    """Grouped-query attention whose projections are masked.

    As `MPTMultiHeadAttention`, with fewer heads of keys and values than of
    queries.

    Args:
        head_dim, num_query_heads, num_key_value_heads, dropout, ...: As for
            `keras.layers.GroupQueryAttention`, in the same order. `use_bias`
            is False by default; biases are trained. Regularizers and
            constraints of the kernels are refused.
        kernel_initializer, sparsity, ..., seed: As for
            `MPTMultiHeadAttention`.

    Call arguments, returns:
        As for `keras.layers.GroupQueryAttention`.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> layer = mpt_keras.MPTGroupedQueryAttention(8, 4, 2, sparsity=0.5)
    >>> x = np.ones((4, 10, 16))
    >>> keras.ops.shape(layer(x, x))
    (4, 10, 16)

    Reference:
        Ainslie et al., "GQA: Training Generalized Multi-Query Transformer
        Models from Multi-Head Checkpoints", EMNLP 2023; for the masks as for
        `MPTDense`.
    """
