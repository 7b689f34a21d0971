"""What the examples on small images share: networks, data, their flags."""

import functools

import training
from absl import flags

import mpt_keras as mpt
from mpt_keras.experiments import data
from mpt_keras.experiments.data import DATASETS
from mpt_keras.experiments.place import Place

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
    place = Place(
        data_dir=FLAGS.data_dir, download=FLAGS.download, images=FLAGS.images
    )
    return data.read(FLAGS.dataset, place)
