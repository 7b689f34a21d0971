"""Masks by name: those of a model, and those in a file.

Masks are a dictionary, name of the layer -> boolean NumPy array of its
kernel's shape, True at the weights kept. A file of them is an ordinary `.npz`
with one array for each, called as the layer.
"""

import hashlib
import io
import math
import os
import pathlib
import zipfile
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from mpt_keras import files
from mpt_keras.layers.ordinary import (
    DENSE_AND_CONVOLUTIONS,
    EMBEDDINGS,
    ordinary_kernels,
)
from mpt_keras.layers.traversal import masked_kernels

# What a run leaves in its folder, the best source first.
_OF_A_RUN = ("masks.npz", "last.keras")


class Masks(dict):
    """Masks by name that know over which random kernels they lie.

    `kernels` is a text, equal for equal kernels; None where nobody knows.
    """

    kernels = None


def masks_of(model: keras.layers.Layer) -> dict[str, np.ndarray]:
    """Returns the masks of a model by layer.

    Of a model with masked layers, those layers' masks; of one with none, such
    as a frozen ticket or a pruned network, `kernel != 0` for the trainable
    kernels of its dense and convolution layers; for all of them where none is
    trainable, and then for the tables of embeddings in which there is a 0.

    Args:
        model: A built Keras model.

    Returns:
        Dictionary, name of the layer -> boolean array of the kernel's shape,
        True at the weights kept. Where several layers share a name, it is a
        path; a layer with two kernels has `name/depthwise_kernel` and
        `name/pointwise_kernel`.

    Raises:
        ValueError: If the model is not built, holds no such layer, or a score
            is NaN.

    Example:

    >>> layer = mpt_keras.MPTDense(3, sparsity=0.5, name="last")
    >>> model = keras.Sequential([keras.Input((4,)), layer])
    >>> masks = mpt_keras.analysis.masks_of(model)
    >>> masks["last"].shape, int(masks["last"].sum())
    ((4, 3), 6)
    """
    kernels = masked_kernels(model)
    for masked in kernels.values():
        masked.check_scores()
    if kernels:
        masks = Masks({name: _array(m.mask()) for name, m in kernels.items()})
        masks.kernels = _fingerprint([m.kernel for m in kernels.values()])
        return masks
    kernels = ordinary_kernels(model)
    masks = {name: _array(kernel) != 0 for name, kernel in kernels.items()}
    if not masks:
        masks = _masks_of_frozen(model)
    if not masks:
        raise ValueError(
            f"Model '{model.name}' has no masks. Expected masked layers "
            "(MPTConv2D, MPTDense, ...), or the Conv2D, Dense, ... layers of "
            "a frozen ticket or a pruned network."
        )
    return masks


def _masks_of_frozen(model):
    kinds = DENSE_AND_CONVOLUTIONS + EMBEDDINGS
    tables = ordinary_kernels(model, trainable=False, kinds=EMBEDDINGS)
    of_tables = set(map(id, tables.values()))
    masks = {}
    for name, kernel in ordinary_kernels(model, False, kinds).items():
        mask = _array(kernel) != 0
        if id(kernel) not in of_tables or not mask.all():
            masks[name] = mask
    return masks


def save_masks(
    masks: Mapping[str, np.ndarray] | keras.Model,
    path: str | os.PathLike[str],
) -> None:
    """Writes masks to a compressed `.npz`, never half a file.

    The same masks give the same bytes. `numpy.load(path)[name]` reads a mask
    back, and so does `read_masks` all of them.

    Args:
        masks: Dictionary, name -> boolean array; or a model, for `masks_of`
            it.
        path: The file, which ends in `.npz`; replaced if it is there.

    Raises:
        ValueError: If there are no masks, one is no boolean array, a name
            is no text, or the path does not end in `.npz`.
        OSError: If the file cannot be written. The one before is unharmed.

    Example:

    >>> masks = {"first": np.ones((2, 3), bool), "last": np.zeros(3, bool)}
    >>> mpt_keras.analysis.save_masks(masks, "masks.npz")
    >>> sorted(mpt_keras.analysis.read_masks("masks.npz"))
    ['first', 'last']
    """
    path = pathlib.Path(path)
    if path.suffix != ".npz":
        raise ValueError(
            "Invalid value for argument `path`. Expected a file that ends in "
            f"'.npz'. Received: path='{path}'"
        )
    if isinstance(masks, keras.Model):
        masks = masks_of(masks)
    check_masks(masks)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, mask in masks.items():
            _add(archive, name, mask)
        # No entry, which readers would take for a mask.
        archive.comment = (getattr(masks, "kernels", None) or "").encode()
    files.write_whole(path, file.getvalue())


