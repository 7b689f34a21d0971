"""Binary activations: sign forward, a stand-in for its gradient backward.

All of them compute ``q(x) = +1 where x >= 0, else -1``: zero maps to +1, so
that one bit is enough. NaN stays NaN, so that a network gone wrong shows it in
its loss, where `callbacks.CheckFinite` finds it. They differ in the gradient.
Each is a stateless Keras layer, so that it can stand in a model as it is, serve
as the `input_quantizer` of a masked layer, and be saved. The formulas are
Larq's.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from mpt_keras import larq

__all__ = ["ApproxSign", "SteSign", "SwishSign", "get"]


class Quantizer(keras.layers.Layer):
    """Base of the binary activations.

    Input shape: any. Output shape: the same; entries -1 and +1 (NaN for NaN)
    in the dtype of the input.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        @ops.custom_gradient
        def quantize(x):
            output = _sign(x)

            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                return upstream * ops.cast(self.slope(x), x.dtype)

            return output, gradient

        return quantize(inputs)

    def slope(self, x):
        """The derivative that stands in for that of the sign."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `slope(x)`."
        )

    def compute_output_shape(self, input_shape):
        return input_shape


def _sign(x):
    dtype = keras.backend.standardize_dtype(x.dtype)
    if not keras.backend.is_float_dtype(dtype):
        one = ops.ones_like(x)
        return ops.where(x < 0, -one, one)
    # Of three forms the fastest: zero is lifted off the middle.
    signs = ops.sign(ops.sign(x) + 0.5)
    if keras.backend.backend() == "torch":  # its sign of NaN is 0
        signs = ops.where(ops.isnan(x), x, signs)
    return signs


@keras.saving.register_keras_serializable(package="mpt_keras")
class ApproxSign(Quantizer):
    """Sign with the gradient of a quadratic spline; the papers' choice.

    Forward: ``+1 if x >= 0 else -1``. Gradient::

        dq/dx = 2 - 2 |x|  where |x| <= 1, else 0

    Example:

    >>> quantizer = mpt_keras.quantizers.ApproxSign()
    >>> outputs = quantizer(np.array([-2.0, 0.0, 0.5]))
    >>> keras.ops.convert_to_numpy(outputs).tolist()
    [-1.0, 1.0, 1.0]

    Reference:
        Liu et al., "Bi-Real Net", ECCV 2018.
    """

    def slope(self, x):
        return ops.maximum(2.0 - 2.0 * ops.abs(x), 0.0)


@keras.saving.register_keras_serializable(package="mpt_keras")
class SteSign(Quantizer):
    """Sign with a straight-through gradient inside `[-clip_value, clip_value]`.

    Forward: ``+1 if x >= 0 else -1``. Gradient::

        dq/dx = 1  where |x| <= clip_value, else 0

    Args:
        clip_value: Positive number, or None to let all gradients through.

    Raises:
        ValueError: If `clip_value` is not positive.

    Example:

    >>> quantizer = mpt_keras.quantizers.SteSign()
    >>> outputs = quantizer(np.array([-2.0, 0.0, 0.5]))
    >>> keras.ops.convert_to_numpy(outputs).tolist()
    [-1.0, 1.0, 1.0]

    Reference:
        Courbariaux et al., "Binarized Neural Networks", 2016.
    """

    def __init__(self, clip_value: float | None = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if clip_value is not None and not clip_value > 0:
            raise ValueError(
                "Invalid value for argument `clip_value`. Expected a positive "
                f"number or None. Received: clip_value={clip_value!r}"
            )
        self.clip_value = clip_value

    def slope(self, x):
        if self.clip_value is None:
            return ops.ones_like(x)
        return ops.abs(x) <= self.clip_value

    def get_config(self):
        return {**super().get_config(), "clip_value": self.clip_value}


@keras.saving.register_keras_serializable(package="mpt_keras")
class SwishSign(Quantizer):
    """Sign with the gradient of a scaled swish.

    Forward: ``+1 if x >= 0 else -1``. Gradient::

        dq/dx = beta * (2 - beta*x * tanh(beta*x / 2)) / (1 + cosh(beta*x))

    Args:
        beta: Positive number; the larger, the narrower the gradient.

    Raises:
        ValueError: If `beta` is not positive.

    Example:

    >>> quantizer = mpt_keras.quantizers.SwishSign()
    >>> outputs = quantizer(np.array([-2.0, 0.5]))
    >>> keras.ops.convert_to_numpy(outputs).tolist()
    [-1.0, 1.0]

    Reference:
        Darabi et al., "BNN+: Improved Binary Network Training", 2019.
    """

    def __init__(self, beta: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < beta < float("inf"):
            raise ValueError(
                "Invalid value for argument `beta`. Expected a positive "
                f"number. Received: beta={beta!r}"
            )
        self.beta = beta

    def slope(self, x):
        wide = keras.backend.result_type(x.dtype, "float32")
        # Beyond, it is 0 in every float type, and its parts are infinite.
        scaled = ops.clip(self.beta * ops.cast(x, wide), -80.0, 80.0)
        return (
            self.beta
            * (2.0 - scaled * ops.tanh(scaled / 2.0))
            / (1.0 + ops.cosh(scaled))
        )

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


_BY_NAME = {
    "approx_sign": ApproxSign,
    "ste_sign": SteSign,
    "swish_sign": SwishSign,
}


def get(identifier: Any) -> Callable[..., Any] | None:
    """Returns the quantizer that `identifier` names.

    Args:
        identifier: None; `"approx_sign"`, `"ste_sign"` or `"swish_sign"`; a
            quantizer class or object of this module or of Larq
            (`mpt_keras.larq.quantizers`); any callable on tensors; or the
            serialized form of one of these.

    Returns:
        A callable, or None.

    Raises:
        ValueError: If the name is unknown or the object cannot be called.

    Example:

    >>> mpt_keras.quantizers.get("ste_sign").clip_value
    1.0
    """
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    if isinstance(identifier, type):
        if issubclass(identifier, keras.layers.Layer):
            return identifier()
        identifier = repr(identifier)
    if isinstance(identifier, dict):
        if str(identifier.get("module")).startswith("larq"):
            # A saved model names Larq's module; `import larq` would fail.
            larq.quantizers  # noqa: B018
        return keras.saving.deserialize_keras_object(identifier)
    if identifier is None or callable(identifier):
        return identifier
    raise ValueError(
        "Invalid value for argument `input_quantizer`. Expected one of "
        f"{sorted(_BY_NAME)}, a quantizer object (also Larq's, from "
        "`mpt_keras.larq.quantizers`), a callable or None. Received: "
        f"input_quantizer={identifier!r}"
    )


def is_sign(quantizer: Any) -> bool:
    """Whether a quantizer computes the sign forward, one of Larq's included."""
    names = {cls.__name__ for cls in _BY_NAME.values()}
    is_larqs = type(quantizer).__module__.split(".")[0] == "larq"
    return (
        isinstance(quantizer, tuple(_BY_NAME.values()))
        and type(quantizer).call is Quantizer.call
    ) or (is_larqs and type(quantizer).__name__ in names)


