"""Multi-prize tickets on CIFAR-10, by the authors' recipe.

    python examples/cifar10_biprop.py --download --data_dir=data

searches Conv-4 for a sub-network with binary weights that classifies
CIFAR-10, and ends with a SavedModel that takes images and returns class
scores. `--method=edge_popup` keeps the random weights as they are,
`--method=dense` trains the same network the ordinary way, to compare with.
"""

import command
import images
import numpy as np
import prepared
import search
from absl import flags

import mpt_keras as mpt

FLAGS = flags.FLAGS

_MODELS = {
    "conv2": mpt.models.conv2,
    "conv4": mpt.models.conv4,
    "conv6": mpt.models.conv6,
    "conv8": mpt.models.conv8,
}

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
flags.DEFINE_enum("model", "conv4", sorted(_MODELS), "Network.")


def cifar10():
    """CIFAR-10, decoded once into memory."""
    if FLAGS.images:
        splits = images.read_images(FLAGS.images, (32, 32, 3), classes=10)
    else:
        splits = from_tfds(FLAGS.data_dir, FLAGS.download)
    train_images, train_labels, test_images, test_labels = splits
    return images.ImageData(
        name="cifar10",
        train_images=train_images,
        train_labels=train_labels.astype("int32"),
        test_images=test_images,
        test_labels=test_labels.astype("int32"),
        mean=tuple(255 * np.array([0.491, 0.482, 0.447])),
        std=tuple(255 * np.array([0.247, 0.243, 0.262])),
        classes=10,
    )


def from_tfds(data_dir, download):
    """The four arrays from TensorFlow Datasets."""
    builder = prepared.find("cifar10", data_dir, download)
    prepared.check(builder, ["train", "test"], (32, 32, 3), classes=10)
    train, test = (prepared.arrays(builder, name) for name in ("train", "test"))
    return (*train, *test)


def main(_):
    how = search.recipe()
    devices = search.start(how)
    network = search.build(_MODELS, how, devices, decay_with_sgd=1e-4)
    search.train(network, cifar10(), how, devices)


if __name__ == "__main__":
    command.run(main)
