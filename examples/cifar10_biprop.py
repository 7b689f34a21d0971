"""Multi-prize tickets on CIFAR-10, by the authors' recipes.

    python examples/cifar10_biprop.py --download --data_dir=data

searches Conv-4 for a sub-network with binary weights that classifies
CIFAR-10, and ends with a SavedModel that takes images and returns class
scores. `--method=edge_popup` keeps the random weights as they are,
`--method=dense` trains the same network the ordinary way, to compare with.
Whatever no flag says is as in the published recipe for the network and the
method; `--recipe` names another.
"""

import dataclasses
import functools

import command
import images
import numpy as np
import prepared
import recipes
import search
from absl import flags

import mpt_keras as mpt

FLAGS = flags.FLAGS

_MODELS = {
    "vgg_small_norm_at_pools": functools.partial(
        mpt.models.vgg_small, form="norm_at_pools"
    ),
    **{
        name: getattr(mpt.models, name)
        for name in (
            *("conv2", "conv4", "conv6", "conv8"),
            *("lenet_300_100", "vgg_small"),
            *("resnet18", "resnet34", "resnet50", "resnet101"),
            *("wide_resnet18_2", "wide_resnet18_3"),
            *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        )
    },
}
_FAMILIES = {
    **dict.fromkeys(_MODELS, "resnet18"),
    **dict.fromkeys(("conv2", "conv4", "conv6", "conv8"), "conv"),
    **dict.fromkeys(("vgg_small", "vgg_small_norm_at_pools"), "vgg"),
    **{f"resnet{depth}": "resnet20" for depth in (20, 32, 44, 56, 110)},
    "lenet_300_100": "fc",
}


@dataclasses.dataclass(frozen=True)
class _Dataset:
    """A dataset whose images are all of one size; mean and std in [0, 1]."""

    image_shape: tuple
    mean: tuple
    std: tuple
    augment: bool
    classes: int = 10


_DATASETS = {
    "cifar10": _Dataset(
        (32, 32, 3), (0.491, 0.482, 0.447), (0.247, 0.243, 0.262), augment=True
    ),
    "mnist": _Dataset((28, 28, 1), (0.1307,), (0.3081,), augment=False),
}

search.define_models(_MODELS, "conv4", recipes.CIFAR10)
flags.adopt_module_key_flags(search)
flags.DEFINE_enum(
    "dataset", "cifar10", sorted(_DATASETS), "The images to classify."
)
flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets.")
flags.DEFINE_bool("download", False, "Fetch the images if they are missing.")
flags.DEFINE_string(
    "images",
    None,
    "Plain file of the images instead, which needs neither TensorFlow nor "
    "TensorFlow Datasets: a NumPy .npz with train_images (uint8, NHWC), "
    "train_labels, test_images and test_labels, or with PNG or JPEG files end "
    "to end in train_bytes, from train_offsets on.",
)


def read_data():
    """The images, decoded once into memory."""
    dataset = _DATASETS[FLAGS.dataset]
    if FLAGS.images:
        splits = images.read_images(
            FLAGS.images, dataset.image_shape, dataset.classes
        )
    else:
        splits = from_tfds(FLAGS.dataset, FLAGS.data_dir, FLAGS.download)
    train_images, train_labels, test_images, test_labels = splits
    return images.ImageData(
        name=FLAGS.dataset,
        train_images=train_images,
        train_labels=train_labels.astype("int32"),
        test_images=test_images,
        test_labels=test_labels.astype("int32"),
        mean=tuple(255 * np.array(dataset.mean)),
        std=tuple(255 * np.array(dataset.std)),
        classes=dataset.classes,
    )


def from_tfds(name, data_dir, download):
    """The four arrays from TensorFlow Datasets."""
    dataset = _DATASETS[name]
    builder = prepared.find(name, data_dir, download)
    prepared.check(
        builder, ["train", "test"], dataset.image_shape, dataset.classes
    )
    train, test = (
        prepared.arrays(builder, split) for split in ("train", "test")
    )
    return (*train, *test)


def main(_):
    search.follow_recipe(recipes.CIFAR10, _FAMILIES)
    dataset = _DATASETS[FLAGS.dataset]
    if FLAGS["augment"].using_default_value:
        FLAGS["augment"].value = dataset.augment
    how = search.how_to_train()
    devices = search.start(how)
    network = search.build(
        _MODELS,
        devices,
        classes=dataset.classes,
        input_shape=dataset.image_shape,
    )
    search.train(network, read_data(), how, devices)


if __name__ == "__main__":
    command.run(main)
