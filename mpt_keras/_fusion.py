"""Passes over memory: fewer of them, by letting XLA fuse operations.

Selection and masking do little with each number and a layer has millions of
them, so their cost is the number of times that memory is read and written.
XLA fuses a chain of elementwise operations into one read. It does not fuse a
chain into the reduction of a whole vector (on CPUs); sums are therefore
written here as elementwise sums of a few slices, which it does.
"""

import functools

import keras
from keras import ops

from mpt_keras import config

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util
elif keras.backend.backend() == "jax":
    import jax

# Enough to make what is left over small, few enough to fit an int8 and the
# processor's prefetching (8 and 32 are slower).
_LANES = 16
# A block that is read to its end before the next one is begun.
_ROWS, _COLUMNS = 8, 1024


def fused(function):
    """Decorates a pure function of tensors so that XLA fuses its operations.

    On TensorFlow the function becomes a part of the graph that is compiled on
    its own, whether or not the graph around it is, unless
    `config.disable_xla` was called; called eagerly, it is called as it is. On
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
        plain = tf.executing_eagerly() or not config.is_xla_enabled()
        if plain or compiled_by_xla():
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


def compiled_by_xla() -> bool:
    """Whether the TensorFlow graph now being traced will be XLA's anyway."""
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def sum_in_lanes(term, vector):
    """Adds up a term over a vector, down to a sixteenth of its length.

    Args:
        term: Elementwise function of (slices of) the vector.
        vector: Tensor of shape `(n,)`.

    Returns:
        Tensor of shape `(ceil(n / 16),)` and the term's dtype: entry `j` is
        the sum over `i` of `term(vector)[i * ceil(n / 16) + j]`.
    """
    size = vector.shape[0]
    width = -(-size // _LANES)
    lanes = [
        term(vector[start : start + width]) for start in range(0, size, width)
    ]
    missing = width * len(lanes) - size
    if missing:
        lanes[-1] = ops.pad(lanes[-1], [[0, missing]])
    return functools.reduce(ops.add, lanes)


def sum_in_blocks(term, *vectors):
    """Sums a term over vectors, reading each of them once and in order.

    `sum_in_lanes` reads sixteen places at a time, which is right for what is
    in the cache; this is right for what is not.

    Args:
        term: Elementwise function of (parts of) the vectors.
        vectors: Tensors of shape `(n,)`.

    Returns:
        Scalar tensor of the term's dtype.
    """
    size = vectors[0].shape[0]
    whole = size // (_ROWS * _COLUMNS) * (_ROWS * _COLUMNS)
    total = 0.0
    if whole:
        blocks = [
            ops.reshape(vector[:whole], (-1, _ROWS, _COLUMNS))
            for vector in vectors
        ]
        rows = [term(*(b[:, row] for b in blocks)) for row in range(_ROWS)]
        total = ops.sum(functools.reduce(ops.add, rows))
    if whole < size:
        total = total + ops.sum(term(*(vector[whole:] for vector in vectors)))
    return total