def read_masks(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads masks from a file or from a run's folder.

    Args:
        path: A `.npz` that `save_masks` wrote; or a `.keras` model, whose
            masks are then those of `masks_of`; or a folder that holds
            `masks.npz` or, where there is none, `last.keras`.

    Returns:
        Dictionary, name -> boolean array.

    Raises:
        ValueError: If there is no such file, or it is damaged or holds
            something else.

    Example:

    >>> model.save("last.keras")
    >>> masks = mpt_keras.analysis.read_masks("last.keras")
    >>> len(masks)
    2
    """
    file = _file_at(pathlib.Path(path))
    try:
        read = {".npz": _read_archive, ".keras": _read_model}[file.suffix]
    except KeyError:
        raise ValueError(
            f"Cannot read masks from '{file}'. Expected a file that ends in "
            "'.npz' or '.keras', or a run's folder."
        ) from None
    try:
        masks = read(file)
        check_masks(masks)
    # What a damaged file makes zlib, Keras or HDF5 raise is hardly one type.
    except Exception as error:
        raise ValueError(
            f"Cannot read masks from '{file}': it is damaged or holds "
            f"something else. {error}"
        ) from error
    return masks


def load_masks(
    model: keras.Model,
    masks: Mapping[str, np.ndarray] | str | os.PathLike[str],
) -> None:
    """Puts masks into the masked layers of a model; see `layer.set_mask`.

    Args:
        model: A built Keras model with masked layers.
        masks: Dictionary, name -> boolean array, as of `masks_of`; or what
            `read_masks` reads them from.

    Raises:
        ValueError: If the names or shapes are not those of the model's masked
            kernels, or a mask contradicts weights that are pruned or kept for
            ever. Nothing is changed then.

    Example:

    >>> mpt_keras.analysis.save_masks(model, "masks.npz")
    >>> mpt_keras.analysis.load_masks(model, "masks.npz")
    """
    if not isinstance(masks, Mapping):
        masks = read_masks(masks)
    check_masks(masks)
    kernels = masked_kernels(model)
    wrong = [f"no masked kernel '{name}'" for name in masks.keys() - kernels]
    wrong += [f"no mask '{name}'" for name in kernels.keys() - masks]
    for name in masks.keys() & kernels.keys():
        shape = tuple(kernels[name].kernel.shape)
        if masks[name].shape != shape or not masks[name].any():
            wrong.append(
                f"'{name}' keeps {int(masks[name].sum())} of the shape "
                f"{masks[name].shape} for a kernel of the shape {shape}"
            )
    if wrong:
        raise ValueError(
            f"The masks do not fit '{model.name}'. Expected one for each of "
            "its masked kernels, by its name, that keeps a weight or more. "
            f"Received: {'; '.join(sorted(wrong))}"
        )
    for name, kernel in kernels.items():
        kernel.checked_mask(masks[name])
        kernel.check_scores()
    for name, mask in masks.items():
        kernels[name].set_mask(mask)


def check_masks(masks):
    """Raises `ValueError` unless these are masks by name, at least one."""
    if not masks:
        raise ValueError(
            "There are no masks. Expected a dictionary, name of the layer -> "
            f"boolean array. Received: {masks!r}"
        )
    for name, mask in masks.items():
        if not isinstance(name, str) or "\0" in name:
            raise ValueError(
                "Masks go by the name of their layer. Expected text without "
                f"zero bytes. Received: {name!r}"
            )
        if not isinstance(mask, np.ndarray) or mask.dtype.kind != "b":
            received = getattr(mask, "dtype", type(mask).__name__)
            raise ValueError(
                f"The mask of '{name}' must be a boolean NumPy array, True at "
                f"the weights kept. Received: {received}"
            )


def _array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


def _fingerprint(kernels):
    digests = [hashlib.sha256(_array(k).tobytes()).digest() for k in kernels]
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _add(archive, name, mask):
    # Not np.savez, which takes some names for its own arguments, and writes
    # the time of day.
    entry = zipfile.ZipInfo(f"{name}.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, mask, allow_pickle=False)


def _file_at(path):
    if not path.exists():
        raise ValueError(f"Cannot read masks: there is no '{path}'.")
    if not path.is_dir():
        return path
    for name in _OF_A_RUN:
        if (path / name).exists():
            return path / name
    raise ValueError(
        f"Cannot read masks from the folder '{path}'. Expected one of "
        f"{', '.join(_OF_A_RUN)} in it, which a run writes after an epoch."
    )


def _read_archive(path):
    masks = Masks()
    with zipfile.ZipFile(path) as archive:
        masks.kernels = archive.comment.decode() or None
        for entry in archive.infolist():
            # All of it first, because only that compares the checksum.
            data = archive.read(entry)
            name = entry.filename.removesuffix(".npy")
            masks[name] = _read_array(io.BytesIO(data), len(data))
    return masks


def _read_array(file, size):
    major, _ = np.lib.format.read_magic(file)
    read_header = {
        1: np.lib.format.read_array_header_1_0,
        2: np.lib.format.read_array_header_2_0,
    }[major]
    shape, _, dtype = read_header(file)
    # Before anything is allocated that only the header promises.
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"An array of {dtype}{shape} is cut or too long.")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _read_model(path):
    return masks_of(keras.models.load_model(path, compile=False))
