"""The order, crops and flips in which images in memory train.

NumPy draws an epoch's order, crops and flips from the seed and the number of
the epoch, Keras' backend cuts the images out. A batch is therefore a function
of the seed and of its place in the run: the same on every backend, for every
number of devices, and after an interruption.
"""

import dataclasses
import itertools
import math
import typing

import keras
import numpy as np
from keras import ops

_PAD = 4


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
