"""A ticket for a microcontroller: handwritten digits as one C file.

    python examples/microcontroller.py

searches a ticket of binary weights and activations on scikit-learn's digits,
writes it as C, runs that on the digits held out, and prints how much flash and
RAM it takes. If `arm-none-eabi-gcc` is installed (Debian's
`gcc-arm-none-eabi`), it is compiled for a Cortex-M4 as well.
"""

import pathlib
import shutil
import subprocess

import keras
import numpy as np
from absl import app, flags

import mpt_keras as mpt
from mpt_keras.engines import c_file
from mpt_keras.experiments.data import read
from mpt_keras.experiments.place import Place

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "digits.c", "The C file.")
flags.DEFINE_integer("epochs", 60, "Of the search.", lower_bound=1)
flags.DEFINE_enum(
    "signs",
    "stored",
    ["stored", "seed"],
    "Whether signs are in the file, or drawn at its first call.",
)

_CORTEX_M4 = (
    *("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard"),
    *("-mfpu=fpv4-sp-d16", "-std=c99", "-Os", "-ffreestanding", "-c"),
)


def network():
    """The image is real, and all that follows binary."""
    sign = {"input_quantizer": "approx_sign", "padding": "same"}
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            mpt.MPTConv2D(32, 3, padding="same", sparsity=0.5, seed=1),
            keras.layers.BatchNormalization(),
            mpt.MPTConv2D(64, 3, sparsity=0.5, seed=2, **sign),
            keras.layers.MaxPooling2D(),
            keras.layers.BatchNormalization(),
            mpt.MPTConv2D(64, 3, sparsity=0.5, seed=3, **sign),
            keras.layers.MaxPooling2D(),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            mpt.MPTDense(
                10, sparsity=0.5, seed=4, input_quantizer="approx_sign"
            ),
            keras.layers.BatchNormalization(),
        ],
        name="digits",
    )


def main(_):
    keras.utils.set_random_seed(0)
    data = read("digits", Place())
    model = network()
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, 45 * FLAGS.epochs)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = data.train_images.astype("float32") / 16
    model.fit(
        *(images, data.train_labels),
        batch_size=32,
        epochs=FLAGS.epochs,
        verbose=0,
    )
    images = data.test_images.astype("float32") / 16
    path = pathlib.Path(FLAGS.output)
    report = mpt.export(
        *(model, path),
        format="c",
        inputs=images,
        vectors=False,
        signs=FLAGS.signs,
    )
    print(report)
    (scores,) = c_file.build(path)([images])
    correct = np.mean(scores.argmax(-1) == data.test_labels)
    print(f"{correct:.1%} of {len(images)} digits held out are right")
    if shutil.which(_CORTEX_M4[0]):
        compiled = path.with_suffix(".o")
        subprocess.run([*_CORTEX_M4, path, "-o", compiled], check=True)
        print("Cortex-M4, code and tables (text) and RAM (bss):")
        subprocess.run(["arm-none-eabi-size", compiled], check=True)


if __name__ == "__main__":
    app.run(main)
