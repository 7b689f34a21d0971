"""The constructor arguments of masked layers: Keras' own, then ours."""

import inspect

OWN_DEFAULTS = {
    "sparsity": 0.5,
    "binarize": True,
    "input_quantizer": None,
    "scores_initializer": None,
    "scores_regularizer": None,
    "seed": None,
}


def joined_signature(cls, keras_layer):
    """The Keras layer's parameters, then ours, as `inspect` shows them."""
    parameters = dict(inspect.signature(keras_layer).parameters)
    parameters.pop("kwargs", None)
    changed = {name: None for name in cls.kernel_initializers.values()}
    changed["use_bias"] = False
    for name, default in changed.items():
        parameters[name] = parameters[name].replace(default=default)
    for name, default in OWN_DEFAULTS.items():
        parameters[name] = inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default
        )
    parameters["kwargs"] = inspect.Parameter(
        "kwargs", inspect.Parameter.VAR_KEYWORD
    )
    return inspect.Signature(list(parameters.values()))


def refuse_meaningless(options, where):
    for name, value in options.items():
        of_kernel = name.startswith(("kernel", "depthwise", "pointwise"))
        trained = name.endswith(("_regularizer", "_constraint"))
        if value is not None and (
            name == "lora_rank" or (of_kernel and trained)
        ):
            raise ValueError(
                f"Argument `{name}` has no effect on a masked layer, whose "
                "kernel is frozen; it is the scores that train "
                "(`scores_regularizer`). Expected None. Received: "
                f"{name}={value!r}{where}"
            )
