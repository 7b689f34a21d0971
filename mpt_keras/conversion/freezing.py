"""Freezing: from a found ticket to an ordinary Keras model."""

import random

import keras

from mpt_keras import model_checks
from mpt_keras.conversion.comparison import check_predicts_the_same, refusal
from mpt_keras.conversion.plain_layers import masked_and_keras_class
from mpt_keras.conversion.rebuilding import GRAPHS, Rebuilder
from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.traversal import masked_layers

_OF_A_MODEL = ("call", "predict_step", "test_step", "compute_loss")
_FUNCTIONS = ("activation", "recurrent_activation", "input_quantizer")


def freeze(model: keras.Model, compile: bool = False) -> keras.Model:
    """Returns the found ticket as an ordinary Keras model.

    Every masked layer becomes the Keras layer it derives from (`Conv2D`,
    `Dense`, ...), its kernel holding exactly `{-gain, 0, +gain}` (or the
    masked random weights with `binarize=False`). An `input_quantizer` becomes
    a layer of its own in front: the sign (all quantizers of this library, and
    Larq's `ApproxSign`, `SteSign` and `SwishSign`) a small model of Keras' own
    operations, `sign(sign(x) + 0.5)`, whose gradient is 0; others stay as they
    are. Predictions are bit-identical, nothing is selected any more, and the
    weights take half the memory. The given model is left as it is. (That is so
    of `predict`. The last bit may differ where a model is called eagerly or
    compiled with XLA, and behind binary activations a last bit may turn a
    sign, and then all that follows.)

    The ticket is not trainable, so that `fit` does not change its weights (a
    layer of one's own that assigns a state in its call still does). To
    fine-tune it nevertheless, set `trainable = True` of it and of its layers,
    and compile it; of binary activations only what follows the last sign then
    learns. That fills the pruned weights as well, unless
    `mpt_keras.lottery.apply_masks` holds them at 0::

        kernels = mpt_keras.lottery.kernel_values(ticket)
        masks = {name: kernel != 0 for name, kernel in kernels.items()}
        mpt_keras.lottery.apply_masks(ticket, masks)

    Wrappers (`TimeDistributed`, `Bidirectional`, ...), custom layers and
    subclassed models are copied, with ordinary layers in the place of the
    masked ones that their code calls. Wherever code that is not of Keras
    computes, the ticket is compared with the given model on random input.
    `SpectralNormalization`, which acts in training alone, makes way for the
    layer inside it.

    A saved ticket needs Keras alone: `keras.models.load_model` loads it where
    there is no `mpt_keras`. Custom layers and models need `mpt_keras` and their
    own classes, other quantizers theirs (Larq's are those of
    `mpt_keras.larq.quantizers`), and a compiled ticket its loss and metrics,
    unless it is loaded with compile=False; an exported one needs none of
    these. (Of `export`'s formats, models with masked layers know
    `"tf_saved_model"` alone; tickets know all of them.)

    Args:
        model: A built Keras model. Layers other than masked ones are copied
            with their state; what Keras copies, it saves and loads, so that
            custom classes are registered
            (`@keras.saving.register_keras_serializable()`) and have a
            `get_config`.
        compile: Whether to compile the ticket as the given model is, for
            `evaluate`.

    Returns:
        A model of the same kind with the same layer names.

    Raises:
        ValueError: If the model is not built or holds no masked layer; if
            Keras cannot copy one of its layers; if it would predict something
            else (a masked layer, or a Sequential or functional model, with a
            `call` or an `apply_kernel` of one's own; code that uses more of
            a masked layer than calling it); if a score is NaN; or if it is to
            be compiled and the given model is not, or has a loss or metrics
            that cannot be looked up by name.

    Example:

    >>> frozen = mpt_keras.freeze(model)
    >>> frozen.export("saved_model", verbose=False)  # serves without mpt_keras
    """
    model_checks.check_is_model(model)
    if not masked_layers(model):
        raise ValueError(
            f"Model '{model.name}' holds no masked layer, so there is no "
            "ticket in it to freeze."
        )
    if compile and not model.compiled:
        raise ValueError(
            f"Model '{model.name}' is not compiled, and so the ticket cannot "
            "be compiled as it is. Expected compile=False."
        )
    for layer in model._flatten_layers():
        if isinstance(layer, MaskedLayer):
            masked_class, _ = masked_and_keras_class(layer)
            methods = ("call", "apply_kernel")
            _check_not_overridden(layer, methods, before=masked_class)
        elif isinstance(layer, GRAPHS) and masked_layers(layer):
            _check_not_overridden(layer, _OF_A_MODEL, before=keras.Model)
    model_checks.check_is_built(model)
    rebuilder, drawn = Rebuilder(), random.getstate()
    try:
        frozen = rebuilder.layer(model)
    except (AttributeError, TypeError, NotImplementedError) as error:
        found = f"it fails: {error}"
        raise refusal(model, rebuilder.holders, found) from error
    finally:
        # The constructors of copies draw seeds, which nobody asked for.
        random.setstate(drawn)
    frozen.trainable = False
    frozen._called = True  # Keras exports to ONNX what has been called
    others = {*rebuilder.holders, *_names_of_other_code(model)}
    if others:
        check_predicts_the_same(frozen, model, sorted(others))
    if compile:
        _compile_alike(frozen, model)
    return frozen


def _names_of_other_code(model):
    """Names of the layers that compute with code that is not Keras' or ours.

    What Keras saves and loads of it need not be what it was.
    """
    for layer in model._flatten_layers():
        used = [type(layer)]
        used += [getattr(layer, name, None) for name in _FUNCTIONS]
        is_lambda = isinstance(layer, keras.layers.Lambda)
        if is_lambda or any(map(_is_other_code, used)):
            yield layer.name


def _is_other_code(code):
    module = getattr(code, "__module__", None) or type(code).__module__
    ours = ("keras", "mpt_keras", "builtins")
    return module.split(".")[0] not in ours


def _check_not_overridden(layer, methods, before):
    """Raises `ValueError` if a class of the user's computes otherwise.

    Args:
        layer: A layer.
        methods: Names of the methods that compute.
        before: The class that these are to be of, or one that is derived from.
    """
    classes = type(layer).__mro__
    for cls in classes[: classes.index(before)]:
        own = set(methods) & vars(cls).keys()
        if own and cls.__module__.split(".")[0] not in ("keras", "mpt_keras"):
            raise ValueError(
                f"Cannot freeze '{layer.name}': its class {cls.__name__} has "
                f"a `{own.pop()}` of its own, and a layer or model of Keras "
                "would predict something else. Expected the methods of Keras "
                "and mpt_keras. Do that computation in a layer beside it."
            )


def _compile_alike(frozen, model):
    try:
        frozen.compile_from_config(model.get_compile_config())
    except Exception as error:
        raise ValueError(
            f"The ticket of '{model.name}' cannot be compiled: its loss, "
            "metrics or optimizer cannot be looked up by name. Register them "
            "with @keras.saving.register_keras_serializable(), or leave out "
            f"compile=True and compile the ticket. Keras says: {error}"
        ) from error
