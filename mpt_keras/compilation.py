"""What is compiled by whom: XLA, a graph, or nobody.

Selection and masking do little with each number and a layer has millions of
them, so their cost is the number of times that memory is read and written.
XLA fuses a chain of elementwise operations into one read.
"""

import functools
import math
import operator

import keras
from keras import ops

from mpt_keras import config

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax


def fused(function):
    """Decorates a pure function of tensors so that XLA fuses its operations.

    On TensorFlow the function is compiled on its own, also within a graph,
    unless `config.disable_xla` was called: then it is as `in_one_graph`
    leaves it. In a graph that XLA compiles as a whole it is a part of that.
    On JAX it is compiled also where it is called eagerly. On PyTorch
    compiling is the business of whoever compiles the model.

    Args:
        function: Takes tensors (or None, or lists of them) by position and
            Python values by keyword.
    """
    return _in_one_graph(function, config.is_xla_enabled)


def in_one_graph(function):
    """Decorates a pure function of tensors to be traced once per signature.

    On TensorFlow all layers of the same shape share its graph, and so does
    who calls it eagerly. On JAX it is compiled. Neither assigns variables.

    Args:
        function: As for `fused`.
    """
    return _in_one_graph(function, lambda: False)


def apart(function):
    """Decorates a function like `in_one_graph`, for one of many operations.

    TensorFlow optimizes its graph once, and not wherever it is called.
    """
    return _in_one_graph(function, lambda: False, is_apart=True)


def _in_one_graph(function, is_fused, is_apart=False):
    if keras.backend.backend() == "torch":
        return function

    @functools.wraps(function)
    def call(*tensors, **options):
        options = tuple(sorted(options.items()))
        if keras.backend.backend() == "jax":
            return _jitted(function, options)(*tensors)
        # What is called within it may depend on whether there is XLA, too.
        graph = _graph(
            *(function, options, _signature(tensors)),
            *(is_fused(), is_apart, config.is_xla_enabled()),
        )
        return graph(*tensors)

    return call


@functools.cache
def _jitted(function, options):
    return jax.jit(functools.partial(function, **dict(options)))


def _signature(tensors):
    return tuple(
        part if part is None else (tuple(part.shape), part.dtype)
        for part in tf.nest.flatten(tensors)
    )


@functools.cache
def _graph(function, options, signature, is_fused, is_apart, with_xla):
    # One for each signature, or TensorFlow would warn about a function that
    # is traced again and again.
    del signature
    # What XLA does not compile TensorFlow optimizes, and that takes long.
    is_apart = is_apart or not with_xla
    attributes = {"_noinline": True} if is_apart else None
    return tf.function(
        functools.partial(function, **dict(options)),
        jit_compile=is_fused or None,
        autograph=False,
        experimental_attributes=attributes,
    )


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
            # Not of the function itself, or a second gradient would be 0.
            lambda *tensors: (call(*tensors), tensors),
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

    # TensorFlow keeps every gradient that it ever traced, and its graph.
    return in_one_graph(call)


def as_tensor(array):
    """A new NumPy array as a tensor; nobody may use the array afterwards."""
    is_aligned = array.ctypes.data % 64 == 0  # or TensorFlow ends the process
    is_alone = array.flags.c_contiguous and array.flags.writeable
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow and tf.executing_eagerly() and is_aligned and is_alone:
        # In the array's memory: TensorFlow would copy it, and keep both.
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return ops.convert_to_tensor(array)


def integer_between_calls():
    """A variable for what one call tells the next, which changes no result.

    On TensorFlow, where a graph may assign it; each replica has its own. It is
    no weight of Keras, which does not save it. None elsewhere.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    with tf.init_scope():
        return tf.Variable(
            # Of the integer type that GPUs hold, too.
            tf.zeros((), tf.int64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


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


# So few numbers are read in less time than a compiled function takes to be
# called, and each more to compile takes a tenth of a second.
_SMALL, _MEDIUM = 2**13, 2**18


def fuses() -> bool:
    """Whether XLA compiles `fused` functions, so that less is written."""
    if keras.backend.backend() == "tensorflow":
        return config.is_xla_enabled()
    return keras.backend.backend() == "jax"


def few_sizes(size):
    """A size not below the given one, of which a model has few.

    Layers of different sizes so share graphs, which TensorFlow takes long to
    optimize and XLA to compile.
    """
    if keras.backend.backend() != "tensorflow":
        return size
    return next((most for most in (_SMALL, _MEDIUM) if size <= most), size)


def is_worth_compiling(tensor):
    """Whether what XLA saves on a tensor soon makes up for its compiling."""
    return fuses() and math.prod(tensor.shape) > _MEDIUM


def add_up(tensors):
    """The sum of tensors of the same shape, for XLA, in their order.

    What XLA does not compile it may add in another order.
    """
    if keras.backend.backend() != "tensorflow":
        return functools.reduce(operator.add, tensors)
    total, *others = tensors
    # Eight of them are one operation to trace. Of more than nine it would add
    # the later ones to one another first.
    for start in range(0, len(others), 8):
        total = tf.add_n([total, *others[start : start + 8]])
    return total


def add_in_order(tensors):
    """The sum of tensors of the same shape, added one after the other."""
    if keras.backend.backend() != "tensorflow":
        return functools.reduce(operator.add, tensors)
    # TensorFlow's optimizer adds up sums of sums in an order of its own,
    # unless something lies between.
    return functools.reduce(
        lambda total, other: tf.ensure_shape(total + other, total.shape),
        tensors,
    )


def with_shape(tensor, shape):
    """The result of a compiled function, of a shape that its caller knows.

    TensorFlow's optimizer does not look into the function. Where it knows the
    shapes of sums of sums (a shortcut and two batch norms), it adds them up in
    an order of its own, so that a last bit would not be an ordinary layer's.

    Args:
        tensor: Of this shape.
        shape: Tuple of integers.
    """
    if keras.backend.backend() != "tensorflow" or tf.executing_eagerly():
        return tensor
    return tf.ensure_shape(tensor, shape)


def sorts_faster_than_it_counts() -> bool:
    """Whether sorting beats a loop that depends on what it counts: on GPUs.

    A step of ResNet-18 at batch 256 in bfloat16 took 6.7 ms, masked 27.8 ms
    with the loop and 11.0 ms with sorting (JAX 0.11, NVIDIA H200).
    """
    return keras.backend.backend() == "jax" and jax.default_backend() == "gpu"


def is_traced(tensor) -> bool:
    """Whether a tensor stands for a value that a compiled function will get."""
    if keras.backend.backend() == "tensorflow":
        return not tf.executing_eagerly()
    return keras.backend.backend() == "jax" and isinstance(
        tensor, jax.core.Tracer
    )
