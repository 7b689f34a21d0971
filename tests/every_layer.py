"""One model that holds every kind of layer, and what TensorFlow makes of it.

    KERAS_BACKEND=tensorflow python tests/every_layer.py

writes `data/every_layer.keras` and `data/every_layer.npz`, from which
`test_backends.py` sees that all backends compute the same.
"""

import math
import pathlib
import zipfile

import backend
import keras
import numpy as np
from keras import ops

import mpt_keras as mpt

DATA = pathlib.Path(__file__).parent / "data"

# What an embedding has a vector for.
TOKENS = 12

# Layer, its arguments, shape of its input. Each stands behind an input of its
# own, once with binary and once with masked real weights.
LAYERS = {
    "dense": (mpt.MPTDense, {"units": 5}, (7,)),
    "dense_3d": (mpt.MPTDense, {"units": 5, "use_bias": True}, (3, 7)),
    "conv1d": (
        mpt.MPTConv1D,
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"},
        (9, 4),
    ),
    "conv1d_causal": (
        mpt.MPTConv1D,
        {
            "filters": 6,
            "kernel_size": 3,
            "dilation_rate": 2,
            "padding": "causal",
        },
        (9, 4),
    ),
    "conv2d": (
        mpt.MPTConv2D,
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"},
        (8, 8, 4),
    ),
    "conv2d_dilated": (
        mpt.MPTConv2D,
        {"filters": 6, "kernel_size": (3, 2), "dilation_rate": 2},
        (8, 8, 4),
    ),
    "conv2d_grouped": (
        mpt.MPTConv2D,
        {"filters": 6, "kernel_size": 3, "groups": 2},
        (8, 8, 4),
    ),
    "conv3d": (mpt.MPTConv3D, {"filters": 3, "kernel_size": 2}, (4, 4, 4, 2)),
    "depthwise": (
        mpt.MPTDepthwiseConv2D,
        {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"},
        (8, 8, 3),
    ),
    "separable": (
        mpt.MPTSeparableConv2D,
        {"filters": 6, "kernel_size": 3, "depth_multiplier": 2},
        (8, 8, 3),
    ),
    "transpose": (
        mpt.MPTConv2DTranspose,
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"},
        (5, 5, 3),
    ),
    "depthwise1d": (mpt.MPTDepthwiseConv1D, {"kernel_size": 3}, (9, 3)),
    "separable1d": (
        mpt.MPTSeparableConv1D,
        {"filters": 4, "kernel_size": 3, "strides": 2},
        (9, 3),
    ),
    "transpose1d": (
        mpt.MPTConv1DTranspose,
        {"filters": 4, "kernel_size": 4, "strides": 3},
        (5, 3),
    ),
    "transpose3d": (
        mpt.MPTConv3DTranspose,
        {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"},
        (3, 3, 3, 2),
    ),
    "embedding": (
        mpt.MPTEmbedding,
        {"input_dim": TOKENS, "output_dim": 4},
        (5,),
    ),
}
QUANTIZERS = ("approx_sign", "ste_sign", "swish_sign")
BATCH = 2
SPARSITY = 0.7


def build():
    """The model, the same on every backend: inputs and outputs by name."""
    inputs, outputs = {}, {}
    for cls, arguments, shape, name, binarize in _branches():
        dtype = "int32" if cls is mpt.MPTEmbedding else None
        inputs[name] = keras.Input(shape, name=name, dtype=dtype)
        layer = cls(
            **arguments,
            binarize=binarize,
            seed=len(inputs),
            name=f"{name}_layer",
        )
        outputs[name] = layer(inputs[name])
    for quantizer in QUANTIZERS:
        # Through the quantizer, the first layer gets its gradient.
        inputs[quantizer] = keras.Input((6, 6, 2), name=quantizer)
        first = mpt.MPTConv2D(3, 3, seed=100, name=f"{quantizer}_first")
        last = mpt.MPTConv2D(
            4, 3, input_quantizer=quantizer, seed=101, name=f"{quantizer}_last"
        )
        outputs[quantizer] = last(first(inputs[quantizer]))
    model = keras.Model(inputs, outputs, name="every_layer")
    for layer in mpt.masked_layers(model):
        layer.sparsity = SPARSITY  # not the one that the layer started with
        for masked in layer.masked_kernels:
            # So many ties that their order decides.
            scale = np.abs(backend.as_numpy(masked.scores)).max() / 8
            levels = np.rint(backend.as_numpy(masked.scores) / scale)
            masked.scores.assign(levels.astype("float32") / 4)
    return model


def _branches():
    for binarize in (True, False):
        for kind, (cls, arguments, shape) in LAYERS.items():
            suffix = "biprop" if binarize else "edge_popup"
            yield cls, arguments, shape, f"{kind}_{suffix}", binarize


def masked_kernels(model):
    """The masked kernels by name."""
    return {
        masked.scores.path: masked
        for layer in mpt.masked_layers(model)
        for masked in layer.masked_kernels
    }


def results(model, inputs, upstreams):
    """What a backend makes of the model.

    Args:
        model: The model of `build`.
        inputs: Dictionary, name of input -> array.
        upstreams: Dictionary, name of output -> array, the gradient there.

    Returns:
        Dictionaries of NumPy arrays: outputs by their names; masks and
        gradients of the scores by the scores' paths.
    """
    kernels = masked_kernels(model)

    def outputs():
        found = model(inputs)
        return ops.concatenate([ops.ravel(found[name]) for name in upstreams])

    value, gradients = backend.value_and_gradients(
        outputs,
        [masked.scores for masked in kernels.values()],
        _joined(upstreams),
    )
    masks = [backend.as_numpy(masked.mask()) for masked in kernels.values()]
    return {
        "outputs": _split(value, upstreams),
        "masks": dict(zip(kernels, masks, strict=True)),
        "gradients": dict(zip(kernels, gradients, strict=True)),
    }


def _joined(arrays):
    return np.concatenate([array.ravel() for array in arrays.values()])


def _split(values, like):
    """Undoes `_joined`; `like` has the names and the shapes."""
    sizes = [math.prod(like[name].shape) for name in like]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return {
        name: part.reshape(like[name].shape)
        for name, part in zip(like, parts, strict=True)
    }


def read(model):
    """The arrays of the file: group -> name -> array."""
    kernels = masked_kernels(model)
    scores = {path: masked.scores for path, masked in kernels.items()}
    like = {
        "inputs": _batches(model.input),
        "outputs": _batches(model.output),
        "upstreams": _batches(model.output),
        "masks": scores,
        "gradients": scores,
    }
    # One long array a group: a file of 160 arrays is mostly headers.
    with np.load(DATA / "every_layer.npz") as file:
        found = {group: _split(file[group], like[group]) for group in like}
    for name, array in found["inputs"].items():
        found["inputs"][name] = array.astype(like["inputs"][name].dtype)
    return found


def _batches(tensors):
    """An array of the shape of a batch for each tensor, by sorted name."""
    return {
        name: np.empty((BATCH, *tensors[name].shape[1:]), tensors[name].dtype)
        for name in sorted(tensors)
    }


def write():
    """Writes both files."""
    model = build()
    rng = np.random.default_rng(0)
    inputs, upstreams = _batches(model.input), _batches(model.output)
    for array in inputs.values():
        if array.dtype == np.int32:
            array[:] = rng.integers(0, TOKENS, array.shape)
        else:
            array[:] = rng.standard_normal(array.shape)
    for array in upstreams.values():
        array[:] = rng.integers(-9, 10, array.shape) / 8
    _check_margins(model, inputs)
    groups = {
        "inputs": inputs,
        "upstreams": upstreams,
        **results(model, inputs, upstreams),
    }
    np.savez_compressed(
        DATA / "every_layer.npz",
        **{group: _joined(arrays) for group, arrays in groups.items()},
    )
    _save_compressed(model, DATA / "every_layer.keras")


def _check_margins(model, inputs):
    """Nothing may stand where rounding decides what a quantizer gives."""
    for quantizer in QUANTIZERS:
        layer = model.get_layer(f"{quantizer}_first")
        values = np.abs(backend.as_numpy(layer(inputs[quantizer])))
        assert values.min() > 1e-4
        assert np.abs(values - 1).min() > 1e-4


def _save_compressed(model, path):
    """Keras stores the parts of the file as they are, mostly zeros."""
    model.save(path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            # Without a date, so that the same model gives the same file.
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    write()
