"""Multi-prize tickets on CIFAR-10, by the authors' recipe.

    python examples/cifar10_biprop.py --download --data_dir=data

searches Conv-4 for a sub-network with binary weights that classifies
CIFAR-10, and ends with a SavedModel that takes images and returns class
scores. `--method=edge_popup` keeps the random weights as they are,
`--method=dense` trains the same network the ordinary way, to compare with.
"""

import command
import experiment
import images
import keras
import numpy as np
import run_folder
from absl import flags
from command import RunError

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
flags.DEFINE_float("width", 1.0, "Multiplier of every layer's width.")
flags.DEFINE_enum(
    "method",
    "biprop",
    ["biprop", "edge_popup", "dense"],
    "Binary weights, masked real weights, or ordinary training.",
)
flags.DEFINE_bool("binary_activations", False, "Binary activations as well.")
flags.DEFINE_bool(
    "trained_batch_norm",
    False,
    "Train scale and offset of the batch norms (+BN in the papers' tables); "
    "only networks with binary activations have them.",
)
flags.DEFINE_bool(
    "global_sparsity",
    False,
    "One threshold for all layers, with the authors' ramp over ten epochs.",
)
flags.DEFINE_enum(
    "kernel_initializer",
    "kaiming_normal",
    ["kaiming_normal", "signed_constant"],
    "The random weights.",
)
flags.DEFINE_enum(
    "scale_fan",
    "paper",
    ["paper", "authors", "none"],
    "How the weights' scale accounts for the sparsity: fan-in times the "
    "fraction kept, times the fraction pruned (the authors' code), or not.",
)
flags.DEFINE_enum(
    "optimizer",
    None,
    ["sgd", "adam"],
    "By default as the authors: SGD, and Adam with binary activations.",
)
flags.DEFINE_float("learning_rate", 0.1, "Learning rate in the first epoch.")
flags.DEFINE_enum(
    "schedule", "cosine", ["cosine", "constant"], "Learning rate per epoch."
)
flags.DEFINE_float(
    "score_decay",
    None,
    "Weight decay of the scores, added to their gradient. By default as the "
    "authors: 1e-4 with SGD, 0 with Adam.",
)
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_enum(
    "mixed_precision",
    "none",
    ["none", "bfloat16", "float16"],
    "Type of the activations; scores stay in float32.",
)
flags.register_validator(
    "batch_size", lambda value: value > 0, "Expected a positive number."
)


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
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise RunError(
            f"TensorFlow Datasets cannot be imported ({error}). Install the "
            "extra `examples` and TensorFlow, or pass --images=FILE, which "
            "needs neither."
        ) from error
    builder = tfds.builder("cifar10", data_dir=data_dir)
    if download:
        try:
            builder.download_and_prepare()
        except Exception as error:
            raise RunError(
                f"Could not download CIFAR-10 to '{builder.data_dir}': "
                f"{type(error).__name__}: {error}. Expected access to the "
                "network and a folder that can be written. Without a network, "
                "copy a prepared folder there and drop --download."
            ) from error
    if not builder.data_path.joinpath("dataset_info.json").exists():
        raise RunError(
            f"No prepared CIFAR-10 in --data_dir='{data_dir}'. Expected the "
            f"folder '{builder.data_dir}' with dataset_info.json. Pass "
            "--download to fetch it, or the --data_dir that holds it."
        )
    splits = builder.as_dataset(as_supervised=True, batch_size=-1)
    train, test = tfds.as_numpy((splits["train"], splits["test"]))
    return (*train, *test)


def build(score_decay):
    options = {
        "width": FLAGS.width,
        "binary_activations": FLAGS.binary_activations,
        "trained_batch_norm": FLAGS.trained_batch_norm,
        # The authors add decay * score to the gradient.
        "regularizer": keras.regularizers.L2(score_decay / 2)
        if score_decay
        else None,
        "seed": FLAGS.seed,
    }
    if FLAGS.method == "dense":
        return _MODELS[FLAGS.model](masked=False, **options)
    return _MODELS[FLAGS.model](
        sparsity=FLAGS.sparsity,
        binarize=FLAGS.method == "biprop",
        kernel_initializer=FLAGS.kernel_initializer,
        scale_fan=None if FLAGS.scale_fan == "none" else FLAGS.scale_fan,
        **options,
    )


def recipe():
    adam_by_default = FLAGS.binary_activations
    return experiment.Recipe(
        epochs=FLAGS.epochs or 100,
        batch_size=FLAGS.batch_size,
        optimizer=FLAGS.optimizer or ("adam" if adam_by_default else "sgd"),
        learning_rate=FLAGS.learning_rate,
        schedule=FLAGS.schedule,
        augment=True,
    )


def main(_):
    if FLAGS.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{FLAGS.mixed_precision}")
    how = recipe()
    score_decay = FLAGS.score_decay
    if score_decay is None:
        score_decay = 1e-4 if how.optimizer == "sgd" else 0.0
    devices = experiment.start(how)
    try:
        with devices.scope():
            network = build(score_decay)
    except ValueError as error:
        raise RunError(error) from error
    data = cifar10()
    folder = run_folder.open_run_folder(
        f"cifar10-{FLAGS.model}-{FLAGS.method}-{FLAGS.sparsity}", devices
    )
    callbacks = []
    if FLAGS.global_sparsity:
        ramp = mpt.schedules.CubicRamp(FLAGS.sparsity)
        callbacks.append(mpt.callbacks.GlobalSparsity(schedule=ramp))
    result = experiment.train(network, data, how, folder, devices, callbacks)
    if devices.writes_files:
        experiment.report(result)


if __name__ == "__main__":
    command.run(main)
