"""What is compiled by whom: XLA, a graph, or nobody.

Selection and masking do little with each number and a layer has millions of
them, so their cost is the number of times that memory is read and written.
XLA fuses a chain of elementwise operations into one read.
"""

import functools

import keras
from keras import ops

from mpt_keras import config

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax


def fused(function):
    """Decorates a pure function of tensors so that XLA fuses its operations.

    On TensorFlow the function becomes a part of the graph that is compiled on
    its own, unless `config.disable_xla` was called; in a graph that XLA
    compiles as a whole it is a part of that. Called eagerly, it is called as
    it is. On
    JAX it is compiled also where it is called eagerly. On PyTorch compiling
    is the business of whoever compiles the model.

    Args:
        function: Takes tensors (or None, or lists of them) by position and
            Python values by keyword.
    """
    if keras.backend.backend() != "tensorflow":
        return jitted(function)

    @functools.wraps(function)
    def call(*tensors, **options):
        if tf.executing_eagerly() or not config.is_xla_enabled():
            return function(*tensors, **options)
        # One graph per signature: layers of the same shape share it, and
        # TensorFlow does not warn about a function traced again and again.
        signature = tuple(
            part if part is None else (tuple(part.shape), part.dtype)
            for part in tf.nest.flatten(tensors)
        )
        graph = _compiled(function, signature, tuple(sorted(options.items())))
        return graph(*tensors)

    return call


def jitted(function):
    """Decorates a pure function of tensors so that JAX compiles it.

    JAX compiles no function that assigns variables, hence not `in_graph`.

    Args:
        function: As for `fused`.
    """
    if keras.backend.backend() != "jax":
        return function

    @functools.wraps(function)
    def call(*tensors, **options):
        return _jitted(function, tuple(sorted(options.items())))(*tensors)

    return call


@functools.cache
def _jitted(function, options):
    return jax.jit(functools.partial(function, **dict(options)))


def with_gradient(function, gradient):
    """Gives a function a gradient of its own, with respect to its first tensor.

    Args:
        function: Takes tensors by position.
        gradient: Takes the gradient of the result, then these tensors.
    """
    if keras.backend.backend() == "jax":
        # Without a closure, over which JAX cannot differentiate in a function
        # that it compiles or computes twice.
        call = jax.custom_vjp(lambda *tensors: function(*tensors))
        call.defvjp(
            lambda *tensors: (function(*tensors), tensors),
            lambda tensors, upstream: (
                gradient(upstream, *tensors),
                *[None] * (len(tensors) - 1),
            ),
        )
        return call

    def call(first, *others):
        @ops.custom_gradient
        def differentiable(first):
            def backward(*args, upstream=None):
                # PyTorch passes it by name, TensorFlow by position.
                upstream = args[0] if upstream is None else upstream
                return gradient(upstream, first, *others)

            return function(first, *others), backward

        return differentiable(first)

    return call


def in_graph(function):
    """Decorates a function to run as a graph, as it would inside `fit`.

    It may assign variables. Other backends than TensorFlow run it as it is.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    return tf.function(function, autograph=False)


def call_in_graph(function):
    """Calls a function without arguments as a graph, for once."""
    if keras.backend.backend() != "tensorflow":
        return function()
    graph = tf.function(function, autograph=False)
    # Without the warning that a function is traced again and again.
    return graph.get_concrete_function()()


@functools.cache
def _compiled(function, signature, options):
    del signature  # part of the key only
    return tf.function(
        functools.partial(function, **dict(options)),
        jit_compile=True,
        autograph=False,
    )


def is_traced(tensor) -> bool:
    """Whether a tensor stands for a value that a compiled function will get."""
    if keras.backend.backend() == "tensorflow":
        return not tf.executing_eagerly()
    return keras.backend.backend() == "jax" and isinstance(
        tensor, jax.core.Tracer
    )
