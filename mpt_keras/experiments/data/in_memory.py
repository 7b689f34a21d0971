"""Images in memory."""

import contextlib
import dataclasses
import math

import numpy as np

from mpt_keras.experiments.data.batches import Batches
from mpt_keras.experiments.data.held_out import held_out


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
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None

    @property
    def image_shape(self):
        return self.train_images.shape[1:]

    @property
    def train_count(self):
        return len(self.train_labels)

    @property
    def validation_count(self):
        if self.validation_labels is None:
            return 0
        return len(self.validation_labels)

    @property
    def test_count(self):
        return len(self.test_labels)

    def batches(self, *arguments):
        return Batches(self, *arguments)

    def test_data(self, batch_size):
        """What `fit` takes as `validation_data` and cuts into batches."""
        return self.test_images, self.test_labels

    def validation_data(self, batch_size):
        """The same of the images held out; None if there are none."""
        if self.validation_images is None:
            return None
        return self.validation_images, self.validation_labels

    def test_parts(self, largest, parts, own_parts):
        """The test images in equal parts, for `multiworker`.

        Yields lists of `(images, labels, weights)`, one for each of
        `own_parts` and all of one size, `largest` at most. The images that
        make the parts equal weigh nothing.
        """
        split = self.test_images, self.test_labels
        return _equal_parts(*split, largest, parts, own_parts)

    def validation_parts(self, largest, parts, own_parts):
        """Likewise, of the images held out, of which there must be some."""
        split = self.validation_images, self.validation_labels
        return _equal_parts(*split, largest, parts, own_parts)

    def first_test_images(self, count):
        return self.test_images[:count]

    def reading(self):
        """The context in which the images are read; nothing can go wrong."""
        return contextlib.nullcontext()


def of_arrays(name, train, test, classes, mean=(), std=(), validation=0):
    """Makes `ImageData`, and holds some of the training images out.

    Args:
        name: Of the dataset.
        train: Images and labels of the training split.
        test: Likewise, of the test split.
        classes: Number of classes.
        mean: Per channel, of the uint8s; empty to compute it and `std` from
            the images that are trained on.
        std: Likewise.
        validation: As `held_out` takes it.

    Raises:
        RunError: If so many images cannot be held out.
    """
    images, labels = train[0], train[1].astype("int32")
    held = held_out(validation, len(labels))
    others = {}
    if held is not None:
        others = {
            "validation_images": images[held],
            "validation_labels": labels[held],
        }
        images, labels = images[~held], labels[~held]
    if not mean:
        mean, std = _mean_and_std(images)
    return ImageData(
        name=name,
        train_images=images,
        train_labels=labels,
        test_images=test[0],
        test_labels=test[1].astype("int32"),
        mean=mean,
        std=std,
        classes=classes,
        **others,
    )


def _mean_and_std(images):
    """Per channel, from sums that are exact."""
    count = images[..., 0].size
    sums = images.sum(axis=(0, 1, 2), dtype="int64").tolist()
    squares = np.einsum("nhwc,nhwc->c", images, images, dtype="int64").tolist()
    variances = [
        (count * square - total**2) / count**2
        for total, square in zip(sums, squares, strict=True)
    ]
    return (
        tuple(total / count for total in sums),
        tuple(map(math.sqrt, variances)),
    )


def _equal_parts(images, labels, largest, parts, own_parts):
    each = -(-len(labels) // parts)
    own = np.asarray(own_parts)[:, None] * each + np.arange(each)
    inside = own < len(labels)
    own = np.where(inside, own, 0)
    size = min(each, largest)
    for first in range(0, each, size):
        chosen = slice(first, first + size)
        yield [
            (images[rows], labels[rows], is_own.astype("float32"))
            for rows, is_own in zip(
                own[:, chosen], inside[:, chosen], strict=True
            )
        ]
