"""Images read from disk as they are needed, for datasets of ImageNet's size.

TensorFlow reads the files of a prepared dataset, decodes of every image only
the window that is trained on, and resizes it. The order of an epoch, its
windows and its flips are drawn from the seed, the number of the epoch and the
position in it alone. A batch is therefore the same for every number of devices
and workers, and after an interruption.
"""

import contextlib
import dataclasses
import itertools
import math
import typing

import images
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from command import RunError

# The files that are read at the same time, and how many records of one are
# taken in a row. Both decide about the order.
_FILES = 16
_IN_A_ROW = 16
# Encoded images among which the order is drawn, all held in memory.
_WINDOW = 4096
# The region that a training image shows, as in the authors' recipe.
_AREAS = (0.08, 1.0)
_LARGEST_RATIO = 4 / 3  # of width and height; the smallest is its inverse
_TRIES = 10
# Evaluation shows 224 pixels of an image whose short side has 256.
_MARGIN = 256 / 224
_LOOKED_AT = 100
_PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


@dataclasses.dataclass(frozen=True)
class StreamedImages:
    """Images in files; offers what `images.ImageData` offers.

    Args:
        builder: From `prepared.find`, with images of any sizes and labels.
        image_size: Height and width of the images that come out, uint8.
        mean: Per channel, of the uint8s.
        std: Likewise.
        train: Name of the split that is trained on.
        test: Name of the split that is evaluated.
    """

    builder: typing.Any
    image_size: int
    mean: tuple
    std: tuple
    train: str = "train"
    test: str = "validation"

    @property
    def name(self):
        return self.builder.name

    @property
    def image_shape(self):
        return (self.image_size, self.image_size, 3)

    @property
    def classes(self):
        return self.builder.info.features["label"].num_classes

    @property
    def train_count(self):
        return self._count(self.train)

    @property
    def test_count(self):
        return self._count(self.test)

    def batches(self, *arguments):
        return StreamedBatches(self, *arguments)

    def test_data(self, batch_size):
        """What `fit` takes as `validation_data`, in batches."""
        batches = self._test_images().batch(batch_size)
        # Where TensorFlow knows the size of the batches, the first replica
        # takes all of a small one and the last is left without an image.
        batches = batches.map(lambda *batch: batch)
        return batches.prefetch(tf.data.AUTOTUNE)

    def test_parts(self, largest, parts, own_parts):
        """The test images in equal parts, for `multiworker`.

        Yields lists of `(images, labels, weights)`, one for each of
        `own_parts`. The images that make the parts equal weigh nothing.
        """
        each = -(-self.test_count // parts)
        blank = (np.zeros(self.image_shape, "uint8"), np.int32(0))
        blanks = tf.data.Dataset.from_tensors((*blank, np.float32(0))).repeat()

        def part(number):
            found = self._test_images(number * each, each)
            found = found.map(lambda image, label: (image, label, 1.0))
            found = found.concatenate(blanks).take(each)
            return found.batch(largest).prefetch(tf.data.AUTOTUNE)

        return map(list, zip(*map(part, own_parts), strict=True))

    def first_test_images(self, count):
        first = self._test_images(0, count).batch(count)
        return next(iter(first))[0].numpy()

    @contextlib.contextmanager
    def reading(self):
        """The context in which the images are read.

        Raises:
            OSError: If they cannot be.
        """
        try:
            yield
        except tf.errors.OpError as error:
            reason = _reason(error)
            if reason is None:
                raise
            raise OSError(
                f"Cannot read the images of '{self.builder.data_path}': "
                f"{reason} Expected JPEG or PNG images with labels from 0 to "
                f"{self.classes - 1}, as TensorFlow Datasets prepares them. "
                "Prepare the dataset again."
            ) from error

    def check(self):
        """Looks at the files and the first images of both splits.

        Raises:
            RunError: If they cannot be read.
        """
        for split in (self.train, self.test):
            for file in self._files(split):
                if not tf.io.gfile.exists(file):
                    raise RunError(
                        f"No file '{file}', which holds {split} images. "
                        "Expected a complete dataset. Prepare it again, or "
                        "copy the file there."
                    )
        try:
            with self.reading():
                for split in (self.train, self.test):
                    self._looked_at(split)
        except OSError as error:
            raise RunError(error) from error

    def _looked_at(self, split):
        records = tf.data.TFRecordDataset(self._files(split))
        for _ in records.take(_LOOKED_AT).map(self.view, **_PARALLEL):
            pass

    def _count(self, split):
        return self.builder.info.splits[split].num_examples

    def _files(self, split):
        paths = self.builder.info.splits[split].filepaths
        return [str(path) for path in paths]

    def _test_images(self, first=0, count=-1):
        """Images and labels of a part of the test split, in their order."""
        files = tf.data.Dataset.from_tensor_slices(self._files(self.test))
        records = self._records(files, self.test).skip(first).take(count)
        return records.map(self.view, **_PARALLEL)

    def shuffled_records(self, seed):
        """The encoded records of the training split, once, as a dataset."""
        file_seed, window_seed = (_fold_in(seed, use) for use in range(2))
        files = _shuffled(tf.constant(self._files(self.train)), file_seed)
        files = tf.data.Dataset.from_tensor_slices(files)
        windows = self._records(files, self.train).batch(_WINDOW).prefetch(1)
        return (
            windows.enumerate()
            .map(lambda n, window: _shuffled(window, _fold_in(window_seed, n)))
            .unbatch()
        )

    def _records(self, files, split):
        records = files.interleave(
            tf.data.TFRecordDataset,
            cycle_length=_FILES,
            block_length=_IN_A_ROW,
            **_PARALLEL,
        )
        whole = tf.data.experimental.assert_cardinality(self._count(split))
        return records.apply(whole)

    def parsed(self, record):
        """The encoded image and the label of a record."""
        features = self.builder.info.features
        wanted = {name: features[name] for name in ("image", "label")}
        example = tfds.features.FeaturesDict(wanted).deserialize_example(
            record, decoders={"image": tfds.decode.SkipDecoding()}
        )
        label = tf.cast(example["label"], "int32")
        known = (label >= 0) & (label < self.classes)
        text = ["There is an image of class", label]
        with tf.control_dependencies([tf.debugging.Assert(known, text)]):
            return example["image"], tf.identity(label)

    def view(self, record):
        """An image as it is evaluated: the middle, and all of one scale."""
        encoded, label = self.parsed(record)
        image = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT),
            lambda: _decode_other(encoded),
        )
        short = round(self.image_size * _MARGIN)
        height, width = tf.unstack(tf.shape(image)[:2])
        shorter = tf.minimum(height, width)
        sides = tf.stack([short * height // shorter, short * width // shorter])
        image = tf.image.resize(image, sides, antialias=True)
        half = tf.round((sides - self.image_size) / 2)
        top, left = tf.unstack(tf.cast(half, "int32"))
        image = image[top:, left:][: self.image_size, : self.image_size]
        return self._as_uint8(image), label

    def crop(self, record, seed):
        """An image as it is trained on: a window, resized, perhaps flipped."""
        encoded, label = self.parsed(record)
        draws = tf.random.stateless_uniform((2 * _TRIES + 3,), seed, alg=_ALG)
        image = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: _jpeg_window(encoded, draws),
            lambda: _other_window(encoded, draws),
        )
        image = tf.image.resize(image, self.image_shape[:2], antialias=True)
        image = tf.cond(draws[-1] < 0.5, lambda: image[:, ::-1], lambda: image)
        return self._as_uint8(image), label

    def _as_uint8(self, image):
        image = tf.saturate_cast(tf.round(image), "uint8")
        return tf.ensure_shape(image, self.image_shape)


class StreamedBatches(images.BatchPlan):
    """Those of `StreamedImages`: random windows, half of them flipped.

    Unless `augment`, the images are those of the evaluation.
    """

    def from_epoch(self, epoch, batch=0):
        """An endless `tf.data.Dataset` of `(images, labels)`."""
        numbers = tf.data.Dataset.range(epoch, np.iinfo("int64").max)
        dataset = numbers.flat_map(self._epoch)
        dataset = dataset.skip(batch * len(self.own_parts))
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _epoch(self, number):
        seed = tf.constant([self.seed, 0], "int64")
        seed = _fold_in(seed, number)
        order_seed, crop_seed = (_fold_in(seed, use) for use in range(2))
        share = self.size // self.parts
        records = self.data.shuffled_records(order_seed).enumerate()
        if self.drop_remainder:
            records = records.take(self.per_epoch * self.size)
        if len(self.own_parts) < self.parts:
            # Before anything is decoded.
            own = tf.constant(self.own_parts, "int64")
            records = records.filter(
                lambda position, _: tf.reduce_any(
                    position % self.size // share == own
                )
            )

        def image(position, record):
            if not self.augment:
                return self.data.view(record)
            return self.data.crop(record, _fold_in(crop_seed, position))

        decoded = records.map(image, **_PARALLEL)
        return decoded.batch(share, drop_remainder=self.drop_remainder)


# Named, because the default depends on the device.
_ALG = "philox"
# As other decoders do it; the default is faster and coarser.
_DCT = "INTEGER_ACCURATE"


def _fold_in(seed, number):
    return tf.random.fold_in(seed, number, alg=_ALG)


def _shuffled(values, seed):
    return tf.random.experimental.stateless_shuffle(values, seed, alg=_ALG)


def random_window(height, width, draws):
    """A window of random area, ratio of its sides, and place.

    Areas are uniform and ratios log-uniform; the first of ten tries that lies
    within the image is taken, or else the largest window in the middle whose
    ratio is allowed.

    Args:
        height: Integer tensor, of the image.
        width: Likewise.
        draws: 22 or more numbers, uniform in [0, 1).

    Returns:
        `(top, left, height, width)`, an integer tensor.
    """
    sides = tf.stack([height, width])
    real = tf.cast(sides, "float32")
    area, ratio = draws[:_TRIES], draws[_TRIES : 2 * _TRIES]
    area = tf.reduce_prod(real) * (_AREAS[0] + area * (_AREAS[1] - _AREAS[0]))
    ratio = tf.exp((2 * ratio - 1) * math.log(_LARGEST_RATIO))
    tries = tf.sqrt(tf.stack([area / ratio, area * ratio], axis=1))
    tries = tf.cast(tf.round(tries), "int32")
    fits = tf.reduce_all((tries > 0) & (tries <= sides), axis=1)
    tried = tries[tf.argmax(fits)]
    place = tf.cast(sides - tried + 1, "float32") * draws[2 * _TRIES :][:2]
    tried = tf.concat([tf.cast(place, "int32"), tried], axis=0)
    allowed = tf.cast(tf.round(real[::-1] * _LARGEST_RATIO), "int32")
    largest = tf.minimum(sides, allowed)
    largest = tf.concat([(sides - largest) // 2, largest], axis=0)
    return tf.where(tf.reduce_any(fits), tried, largest)


def _jpeg_window(encoded, draws):
    shape = tf.io.extract_jpeg_shape(encoded)
    window = random_window(shape[0], shape[1], draws)
    return tf.image.decode_and_crop_jpeg(
        encoded, window, channels=3, dct_method=_DCT
    )


def _decode_other(encoded):
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _other_window(encoded, draws):
    image = _decode_other(encoded)
    shape = tf.shape(image)
    window = random_window(shape[0], shape[1], draws)
    return tf.slice(
        image,
        tf.concat([window[:2], [0]], axis=0),
        tf.concat([window[2:], [3]], axis=0),
    )


def _reason(error):
    """What kept TensorFlow from reading, or None if it was something else.

    Its message names the operations after the reason, and where they were
    defined before.
    """
    if "IteratorGetNext" not in error.message:
        return None
    lines = itertools.takewhile(
        lambda line: "[[" not in line, error.message.splitlines()
    )
    reason = [*lines][-1].rpartition("}} ")[2]
    return f"{reason.partition(' [Op:')[0].rstrip('.')}."
