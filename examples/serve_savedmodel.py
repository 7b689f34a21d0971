"""Classifies images with an exported ticket; needs TensorFlow, nothing else.

    python examples/serve_savedmodel.py --saved_model=runs/.../saved_model a.png

The SavedModel holds the whole of it, preprocessing included, so neither
mpt_keras nor Keras is imported. Images are PNG, JPEG, GIF or BMP files, which
are brought to the size and the channels that the signature asks for, or `.npy`
files of one such image or a batch. Without images, a blank one shows that the
model answers.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("saved_model", None, "Folder of the SavedModel.")
flags.DEFINE_list("class_names", [], "Names of the classes, in order.")
flags.mark_flag_as_required("saved_model")


def load(folder):
    """Returns the serving function and the spec of its images."""
    if not (pathlib.Path(folder) / "saved_model.pb").exists():
        sys.exit(
            f"serve_savedmodel: no SavedModel in '{folder}'. Expected a folder "
            "with saved_model.pb, such as a run's saved_model/."
        )
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    ((name, spec),) = signature.structured_input_signature[1].items()
    return lambda images: signature(**{name: images}), spec


def read(path, spec):
    """Reads one file as a batch of the signature's size, channels and type."""
    if not pathlib.Path(path).exists():
        sys.exit(f"serve_savedmodel: no file '{path}'.")
    height, width, channels = spec.shape[1:]
    if path.endswith(".npy"):
        return read_array(path, spec)
    image = tf.io.decode_image(
        tf.io.read_file(path), channels=channels, expand_animations=False
    )
    if image.shape[:2] != (height, width):
        image = tf.image.resize(image, (height, width), antialias=True)
    return tf.cast(tf.round(image), spec.dtype)[None]


def read_array(path, spec):
    """Reads an array that must already be what the signature asks for."""
    images = np.load(path)
    batch = images[None] if images.ndim == len(spec.shape) - 1 else images
    fits = spec.shape.is_compatible_with(batch.shape)
    if not fits or batch.dtype != spec.dtype.as_numpy_dtype:
        sys.exit(
            f"serve_savedmodel: '{path}' does not fit the model. Expected "
            f"{spec.dtype.name} of shape {tuple(spec.shape)}, or one such "
            f"image. Received: {batch.dtype} of shape {images.shape}."
        )
    return tf.constant(batch)


def main(arguments):
    classify, spec = load(FLAGS.saved_model)
    paths = arguments[1:]
    batches = {path: read(path, spec) for path in paths} or {
        "(blank)": tf.zeros((1, *spec.shape[1:]), spec.dtype)
    }
    for path, images in batches.items():
        (scores,) = classify(images).values()
        for row in tf.nn.softmax(scores).numpy():
            best = int(row.argmax())
            names = FLAGS.class_names
            name = names[best] if best < len(names) else best
            print(f"{path}: class {name} ({row[best]:.1%})")


if __name__ == "__main__":
    app.run(main)
