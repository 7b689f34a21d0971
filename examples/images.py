"""Images in memory, and the order, crops and flips in which they train.

NumPy draws an epoch's order, crops and flips from the seed and the number of
the epoch, Keras' backend cuts the images out. A batch is therefore a function
of the seed and of its place in the run: the same on every backend, for every
number of devices, and after an interruption.
"""

import contextlib
import dataclasses
import io
import itertools
import math
import pathlib
import typing
import zipfile

import keras
import numpy as np
from command import RunError
from keras import ops

_PAD = 4


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Images (uint8, NHWC), labels; mean and std per channel of the uint8s."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mean: tuple
    std: tuple
    classes: int

    @property
    def image_shape(self):
        return self.train_images.shape[1:]

    @property
    def train_count(self):
        return len(self.train_labels)

    @property
    def test_count(self):
        return len(self.test_labels)

    def batches(self, *arguments):
        return Batches(self, *arguments)

    def test_data(self, batch_size):
        """What `fit` takes as `validation_data` and cuts into batches."""
        return self.test_images, self.test_labels

    def test_parts(self, largest, parts, own_parts):
        """The test images in equal parts, for `multiworker`.

        Yields lists of `(images, labels, weights)`, one for each of
        `own_parts` and all of one size, `largest` at most. The images that
        make the parts equal weigh nothing.
        """
        each = -(-self.test_count // parts)
        own = np.asarray(own_parts)[:, None] * each + np.arange(each)
        inside = own < self.test_count
        own = np.where(inside, own, 0)
        size = min(each, largest)
        for first in range(0, each, size):
            chosen = slice(first, first + size)
            yield [
                (
                    self.test_images[rows],
                    self.test_labels[rows],
                    is_own.astype("float32"),
                )
                for rows, is_own in zip(
                    own[:, chosen], inside[:, chosen], strict=True
                )
            ]

    def first_test_images(self, count):
        return self.test_images[:count]

    def reading(self):
        """The context in which the images are read; nothing can go wrong."""
        return contextlib.nullcontext()


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Which images make up the batches of all epochs, or a worker's of them.

    Args:
        data: Where the images are.
        size: Images per batch, over all workers.
        seed: Integer, of order, crops and flips.
        augment: Whether to crop and to flip the images.
        drop_remainder: Whether an epoch ends with its last whole batch.
            Otherwise the last batch is as small as it comes out.
        parts: Equal parts into which every batch is cut.
        own_parts: The parts delivered here, one after the other; all by
            default.
    """

    data: typing.Any
    size: int
    seed: int
    augment: bool = False
    drop_remainder: bool = False
    parts: int = 1
    own_parts: tuple = (0,)

    @property
    def per_epoch(self):
        count = self.data.train_count / self.size
        return int(count) if self.drop_remainder else math.ceil(count)


class Batches(BatchPlan):
    """Those of `ImageData`.

    Crops are taken from the image padded by 4 pixels of zeros; half of the
    images are flipped.
    """

    def from_epoch(self, epoch, batch=0):
        """An endless iterable of `(images, labels)`, from a batch on.

        A `tf.data.Dataset` on TensorFlow, which cuts in parallel and ahead.
        """
        if keras.backend.backend() == "tensorflow":
            return self._dataset(epoch, batch)
        return self._generator(epoch, batch)

    def _generator(self, epoch, batch):
        cut = self._cutter()
        for draws in self._draws(epoch, batch):
            *draws, labels = draws
            images, _ = cut(*map(ops.convert_to_tensor, draws), labels)
            yield ops.convert_to_numpy(images), labels

    def _dataset(self, epoch, batch):
        import tensorflow as tf

        whole = self.size // self.parts if self.drop_remainder else None
        kinds = ["int32", "int32", "int32", "bool", "int32"]
        with tf.device("CPU:0"):
            cut = self._cutter()
        return (
            tf.data.Dataset.from_generator(
                lambda: self._draws(epoch, batch),
                output_signature=tuple(
                    tf.TensorSpec((whole,), kind) for kind in kinds
                ),
            )
            .map(cut, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
        )

    def _draws(self, epoch, first_batch):
        """Of every batch: positions, crops, flips and labels, in NumPy."""
        labels = self.data.train_labels.astype("int32")
        share = self.size // self.parts
        for number in itertools.count(epoch):
            draws = epoch_draws(self.seed, number, len(labels))
            draws = (*draws, labels[draws[0]])
            for batch in range(first_batch, self.per_epoch):
                for part in self.own_parts:
                    first = batch * self.size + part * share
                    yield tuple(draw[first : first + share] for draw in draws)
            first_batch = 0

    def _cutter(self):
        """Returns the function from draws to images and labels."""
        images = self.data.train_images
        height, width, channels = self.data.image_shape
        if self.augment:
            sides = [(0, 0), (_PAD, _PAD), (_PAD, _PAD), (0, 0)]
            images = np.pad(images, sides)
        padded_height, padded_width = images.shape[1:3]
        pixels = ops.convert_to_tensor(images.reshape(-1, channels))

        def cut(positions, top, left, flip, labels):
            rows = ops.arange(height, dtype="int32")[None]
            columns = ops.arange(width, dtype="int32")[None]
            if self.augment:
                # A flip reads the columns backwards.
                columns = ops.where(
                    flip[:, None], ops.flip(columns, axis=1), columns
                )
                rows = rows + top[:, None]
                columns = columns + left[:, None]
            rows = rows + positions[:, None] * padded_height
            chosen = rows[:, :, None] * padded_width + columns[:, None]
            return ops.take(pixels, chosen, axis=0), labels

        return cut


def epoch_draws(seed, epoch, count):
    """What happens to the images of one epoch, from Philox' raw numbers.

    Returns:
        `(order, top, left, flip)`: arrays of length `count`, in the order of
        training: which image, where in the padded image its crop begins (0 to
        8 pixels), and whether it is flipped.
    """
    raw = np.random.Philox(key=[seed, epoch]).random_raw(2 * count)
    order = np.argsort(raw[:count], kind="stable").astype("int32")
    raw = raw[count:]
    places = np.uint64(2 * _PAD + 1)
    top = (raw % places).astype("int32")
    left = (raw // places % places).astype("int32")
    return order, top, left, (raw >> np.uint64(63)).astype(bool)


def read_images(path, image_shape, classes):
    """Reads a plain file of images, for machines without TensorFlow.

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
