"""How many bytes do the masks of tickets take?

    python benchmarks/ticket_size.py --files=run/last.keras
    python benchmarks/ticket_size.py --files=1.keras,2.keras

Of one file a row per layer, of several, in the order of training, a row per
file, which `docs/pictures/draw.py` draws. Beside the codec of tickets stand
the entropy of masks of which only the number of weights kept is known, and
general compressors: `xz -9e` and, where `zstandard` is installed, `zstd -19` of
packed bits, and DeepCABAC in the implementation of `nncodec`, if
`--nncodec_python` names a Python that has it. Milliseconds, the least of
`--rounds`, are those of drawing the initial scores and of encoding or decoding.
"""

import lzma
import math
import pathlib
import subprocess
import tempfile
import time

import harness
import keras
import numpy as np
from absl import app, flags

import mpt_keras as mpt
from mpt_keras.ticket.mask_codec import decode_mask, encode_mask
from mpt_keras.ticket.start import Start, draw_quantiles

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "files", None, "Models (.keras) or masks (.npz).", required=True
)
flags.DEFINE_string("nncodec_python", None, "A Python that has nncodec.")

NNCODEC = """
import contextlib, io, sys
import numpy as np
from nncodec import nnc
for path in sys.argv[1:]:
    mask = np.load(path)
    with contextlib.redirect_stdout(io.StringIO()):
        data = nnc.compress({"0": mask}, bitstream_path=None,
                            return_bitstream=True)
        (back,) = nnc.decompress(data).values()
    assert np.array_equal(back, mask)
    print(len(data))
"""


def read(path):
    """Pairs of mask and function that gives its `Start` or None, by name."""
    if pathlib.Path(path).suffix == ".npz":
        masks = mpt.analysis.read_masks(path)
        return {name: (mask, lambda: None) for name, mask in masks.items()}
    found = {}
    for layer in mpt.masked_layers(
        keras.models.load_model(path, compile=False)
    ):
        for number, masked in enumerate(layer.masked_kernels):
            name = "/".join([layer.name, str(number)][: 1 + (number > 0)])
            mask = keras.ops.convert_to_numpy(masked.mask())
            found[name] = mask, start_of(layer, number, masked)
    return found


def start_of(layer, number, masked):
    initializer = layer.scores_initializer
    if not isinstance(initializer, mpt.initializers.KaimingUniform):
        return lambda: None
    seed = layer.seed if initializer.seed is None else initializer.seed
    kernel = keras.ops.convert_to_numpy(masked.kernel).astype("float32")

    def start():
        return Start(draw_quantiles(seed, 2 * number + 1, kernel.size), kernel)

    return start


def bound(mask):
    """n * H(kept / n) / 8, bytes."""
    share = np.count_nonzero(mask) / mask.size
    if share in (0, 1):
        return 0.0
    entropy = share * math.log2(share) + (1 - share) * math.log2(1 - share)
    return -mask.size * entropy / 8


def sizes(masks, before):
    """Rows of bytes, one per mask."""
    nncodec = bytes_of_nncodec([mask for mask, _ in masks.values()])
    rows = []
    for place, (name, (mask, start)) in enumerate(masks.items()):
        packed = np.packbits(mask).tobytes()
        kept = int(np.count_nonzero(mask))
        data, encode = timed(lambda m=mask, s=start: encode_mask(m, s()))
        back, decode = timed(
            lambda m=mask, s=start, d=data, k=kept: decode_mask(
                d, m.shape, k, s()
            )
        )
        if not np.array_equal(back, mask):
            raise ValueError(f"The mask '{name}' does not come back.")
        row = {
            "what": name,
            "weights": mask.size,
            "kept": kept,
            "bound": bound(mask),
            "mask alone": len(encode_mask(mask)),
            "ticket": len(data),
        }
        if before:
            row["update"] = len(encode_mask(mask, start(), before[name][0]))
        row["xz"] = len(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME))
        if zstandard := optional("zstandard"):
            row["zstd"] = len(zstandard.compress(packed, 19))
        if nncodec:
            row["nncodec"] = nncodec[place]
        rows.append({**row, "encode ms": encode, "decode ms": decode})
    return rows


def timed(work):
    """What some work returns, and its least milliseconds."""
    times = []
    for _ in range(FLAGS.rounds):
        start = time.perf_counter()
        result = work()
        times.append(1e3 * (time.perf_counter() - start))
    return result, min(times)


def optional(name):
    try:
        return __import__(name)
    except ImportError:
        return None


def bytes_of_nncodec(masks):
    """Bytes of each mask, outputs first, as its own layers are."""
    if not FLAGS.nncodec_python:
        return []
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, mask in enumerate(masks):
            matrix = mask.reshape(-1, mask.shape[-1]).T
            paths.append(f"{folder}/{number}.npy")
            np.save(paths[-1], np.ascontiguousarray(matrix).astype("int32"))
        done = subprocess.run(
            [FLAGS.nncodec_python, "-c", NNCODEC, *paths],
            check=True,
            capture_output=True,
            text=True,
        )
    return [int(line) for line in done.stdout.split()]


def total(name, rows):
    row = {"what": name}
    for column in list(rows[0])[1:]:
        row[column] = sum(row_[column] for row_ in rows)
    return row


def with_ratios(row):
    whole = row["bound"] or 1.0
    return {
        **row,
        "bound": round(row["bound"]),
        "ticket / bound": row["ticket"] / whole,
        "bits per weight": 8 * row["ticket"] / row["weights"],
    }


def main(_):
    rows, before = [], {}
    for path in FLAGS.files:
        masks = read(path)
        layers = sizes(masks, before)
        if len(FLAGS.files) > 1:
            rows.append(total(path, layers))
            before = masks
        else:
            rows = [*layers, total("total", layers)]
    columns = {column: None for row in rows for column in row}
    rows = [{column: row.get(column, "") for column in columns} for row in rows]
    harness.report("Bytes of the masks", [with_ratios(row) for row in rows])


if __name__ == "__main__":
    app.run(main)
