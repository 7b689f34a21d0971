"""The constructor arguments of masked layers: Keras' own, then ours."""

import inspect

OWN_DEFAULTS = {
    "sparsity": 0.5,
    "binarize": True,
    "input_quantizer": None,
    "scores_initializer": None,
    "scores_regularizer": None,
    "seed": None,
    "frozen_pruned": 0.0,
    "frozen_kept": 0.0,
}
_OF_FINE_TUNING = {
    *("lora_rank", "quantization_config", "gptq_unpacked_column_size"),
}


def joined_signature(cls, keras_layer):
    """The Keras layer's parameters, then ours, as `inspect` shows them."""
    kinds = inspect.Parameter
    parameters = dict(inspect.signature(keras_layer).parameters)
    rest = kinds("kwargs", kinds.VAR_KEYWORD)
    for name, parameter in list(parameters.items()):
        if parameter.kind is kinds.VAR_KEYWORD:
            rest = parameters.pop(name)
        elif name in OWN_DEFAULTS:
            del parameters[name]
    own_kind = kinds.POSITIONAL_OR_KEYWORD
    if {kinds.VAR_POSITIONAL, kinds.KEYWORD_ONLY} & {
        parameter.kind for parameter in parameters.values()
    }:
        own_kind = kinds.KEYWORD_ONLY
    changed = {name: None for name in cls.kernel_initializers.values()}
    changed["use_bias"] = False
    for name in changed.keys() & parameters.keys():
        parameters[name] = parameters[name].replace(default=changed[name])
    for name, default in OWN_DEFAULTS.items():
        parameters[name] = kinds(name, own_kind, default=default)
    return inspect.Signature([*parameters.values(), rest])


def shared_names(keras_layer):
    """Arguments of ours that the Keras layer has as well, such as a seed."""
    return OWN_DEFAULTS.keys() & inspect.signature(keras_layer).parameters


def own_signature(cls):
    """The signature of a constructor that a subclass writes itself."""
    if "__init__" not in vars(cls):
        return None
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    return inspect.Signature(parameters)


def check_flag(name, value, where):
    """Returns a Boolean; refuses what only looks like one."""
    if not isinstance(value, bool):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected True or False. "
            f"Received: {name}={value!r}{where}"
        )
    return value


def refuse_quantized_policy(layer):
    """Raises `ValueError` if a dtype policy would round the frozen kernel."""
    if getattr(layer.dtype_policy, "quantization_mode", None):
        raise ValueError(
            f"Layer '{layer.name}' selects its weights anew at every call and "
            "cannot be quantized. Expected a float or mixed precision policy. "
            f"Received: dtype={layer.dtype_policy.name!r}. Freeze the trained "
            "model, then quantize: mpt_keras.freeze(model)."
        )


def refuse_meaningless(options, kernel_initializers, reasons, where):
    """Raises `ValueError` for arguments that have no effect.

    Args:
        options: Dictionary, name of the argument -> value.
        kernel_initializers: As for `without_effect`.
        reasons: Dictionary, name of another argument -> why it has none.
        where: Text for errors.
    """
    of_training = dict.fromkeys(
        without_effect(kernel_initializers),
        "whose kernel is frozen; it is the scores that train "
        "(`scores_regularizer`)",
    )
    for name, value in options.items():
        reason = (reasons | of_training).get(name)
        if value is not None and reason:
            raise ValueError(
                f"Argument `{name}` has no effect on a masked layer, "
                f"{reason}. Expected None. Received: {name}={value!r}{where}"
            )


def without_effect(kernel_initializers):
    """Names of arguments that have no effect on frozen kernels.

    Args:
        kernel_initializers: Names of the arguments that initialize them.
    """
    kernels = [
        name.removesuffix("_initializer") for name in kernel_initializers
    ]
    return {
        *_OF_FINE_TUNING,
        *(f"{kernel}_regularizer" for kernel in kernels),
        *(f"{kernel}_constraint" for kernel in kernels),
    }
