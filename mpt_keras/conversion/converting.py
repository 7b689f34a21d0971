"""Converting: from an ordinary Keras model to one of masked layers."""

import dataclasses
import itertools
import math
import random
from typing import Any

import keras

from mpt_keras import model_checks, quantizers, seeds, sparsity_rules
from mpt_keras.callbacks.global_sparsity import prune_globally
from mpt_keras.conversion.choosing_layers import Layers, choose
from mpt_keras.conversion.comparison import difference
from mpt_keras.conversion.conversion_report import (
    ConversionReport,
    ConvertedLayer,
    remember,
)
from mpt_keras.conversion.copying import (
    copied,
    copied_with_config,
    is_of_keras,
)
from mpt_keras.conversion.masked_holders import (
    as_converted,
    places,
    put_inside,
)
from mpt_keras.conversion.masked_layers import (
    ConversionSettings,
    kernel_shapes,
    masked_layer,
    options_without_effect,
)
from mpt_keras.conversion.rebuilding import GRAPHS
from mpt_keras.layers.constructor import check_flag
from mpt_keras.layers.traversal import masked_layers

_OF_A_MODEL = ("call", "train_step", "predict_step", "test_step")
_OF_A_MODEL += ("compute_loss",)


def convert(
    model: keras.Model,
    sparsity: sparsity_rules.Rule | None = None,
    binarize: bool | None = None,
    input_quantizer: Any = None,
    layers: Layers = None,
    kernel: str = "random",
    scores_regularizer: Any = None,
    seed: int | None = None,
) -> keras.Model:
    """Returns an ordinary model with masked layers in place of its own.

    Every `Dense`, `Conv2D`, ... becomes the masked layer of that name
    (`MPTDense`, `MPTConv2D`, ...) with the same arguments, name and place:
    nested models, shared layers, `TimeDistributed` and layers held by custom
    ones included. What has no masked form is copied with its weights.
    `conversion_report` says what was done with each layer, and why.

    With `kernel="random"` the frozen kernels are drawn from the seed, as those
    of masked layers are: a multi-prize ticket is searched in a random network.
    With `kernel="keep"` they are the model's own, and a mask is searched over
    trained weights. The scores then start in proportion to `abs(kernel)`:
    without a sparsity nothing is pruned and the model predicts the same bits,
    and with one the smallest weights are pruned first. Everything else (the
    biases, batch norms and all layers left alone) is copied either way, and
    trains as it did.

    The given model is left as it is. The new one is not compiled. Regularizers
    and constraints of kernels are left out, because the kernels are frozen.

    Wrappers other than `TimeDistributed` are left alone, and so are layers of
    custom classes, unless `register_conversion` says how to convert them.
    Keras layers that a custom layer holds (as an attribute, in lists) are
    masked where its code does nothing but call them: with its own weights,
    unpruned, it has to predict the same on random input. Such a class has to
    be registered (`@keras.saving.register_keras_serializable()`).

    Args:
        model: A built Sequential or functional model.
        sparsity: Number in [0, 1), the fraction of weights pruned per kernel;
            a rule such as `mpt_keras.sparsity_rules.ERK(0.9)`; or a dictionary
            of names or patterns of kernels, with a number or rule for each.
            By default 0.5, or 0 with `kernel="keep"`.
        binarize: True for binary weights (biprop), False for edge-popup. By
            default True, or False with `kernel="keep"`.
        input_quantizer: Of all masked layers, as of `MPTDense`.
        layers: Which layers are masked: None for all that can be; a name or a
            pattern such as `"block5_*"`, of names or paths
            (`"encoder/dense"`); a sequence of them; or a function of name and
            layer, true for those to mask.
        kernel: `"random"` or `"keep"`.
        scores_regularizer: Of all masked layers, as of `MPTDense`.
        seed: Integer; the seed of every layer is derived from it, and does not
            depend on `layers`. Drawn if None.

    Returns:
        A Sequential or functional model with the same layer names.

    Raises:
        ValueError: If an argument is invalid or a pattern matches nothing; if
            the model is subclassed, not built or has nothing to mask; if a
            layer to mask is quantized, fine-tuned with LoRA, or shared with a
            part that is not to be masked; if an operation of the graph
            computes with a variable that belongs to no layer there; if
            `kernel="keep"` and a weight is not finite; or if Keras cannot copy
            a layer.

    Example:

    >>> dense = keras.Sequential([keras.Input((8, 8, 1))])
    >>> dense.add(keras.layers.Conv2D(4, 3, activation="relu", name="conv"))
    >>> dense.add(keras.layers.Flatten())
    >>> dense.add(keras.layers.Dense(10, name="logits"))
    >>> masked = mpt_keras.convert(dense, sparsity={"conv": 0.2, "*": 0.8})
    >>> [(x.name, x.sparsity) for x in mpt_keras.masked_layers(masked)]
    [('conv', 0.2), ('logits', 0.8)]

    Reference:
        Mallya et al., "Piggyback: Adapting a Single Network to Multiple Tasks
        by Learning to Mask Weights", ECCV 2018 (`kernel="keep"`).
    """
    if kernel not in ("random", "keep"):
        raise ValueError(
            "Invalid value for argument `kernel`. Expected 'random' (drawn "
            "from the seed) or 'keep' (the model's own). Received: "
            f"kernel={kernel!r}"
        )
    keep = kernel == "keep"
    if sparsity is None:
        sparsity = 0.0 if keep else 0.5
    rule = sparsity_rules.as_rule(sparsity)
    binarize = not keep if binarize is None else binarize
    quantizers.get(input_quantizer)  # or an error
    _check_regularizer(scores_regularizer)
    seed = seeds.check_seed(seed)
    _check_model(model)
    drawn = random.getstate()
    try:
        choices = choose(model, layers)
        common = ConversionSettings(
            sparsity=0.0,
            binarize=check_flag("binarize", binarize, ""),
            input_quantizer=input_quantizer,
            scores_regularizer=scores_regularizer,
            seed=seed,
            kernel=kernel,
        )
        _leave_holders_alone(choices, common)
        chosen = [choice for choice in choices if choice.reason is None]
        if not chosen:
            raise ValueError(
                f"Nothing can be masked in model '{model.name}': "
                f"{ {choice.name: choice.reason for choice in choices} }"
            )
        if keep:
            _check_finite(chosen)
        settings = _settings(choices, common, rule)
        copies = _Copies(settings)
        masked = copies.layer(model)
    finally:
        # The constructors of copies draw seeds, which nobody asked for.
        random.setstate(drawn)
    if isinstance(rule, sparsity_rules.Global):
        prune_globally(masked, rule.sparsity)
    remember(masked, _report(model, choices, copies))
    return masked