def sign_model(
    rank: int, name: str | None = None, dtype: Any = None
) -> keras.Model:
    """Returns a model of Keras' own operations that computes the sign.

    They are those that the quantizers compute forward, and so the same bits
    (also of -0.0, which is +1; of NaN, which stays, except where a model made
    on another backend runs on PyTorch, whose sign of NaN is 0; and of subnormal
    numbers, which TensorFlow and JAX take for 0). A saved model that it stands
    in loads without this library.

    Args:
        rank: Number of dimensions of the input, of which none is fixed.
        name: Name of the model.
        dtype: Of the input, which is cast to it.

    Example:

    >>> sign = sign_model(rank=2)
    >>> keras.ops.convert_to_numpy(sign(np.array([[-2.0, 0.0]]))).tolist()
    [[-1.0, 1.0]]
    """
    inputs = keras.Input((None,) * (rank - 1), dtype=dtype, name="real")
    return keras.Model(inputs, _sign(inputs), name=name)


def is_sign_model(layer: Any) -> bool:
    """Whether a layer is what `sign_model` makes, on any backend."""
    if not isinstance(layer, keras.Function) or layer.weights:
        return False
    names = sorted(type(operation).__name__ for operation in layer.operations)
    return names in (
        ["Add", "InputLayer", "Sign", "Sign"],
        ["Add", "InputLayer", "Isnan", "Sign", "Sign", "Where"],
    )


def as_layer(
    quantizer: Any, name: str | None = None, dtype: Any = None
) -> keras.layers.Layer:
    """Returns a new layer that computes what a quantizer computes.

    Args:
        quantizer: Whatever `get` takes, except None. A layer that holds state
            is copied with it.
        name: Name of the new layer.
        dtype: Of the new layer where the quantizer is a function; a layer has
            its own.
    """
    quantizer = get(quantizer)
    if not isinstance(quantizer, keras.layers.Layer):
        return keras.layers.Activation(quantizer, name=name, dtype=dtype)
    config = quantizer.get_config()
    layer = type(quantizer).from_config({**config, "name": name})
    if quantizer.weights:
        layer.build_from_config(quantizer.get_build_config())
        layer.set_weights(quantizer.get_weights())
    return layer
