"""Images in a plain file, for machines without TensorFlow."""

import io
import itertools
import pathlib
import zipfile

import numpy as np

from mpt_keras.experiments.errors import RunError


def read_images(path, image_shape, classes):
    """Reads the images of both splits.

    A NumPy `.npz` file with `train_images` and `test_images` (uint8, NHWC) or,
    for images encoded as PNG or JPEG, `train_bytes` (uint8, all files end to
    end) and `train_offsets` (where each begins, and the end), the same for
    `test`; and `train_labels`, `test_labels`.

    Returns:
        `(train_images, train_labels, test_images, test_labels)`.

    Raises:
        RunError: If the file is missing, damaged, or holds other images.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise ValueError("it holds one array without a name")
            arrays = {
                name: arrays[name]
                for name in arrays.files
                if name.startswith(("train_", "test_"))
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(
            f"Cannot read images from '{path}': {error}. Expected a NumPy "
            ".npz file with train_images, train_labels, ..."
        ) from error
    found = []
    for split in ("train", "test"):
        found += _split(path, split, arrays, tuple(image_shape), classes)
    return tuple(found)


def _split(path, split, arrays, image_shape, classes):
    def wrong(received):
        sides = ", ".join(map(str, image_shape))
        return RunError(
            f"'{path}' does not hold the images asked for. Expected "
            f"{split}_images, uint8 of shape (n, {sides}), or {split}_bytes "
            f"with {split}_offsets; and {split}_labels, n integers from 0 to "
            f"{classes - 1}. Received: {received}"
        )

    labels = arrays.get(f"{split}_labels")
    images = arrays.get(f"{split}_images")
    if labels is None:
        raise wrong(f"no {split}_labels among {sorted(arrays)}")
    if images is None:
        encoded = arrays.get(f"{split}_bytes")
        offsets = arrays.get(f"{split}_offsets")
        if encoded is None or offsets is None:
            raise wrong(f"neither among {sorted(arrays)}")
        images = decode(encoded, offsets)
    if images.dtype != "uint8" or images.shape[1:] != image_shape:
        raise wrong(f"images of {images.dtype} and shape {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise wrong(f"{len(images)} images, labels of shape {labels.shape}")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise wrong(f"labels {np.unique(labels)}")
    return [images, labels.astype("int32")]


def decode(encoded, offsets):
    """Decodes images that lie end to end in one array of bytes."""
    import PIL.Image

    try:
        images = [
            np.asarray(PIL.Image.open(io.BytesIO(encoded[first:last])))
            for first, last in itertools.pairwise(offsets)
        ]
        return np.stack(images)
    except (OSError, ValueError) as error:
        raise RunError(f"Cannot decode the images: {error}") from error