def _check_regularizer(regularizer):
    try:
        keras.regularizers.get(regularizer)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "Invalid value for argument `scores_regularizer`. Expected a Keras "
            "regularizer, its name or None. Received: "
            f"scores_regularizer={regularizer!r}"
        ) from error


def _check_model(model):
    model_checks.check_is_model(model)
    if not isinstance(model, GRAPHS):
        raise ValueError(
            f"Model '{model.name}' is subclassed ({type(model).__name__}): its "
            "own code says how it computes, and cannot be made anew with other "
            "layers. Expected a Sequential or functional model. Build it as "
            "one: keras.Model(inputs, outputs), in which its parts may stay "
            "custom layers (`register_conversion` says how these convert); or "
            "write masked layers (MPTDense, ...) in its code."
        )
    model_checks.check_is_built(model)
    for layer in model._flatten_layers():
        if isinstance(layer, GRAPHS):
            for cls in type(layer).__mro__:
                own = set(_OF_A_MODEL) & vars(cls).keys()
                if own and cls.__module__.split(".")[0] != "keras":
                    raise ValueError(
                        f"Model '{layer.name}' has a `{own.pop()}` of its own "
                        f"({cls.__name__}), which its copy would be without. "
                        "Expected a model that computes what its graph says. "
                        "Give keras.Model(model.inputs, model.outputs)."
                    )
        if isinstance(layer, keras.Function):
            _check_without_variables(layer)


def _check_without_variables(model):
    # An operation has no weights, so that a copy would use the same variable.
    for node in itertools.chain(*model._nodes_by_depth.values()):
        arguments = [node.arguments.args, node.arguments.kwargs]
        for value in keras.tree.flatten(arguments):
            if isinstance(value, keras.Variable):
                raise ValueError(
                    f"Operation '{node.operation.name}' of model "
                    f"'{model.name}' computes with the variable "
                    f"'{value.path}', which the converted model would share "
                    "with this one. Expected weights that belong to layers. "
                    "Do it in the `call` of a layer."
                )


def _check_finite(choices):
    for choice in choices:
        for weight in choice.layer.weights:
            values = keras.ops.cast(weight, "float32")
            if not keras.ops.all(keras.ops.isfinite(values)):
                raise ValueError(
                    f"Weight '{weight.path}' of layer '{choice.name}' holds "
                    "numbers that are not finite, among which magnitudes "
                    "choose none. Expected trained weights, or "
                    "kernel='random'."
                )


def _leave_holders_alone(choices, common):
    """Marks layers whose holder computes something else with masked ones."""
    holders = {}
    for choice in choices:
        (holder, *_) = choice.holders
        if choice.reason is None and holder is not None:
            holders.setdefault(id(holder), (holder, []))[1].append(choice)
    for holder, held in holders.values():
        unpruned = dataclasses.replace(
            common, binarize=False, input_quantizer=None, kernel="keep"
        )
        trial = _Copies({id(choice.layer): unpruned for choice in held})
        try:
            copy = trial.layer(holder)
            why = difference(copy, holder)
            if why is None:
                _call_without_kernels(trial.masked, held)
                if difference(copy, holder) is not None:
                    why = "it uses kernels otherwise than by calling layers"
        except (AttributeError, TypeError, NotImplementedError) as error:
            why = f"it fails with masked layers inside: {error}"
        if why is not None:
            for choice in held:
                choice.reason = f"held by '{holder.name}': {why}"


