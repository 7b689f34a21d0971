"""Which form of a convolution of signs is faster, layer by layer?

    python benchmarks/signs.py --level=avx2

Both forms of `mpt_keras.runtime.packing`, measured and as it estimates them,
in microseconds an image, and which of them it takes.
"""

import time
from unittest import mock

import numpy as np
from absl import app, flags

from mpt_keras.runtime import library
from mpt_keras.runtime.compiled_program import CompiledProgram
from mpt_keras.runtime.operations import (
    SIGN,
    Convolution,
    Elementwise,
    Plan,
    Steps,
    Threshold,
    Value,
    Window,
)
from mpt_keras.runtime.packing import adder, popcount, signs
from mpt_keras.runtime.program import BITS, PACKED, Builder

FLAGS = flags.FLAGS
flags.DEFINE_string("level", None, "Instruction set; the best by default.")
flags.DEFINE_integer("images", 1, "Side by side: 1, or a multiple of 64.")
flags.DEFINE_multi_float("sparsity", [0.5, 0.75, 0.9], "Fraction pruned.")

# Channels, rows and columns, filters, taps a side, stride.
_LAYERS = (
    (128, 32, 128, 3, 1),
    (128, 16, 256, 3, 1),
    (256, 16, 256, 3, 1),
    (256, 8, 512, 3, 1),
    (512, 8, 512, 3, 1),
    (64, 32, 64, 3, 1),
    (64, 32, 128, 3, 2),
    (64, 32, 128, 1, 2),
    (256, 8, 256, 3, 1),
    (512, 4, 512, 3, 1),
    (1024, 1, 1024, 1, 1),
)


def layer(channels, size, filters, taps, stride, sparsity, is_threshold):
    rng = np.random.default_rng(0)
    kernel = rng.choice([-1, 1], (taps, taps, channels, filters))
    kernel[rng.random(kernel.shape) < sparsity] = 0
    window = Window(
        (taps, taps), (stride, stride), before=(taps // 2, taps // 2)
    )
    source = Value((channels, size, size), SIGN)
    made = filters, -(-size // stride), -(-size // stride)
    kernel = kernel.astype("int8")
    if is_threshold:
        thresholds = np.zeros(filters, "int32")
        output = Value(made, SIGN)
        return Threshold(
            "layer", (source,), output, kernel, window, 1, thresholds
        )
    return Convolution("layer", (source,), Value(made), kernel, 1.0, window)


def measured(operation, form, compiled):
    """Microseconds an image, of this operation alone."""
    source, made, images = operation.inputs[0], operation.output, FLAGS.images
    times = []
    for repeat in (1, 3):
        # Packing and the way in and out are in both, and cancel.
        real = Value(source.shape)
        plan = Plan("", real, Value(made.shape), (), (), True, True, ())
        builder = Builder(
            plan, images, {source: form, made: BITS}, signs.convert
        )
        builder.write(real)
        signs.pack(Elementwise("in", (real,), source, Steps()), builder)
        with mock.patch.object(signs, "choose_form", return_value=form):
            for _ in range(repeat):
                signs.pack(operation, builder)
        if made.kind == SIGN:
            signs.pack(
                Elementwise("out", (made,), plan.output, Steps()), builder
            )
        else:
            builder.plan = Plan("", real, made, (), (), True, True, ())
        run = CompiledProgram(builder.program(), compiled).run
        given = np.zeros((images, *real.shape), "float32")
        results = np.empty((images, *made.shape), "float32")
        spans = []
        for _ in range(30):
            begin = time.perf_counter()
            run(given, results)
            spans.append(time.perf_counter() - begin)
        times.append(np.median(spans))
    return (times[1] - times[0]) / 2 * 1e6 / images


def main(_):
    compiled = library.load(FLAGS.level)
    counts_bits = compiled.level == "avx512_popcnt"
    print(f"{compiled.level}, {FLAGS.images} side by side")
    print(
        "layer                          adds  (about)  counts  (about)  taken"
    )
    for sizes in _LAYERS:
        for sparsity in FLAGS.sparsity:
            for is_threshold in (True, False):
                operation = layer(*sizes, sparsity, is_threshold)
                about = (
                    adder.nanoseconds(operation, FLAGS.images),
                    popcount.nanoseconds(operation, FLAGS.images, counts_bits),
                )
                form = signs.choose_form(operation, FLAGS.images, counts_bits)
                name = "{}@{} -> {} {}x{}/{}".format(
                    *sizes[:3], sizes[3], sizes[3], sizes[4]
                )
                kind = "signs" if is_threshold else "floats"
                columns = [
                    f"{measured(operation, one, compiled):8.1f}"
                    f" ({cost / 1e3 / FLAGS.images:6.1f})"
                    for one, cost in zip((BITS, PACKED), about, strict=True)
                ]
                taken = "adds" if form == BITS else "counts"
                print(f"{name:22} {sparsity:.2f} {kind:6}", *columns, taken)


if __name__ == "__main__":
    app.run(main)
