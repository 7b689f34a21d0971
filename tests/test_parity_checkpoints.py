"""Networks in the authors' checkpoint format give the authors' logits.

The files are PyTorch's zip archives; the reader below admits arrays only.
"""

import collections
import io
import pickle
import zipfile

import conftest
import keras
import numpy as np
import pytest
from test_parity import MEAN, STD

import mpt_keras as mpt

_DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class _ArraysOnly(pickle.Unpickler):
    def __init__(self, archive):
        self._archive = archive
        self._root = archive.namelist()[0].split("/")[0]
        super().__init__(io.BytesIO(archive.read(f"{self._root}/data.pkl")))

    def find_class(self, module, name):
        if name in _DTYPES:
            return _DTYPES[name]
        if name == "_rebuild_tensor_v2":
            return _array
        if name == "OrderedDict":
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"{module}.{name} is no array")

    def persistent_load(self, storage):
        _, dtype, key, *_ = storage
        return np.frombuffer(
            self._archive.read(f"{self._root}/data/{key}"), dtype
        )


def _array(storage, offset, shape, strides, *_):
    bytes_apart = [storage.itemsize * stride for stride in strides]
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, bytes_apart
    ).copy()


def read(path):
    """Arrays by name, in the checkpoint's order, and the fraction kept."""
    with zipfile.ZipFile(path) as archive:
        checkpoint = _ArraysOnly(archive).load()
    return checkpoint["state_dict"], checkpoint["prune_rate"]


def kernel_layout(array):
    """Theirs is output, input, height, width."""
    return array.transpose(2, 3, 1, 0)


def flattened_layout(array, spatial):
    """Theirs flattens channel, height, width; ours height, width, channel."""
    outputs, inputs = array.shape[:2]
    grid = array.reshape(outputs, inputs // spatial**2, spatial, spatial)
    return grid.transpose(2, 3, 1, 0).reshape(inputs, outputs)


def place(model, state, keep):
    """Puts every array of a checkpoint into the model; none may be left."""
    arrays = {n: v for n, v in state.items() if "num_batches" not in n}
    groups = {}
    for name, value in arrays.items():
        prefix, _, kind = name.rpartition(".")
        groups.setdefault(prefix, {})[kind] = value
    groups = list(groups.values())
    spatial = next(
        layer.input.shape[1]
        for layer in model.layers
        if isinstance(layer, keras.layers.Flatten)
    )
    for layer in model.layers:
        if not layer.weights:
            continue
        group = groups.pop(0)
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(group.pop("running_mean"))
            layer.moving_variance.assign(group.pop("running_var"))
            if group:
                layer.gamma.assign(group.pop("weight"))
                layer.beta.assign(group.pop("bias"))
        else:
            values = [group.pop("weight"), group.pop("scores")]
            if isinstance(layer, mpt.MPTConv2D):
                values = [kernel_layout(v) for v in values]
            else:
                values = [flattened_layout(v, spatial) for v in values]
                spatial = 1
            # The authors divide the gain by a count that can be one less than
            # the weights kept; a kernel larger by as much has their gain.
            size = values[0].size
            kept = int(layer.masked_kernels[0].kept())
            divisor = int(keep * size)
            layer.kernel.assign(values[0] * (kept / divisor))
            layer.scores.assign(values[1])
        assert not group
    assert not groups


def wide_vgg_small(sparsity, width, sign):
    """VGG-Small of 16, 32 and 64 times `width`; real or binary inside."""

    def norm():
        return keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9)

    def activation(last=False):
        if sign and not last:
            return mpt.quantizers.ApproxSign()
        return keras.layers.ReLU()

    layers = [keras.Input((32, 32, 3))]
    for i, channels in enumerate((16, 32, 64)):
        filters = int(channels * width)
        for half in (1, 2):
            layers.append(
                mpt.MPTConv2D(filters, 3, padding="same", sparsity=sparsity)
            )
            if half == 2:
                layers.append(keras.layers.MaxPooling2D())
            layers += [norm(), activation(last=(i, half) == (2, 2))]
    layers += [keras.layers.Flatten(), mpt.MPTDense(10, sparsity=sparsity)]
    return keras.Sequential(layers)


BUILDERS = {
    "Conv4Wide": lambda s, w: mpt.models.conv4(sparsity=s, width=w),
    "Conv4Wide_BinAct": lambda s, w: mpt.models.conv4(
        sparsity=s, width=w, binary_activations=True
    ),
    "Wide_VGG_Small": lambda s, w: wide_vgg_small(s, w, sign=True),
    "Wide_VGG_Small_132": lambda s, w: wide_vgg_small(s, w, sign=False),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_logits_of_the_authors_checkpoints(name):
    folder = conftest.shared_folder("parity") / "checkpoints"
    expected = np.load(folder / f"{name}_expected.npz")
    sparsity, width = (
        float(expected[key]) for key in ("sparsity", "width_multiplier")
    )
    model = BUILDERS[name](sparsity, width)
    place(model, *read(folder / f"{name}.pth"))
    images = (expected["images"].astype("float32") / 255 - MEAN) / STD
    logits = model.predict(images, verbose=0)
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(
        logits, expected["logits"], rtol=1e-4, atol=1e-4 * scale
    )
