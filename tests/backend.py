"""What the tests need of a backend: gradients, compiled forms, skips.

Here alone the tests import a backend by itself. `tf` is None on others.
"""

import effort
import keras
import numpy as np
import pytest
from keras import ops

NAME = keras.backend.backend()
tf = None
if NAME == "tensorflow":
    import tensorflow as tf
elif NAME == "jax":
    import jax
else:
    import torch

    # The tests run side by side already; threads would wait for each other.
    torch.set_num_threads(1)

needs_tensorflow = pytest.mark.skipif(
    NAME != "tensorflow", reason="needs the TensorFlow backend"
)

# Keras refuses several steps per execution there, and a small model takes a
# minute to compile.
not_on_torch = pytest.mark.skipif(
    NAME == "torch", reason="needs another backend than PyTorch"
)

KERAS_VERSION = tuple(map(int, keras.__version__.split(".")[:2]))
needs_litert = pytest.mark.skipif(
    NAME != "tensorflow" or KERAS_VERSION < (3, 13),
    reason="needs the TensorFlow backend, and Keras 3.13",
)

# Name -> what makes a pure function of tensors run in that form.
FORMS = {"eager": lambda function: function}
if NAME == "tensorflow":
    FORMS["graph"] = tf.function
    FORMS["xla"] = lambda function: tf.function(function, jit_compile=True)
elif NAME == "jax":
    FORMS["xla"] = jax.jit


def examples(count):
    """Of Hypothesis; JAX compiles every operation anew for every shape."""
    return effort.examples(count) if NAME == "tensorflow" else count // 10


def optimize_graphs(is_on):
    """Whether TensorFlow rewrites a graph before it runs it.

    To rewrite that of a small network takes a third of the time of a test.
    """
    if NAME == "tensorflow":
        options = {"disable_meta_optimizer": not is_on}
        tf.config.optimizer.set_experimental_options(options)


def as_numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


def value_and_gradients(function, variables, upstream=1.0):
    """Differentiates a function of Keras variables.

    Args:
        function: Takes no arguments, returns a tensor.
        variables: List of trainable Keras variables.
        upstream: Array by which the value is multiplied and then summed.

    Returns:
        The function's value, and the gradients of that sum by the variables
        (zeros where it does not depend on them), NumPy arrays.
    """

    def total_and_value():
        value = function()
        weights = ops.convert_to_tensor(upstream, value.dtype)
        return ops.sum(value * weights), value

    find = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[NAME]
    value, gradients = find(total_and_value, variables)
    return as_numpy(value), [as_numpy(gradient) for gradient in gradients]


def _tensorflow(function, variables):
    with tf.GradientTape() as tape:
        total, value = function()
    gradients = tape.gradient(
        total, [v.value for v in variables], unconnected_gradients="zero"
    )
    return value, gradients


def _jax(function, variables):
    def pure(values):
        mapping = zip(variables, values, strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            return function()

    gradients, value = jax.grad(pure, has_aux=True)(
        [v.value for v in variables]
    )
    return value, gradients


def _torch(function, variables):
    total, value = function()
    gradients = torch.autograd.grad(
        total, [v.value for v in variables], materialize_grads=True
    )
    return value, gradients


def second_gradient(function, values):
    """The gradient of the sum of a function's gradient, by reverse mode twice.

    Args:
        function: Takes a tensor, returns a scalar one.
        values: Array.
    """
    if NAME == "jax":
        first = jax.grad(function)
        return as_numpy(jax.grad(lambda x: ops.sum(first(x)))(values))
    if NAME == "torch":
        x = torch.tensor(values, requires_grad=True)
        (first,) = torch.autograd.grad(function(x), x, create_graph=True)
        return as_numpy(torch.autograd.grad(first.sum(), x)[0])
    x = tf.constant(values)
    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        outer.watch(x)
        inner.watch(x)
        total = function(x)
        first = inner.gradient(total, x)
    return as_numpy(outer.gradient(first, x))