def _call_without_kernels(masked, choices):
    """Layers answer as before, and whoever reads their kernels finds 0."""
    for choice in choices:
        layer = masked[id(choice.layer)]
        layer.call = choice.layer.call
        for inner in masked_layers(layer):
            for masked_kernel in inner.masked_kernels:
                kernel = masked_kernel.kernel
                kernel.assign(keras.ops.zeros(kernel.shape, kernel.dtype))


def _settings(choices, common, rule):
    """Id of a layer to mask -> its `ConversionSettings`."""
    chosen = [choice for choice in choices if choice.reason is None]
    shapes = {}
    for choice in chosen:
        shapes |= kernel_shapes(choice.layer, choice.name)
    sparsities = sparsity_rules.sparsity_per_kernel(rule, shapes)
    able = [choice for choice in choices if choice.has_masked_form]
    settings = {}
    for choice, seed in zip(able, seeds.seeds_from(common.seed), strict=False):
        if choice.reason is None:
            names = kernel_shapes(choice.layer, choice.name)
            numbers = tuple(sparsities[name] for name in names)
            settings[id(choice.layer)] = dataclasses.replace(
                common,
                sparsity=numbers[0] if len(set(numbers)) == 1 else numbers,
                seed=seed,
            )
    return settings


class _Copies:
    """Copies of layers, some of them masked; remembers them.

    Attributes:
        masked: Id of a layer that is masked -> its masked form.
    """

    def __init__(self, settings):
        self._settings = settings
        # By id, beside the object itself, whose id no other may take.
        self._copies = {}
        self.masked = {}

    def layer(self, layer):
        """The layer, model or operation that stands for `layer`."""
        if id(layer) not in self._copies:
            self._copies[id(layer)] = layer, self._copy(layer)
        return self._copies[id(layer)][1]

    def _copy(self, layer):
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        if id(layer) in self._settings:
            return self._masked(layer, layer)
        if isinstance(layer, GRAPHS):
            return self._graph(layer)
        if any(id(x) in self._settings for x in layer._flatten_layers()):
            return self._holder(layer)
        copy = copied(layer)
        if isinstance(layer, keras.layers.BatchNormalization):
            copy.synchronized = layer.synchronized
        return copy

    def _masked(self, layer, source):
        """The masked form of a layer, which is `source` or a copy of it."""
        masked = masked_layer(layer, self._settings[id(source)])
        self.masked[id(source)] = masked
        return masked

    def _graph(self, model):
        if isinstance(model, keras.Sequential):
            parts = [self.layer(layer) for layer in model.layers]
            copy = keras.Sequential(
                [_input(model.inputs[0]), *parts], name=model.name
            )
        else:
            # A view without the compiled state, which is not to be cloned.
            view = keras.Model(model.input, model.output, name=model.name)
            copy = keras.models.clone_model(
                view,
                input_tensors=keras.tree.map_structure(_input, view.input),
                clone_function=self.layer,
            )
        if not model.trainable:
            copy.trainable = False
        return copy

    def _holder(self, layer):
        copy, original = copied_with_config(layer)
        inside, masked = places(copy), {}
        for place, source in places(layer).items():
            if id(source) in self._settings:
                masked[place] = self._masked(inside[place], source)
        put_inside(copy, masked)
        return (
            copy if is_of_keras(copy) else as_converted(copy, original, masked)
        )


def _input(tensor):
    source = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=source.name,
        optional=getattr(source, "optional", False),
    )


def _report(model, choices, copies):
    rows = []
    for choice in choices:
        layer, masked = choice.layer, copies.masked.get(id(choice.layer))
        row = ConvertedLayer(
            name=choice.name,
            kind=type(layer).__name__,
            masked_kind=None,
            reason=choice.reason,
            weights=layer.count_params() if layer.weights else 0,
            sparsity={},
        )
        if masked is not None:
            shapes = kernel_shapes(layer, choice.name)
            row = dataclasses.replace(
                row,
                masked_kind=type(masked).__name__,
                weights=sum(map(math.prod, shapes.values())),
                sparsity=dict(zip(shapes, _sparsities(masked), strict=True)),
                remark=_remark(layer, masked),
            )
        rows.append(row)
    return ConversionReport(model.name, tuple(rows))


def _remark(layer, masked):
    without = options_without_effect(layer)
    remarks = [f"without {', '.join(without)}"] if without else []
    if not masked.trainable:
        remarks.append("not trainable, as it was")
    return "; ".join(remarks) or None


def _sparsities(layer):
    for masked in masked_layers(layer):
        several = isinstance(masked.sparsity, tuple)
        yield from masked.sparsity if several else [masked.sparsity]
