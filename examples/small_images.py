"""What the examples on small images share: networks, data, their flags."""

import dataclasses
import functools

import digits
import images
import numpy as np
import prepared
import training
from absl import flags

import mpt_keras as mpt

FLAGS = flags.FLAGS

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

MODELS = {
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
FAMILIES = {
    **dict.fromkeys(MODELS, "resnet18"),
    **dict.fromkeys(("conv2", "conv4", "conv6", "conv8"), "conv"),
    **dict.fromkeys(("vgg_small", "vgg_small_norm_at_pools"), "vgg"),
    **{f"resnet{depth}": "resnet20" for depth in (20, 32, 44, 56, 110)},
    "lenet_300_100": "fc",
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset whose images are all of one size; mean and std in [0, 1].

    Those of scikit-learn's digits, which need no download, are computed.
    """

    image_shape: tuple
    mean: tuple = ()
    std: tuple = ()
    augment: bool = False
    classes: int = 10


DATASETS = {
    "cifar10": Dataset(
        (32, 32, 3), (0.491, 0.482, 0.447), (0.247, 0.243, 0.262), augment=True
    ),
    "mnist": Dataset((28, 28, 1), (0.1307,), (0.3081,)),
    "digits": Dataset((8, 8, 1)),
}


def define_flags(dataset, model, rows):
    """Defines --dataset, --model and --recipe, which every example has.

    Args:
        dataset: Name of the dataset taken by default.
        model: Name of the network taken by default.
        rows: The example's recipes.
    """
    flags.DEFINE_enum(
        "dataset",
        dataset,
        sorted(DATASETS),
        "The images to classify; those of digits, from scikit-learn, need no "
        "download.",
    )
    training.define_models(MODELS, model, rows)


def shape_of_data():
    """The arguments of a network that the data decides."""
    dataset = DATASETS[FLAGS.dataset]
    return {"classes": dataset.classes, "input_shape": dataset.image_shape}


def augment_by_default():
    """Where neither --augment nor the recipe says it, the dataset decides."""
    if FLAGS.augment is None:
        FLAGS.augment = DATASETS[FLAGS.dataset].augment


def read_data():
    """The images, decoded once into memory."""
    dataset = DATASETS[FLAGS.dataset]
    if FLAGS.dataset == "digits":
        return digits.digits()
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
    dataset = DATASETS[name]
    builder = prepared.find(name, data_dir, download)
    prepared.check(
        builder, ["train", "test"], dataset.image_shape, dataset.classes
    )
    train, test = (
        prepared.arrays(builder, split) for split in ("train", "test")
    )
    return (*train, *test)
