"""Small datasets, written as TensorFlow Datasets prepares them."""

import io

import numpy as np
import pytest
from backend import tf

pillow = pytest.importorskip("PIL.Image")
tfds = pytest.importorskip("tensorflow_datasets")


def encoded(image, kind):
    file = io.BytesIO()
    pillow.fromarray(image).save(file, format=kind)
    file.seek(0)
    return file


def examples(count, label=None):
    """Smooth images of many sizes; every tenth is a PNG."""
    rng = np.random.default_rng(count)
    for key in range(count):
        height, width = rng.integers(40, 91, 2)
        pixels = rng.integers(0, 256, (5, 6, 3)).astype("uint8")
        image = pillow.fromarray(pixels).resize((width, height), 3)
        kind = "png" if key % 10 == 9 else "jpeg"
        yield {
            "image": encoded(np.asarray(image), kind),
            "label": int(rng.integers(10)) if label is None else label,
            "file_name": f"{key}.JPEG",
        }


def write(folder, name, version, features, splits, **options):
    """Splits, lists of pairs of a key and an example, in their order."""
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_datasets=splits,
        disable_shuffling=True,
        **options,
    )
    return folder


def write_imagenet(folder, splits, **changes):
    """Images of varying sizes in the format of ImageNet, three files each."""
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=10),
        "file_name": tfds.features.Text(),
    }
    features |= changes
    features = {name: kind for name, kind in features.items() if kind}
    splits = {
        split: [
            (key, {name: example[name] for name in features})
            for key, example in enumerate(found)
        ]
        for split, found in splits.items()
    }
    shards = tfds.download.DownloadConfig(num_shards=3)
    return write(
        folder,
        "imagenet2012",
        "5.1.0",
        features,
        splits,
        download_config=shards,
    )


def damage(folder, how):
    """Changes the next to last record of the training split's last file."""
    *_, file = sorted(folder.glob("imagenet2012/*/*train*"))
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    example = tf.train.Example.FromString(records[-2])
    features = example.features.feature
    if how == "image":
        images = features["image"].bytes_list
        images.value[0] = images.value[0][:100]
    if how == "label":
        features["label"].int64_list.value[0] = 10
    records[-2:-1] = [example.SerializeToString()] if how != "missing" else []
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    if how == "bytes":
        file.write_bytes(file.read_bytes()[:-20])


def write_cifar10(
    folder,
    train=500,
    side=32,
    label=None,
    name="cifar10",
    version="3.0.2",
    test="test",
):
    """A part of CIFAR-10's size, written in the format of its own."""
    rng = np.random.default_rng(0)

    def split(count):
        for key in range(count):
            number = int(rng.integers(10))
            image = rng.integers(0, 100, (side, side, 3)) + 15 * number
            yield (
                key,
                {
                    "id": f"{key}",
                    "image": image.astype("uint8"),
                    "label": number if label is None else label,
                },
            )

    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(side, side, 3)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    splits = {"train": [*split(train)], test: [*split(train // 5)]}
    return write(folder, name, version, features, splits)
