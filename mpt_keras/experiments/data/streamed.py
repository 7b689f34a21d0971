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
import typing

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mpt_keras.experiments.data import windows
from mpt_keras.experiments.data.batches import BatchPlan
from mpt_keras.experiments.errors import RunError

# The files that are read at the same time, and how many records of one are
# taken in a row. Both decide about the order.
_FILES = 16
_IN_A_ROW = 16
# Encoded images among which the order is drawn, all held in memory.
_WINDOW = 4096
_LOOKED_AT = 100
_PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


@dataclasses.dataclass(frozen=True)
class StreamedImages:
    """Images in files; offers what `in_memory.ImageData` offers.

    Args:
        builder: From `prepared.find`, with images of any sizes and labels.
        image_size: Height and width of the images that come out, uint8.
        mean: Per channel, of the uint8s.
        std: Likewise.
        train: Name of the split that is trained on.
        test: Name of the split that is evaluated.
        held_out: From `held_out`, of the split that is trained on, whose
            records it counts file by file; None for none.
    """

    builder: typing.Any
    image_size: int
    mean: tuple
    std: tuple
    train: str = "train"
    test: str = "validation"
    held_out: np.ndarray | None = None

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
        return self._count(self.train) - self.validation_count

    @property
    def validation_count(self):
        return 0 if self.held_out is None else int(self.held_out.sum())

    @property
    def test_count(self):
        return self._count(self.test)

    def batches(self, *arguments):
        return StreamedBatches(self, *arguments)

    def test_data(self, batch_size):
        """What `fit` takes as `validation_data`, in batches."""
        return _in_batches(self._test_images(), batch_size)

    def validation_data(self, batch_size):
        """The same of the images held out; None if there are none.

        They lie among those that are trained on: all files are read through,
        but no other image is decoded.
        """
        if self.held_out is None:
            return None
        return _in_batches(self._validation_images(), batch_size)

    def test_parts(self, largest, parts, own_parts):
        """The test images in equal parts, for `multiworker`.

        Yields lists of `(images, labels, weights)`, one for each of
        `own_parts`. The images that make the parts equal weigh nothing.
        """
        each = -(-self.test_count // parts)
        return self._equal_parts(self._test_images, each, largest, own_parts)

    def validation_parts(self, largest, parts, own_parts):
        """Likewise, of the images held out."""
        each = -(-self.validation_count // parts)
        images = self._validation_images
        return self._equal_parts(images, each, largest, own_parts)

    def _equal_parts(self, images, each, largest, own_parts):
        blank = (np.zeros(self.image_shape, "uint8"), np.int32(0))
        blanks = tf.data.Dataset.from_tensors((*blank, np.float32(0))).repeat()

        def part(number):
            found = images(number * each, each)
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
        files = tf.range(len(self._files(self.test)))
        records = self._records(files, self.test).skip(first).take(count)
        return records.map(self.view, **_PARALLEL)

    def _validation_images(self, first=0, count=-1):
        """Likewise, of the images held out of the training split."""
        files = tf.range(len(self._files(self.train)))
        records = self._records(files, self.train, self.held_out)
        return records.skip(first).take(count).map(self.view, **_PARALLEL)

    def shuffled_records(self, seed):
        """The encoded records that are trained on, once, as a dataset."""
        file_seed, window_seed = (_fold_in(seed, use) for use in range(2))
        files = tf.range(len(self._files(self.train)))
        files = _shuffled(files, file_seed)
        chosen = None if self.held_out is None else ~self.held_out
        records = self._records(files, self.train, chosen)
        return (
            records.batch(_WINDOW)
            .prefetch(1)
            .enumerate()
            .map(lambda n, window: _shuffled(window, _fold_in(window_seed, n)))
            .unbatch()
        )

    def _records(self, files, split, chosen=None):
        """The encoded records of a split.

        Args:
            files: Numbers of its files, in the order to read them.
            split: Its name.
            chosen: Of every record in the order of the files, whether to
                take it; all by default.
        """
        paths = tf.constant(self._files(split))
        lengths = self.builder.info.splits[split].shard_lengths
        firsts = tf.constant(np.cumsum([0, *lengths]), "int64")

        def of_file(number):
            records = tf.data.TFRecordDataset(paths[number])
            if chosen is None:
                return records
            return (
                records.enumerate(firsts[number])
                .filter(lambda position, _: tf.gather(chosen, position))
                .map(lambda _, record: record)
            )

        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            of_file,
            cycle_length=_FILES,
            block_length=_IN_A_ROW,
            **_PARALLEL,
        )
        count = self._count(split) if chosen is None else int(chosen.sum())
        return records.apply(tf.data.experimental.assert_cardinality(count))

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
        """An image as it is evaluated, and its label."""
        encoded, label = self.parsed(record)
        return windows.middle(encoded, self.image_size), label

    def crop(self, record, seed):
        """An image as it is trained on, and its label."""
        encoded, label = self.parsed(record)
        draws = tf.random.stateless_uniform((windows.DRAWS,), seed, alg=_ALG)
        return windows.crop(encoded, draws, self.image_size), label


class StreamedBatches(BatchPlan):
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


def _fold_in(seed, number):
    return tf.random.fold_in(seed, number, alg=_ALG)


def _shuffled(values, seed):
    return tf.random.experimental.stateless_shuffle(values, seed, alg=_ALG)


def _in_batches(images, size):
    # Where TensorFlow knows the size of the batches, the first replica takes
    # all of a small one and the last is left without an image.
    batches = images.batch(size).map(lambda *batch: batch)
    return batches.prefetch(tf.data.AUTOTUNE)


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
