"""Builds the page on which a ticket reads digits, which docs/browser.md shows.

    python docs/browser/build.py --ticket=digits_mpt_1_32 --output_dir=page
    python -m http.server --directory page

Any ticket will do that takes scikit-learn's digits as they are, 8 x 8 numbers
of 0 to 16. It needs the extra `experiments`, for the digits, and either clang
with lld or the package `ziglang` (the extra `runtime`).
"""

import argparse
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import mpt_keras as mpt
from mpt_keras.engines.c_file import Heading
from mpt_keras.experiments.data.digits import digits

_SOURCES = pathlib.Path(__file__).parent
_COPIED = (
    *("index.html", "style.css"),
    *("page.js", "bitmap.js", "drawing.js", "ticket.js"),
)
# What makes a C file of `mpt.export` a module that needs no other. Behind
# `__heap_base` lies the memory that nothing in the file uses.
_WASM = (
    *("-std=c99", "-Os", "-msimd128", "-mbulk-memory", "-nostdlib"),
    *("-Wl,--no-entry", "-Wl,--strip-all"),
    *("-Wl,--export=predict", "-Wl,--export=__heap_base"),
)
_EXAMPLES = 20  # held-out digits that the page can show
_DIGITS = "0123456789abcdefg"  # base 17


def build(ticket, folder):
    """Writes the page.

    Args:
        ticket: Name of a packaged ticket, or path of a ticket file.
        folder: Where its files go; what has other names stays.

    Returns:
        What the page says of the network, as a dictionary.
    """
    model = mpt.load_ticket(ticket)
    if model.input_shape[1:] != (8, 8, 1) or model.output_shape[1:] != (10,):
        raise ValueError(
            "Invalid value for argument `ticket`. Expected one that takes "
            "8x8 images and has 10 outputs. Received: "
            f"ticket={str(ticket)!r}, which maps {model.input_shape} to "
            f"{model.output_shape}"
        )
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="new-") as name:
        new = pathlib.Path(name)
        source = new / "ticket.c"
        export(model, source)
        compile_to_wasm(source, new / "ticket.wasm")
        said = {
            "name": pathlib.Path(ticket).stem,
            "bytes": _size(ticket),
            "tables": Heading(source).flash_bytes,
            **_weights(model),
            **_held_out(model),
        }
        text = f"export const network = {json.dumps(said, indent=1)};\n"
        (new / "network.js").write_text(text, encoding="utf-8")
        source.unlink()
        for name in _COPIED:
            shutil.copyfile(_SOURCES / name, new / name)
        for path in new.iterdir():
            path.replace(folder / path.name)
    return said


def export(model, path):
    """Writes the C file; what a seed gives is drawn in the browser."""
    try:
        mpt.export(model, path, format="c", signs="seed")
    except ValueError:  # real activations: nothing can be drawn there
        mpt.export(model, path, format="c")


def wasm_compiler():
    """The begin of its command; None if there is no compiler."""
    if shutil.which("clang") and shutil.which("wasm-ld"):
        return ["clang", "--target=wasm32"]
    if importlib.util.find_spec("ziglang"):
        zig = [sys.executable, "-m", "ziglang", "cc"]
        return [*zig, "-target", "wasm32-freestanding"]
    return None


def compile_to_wasm(source, path):
    """Compiles a C file that `mpt.export` wrote.

    Args:
        source: The C file.
        path: Of the WebAssembly file.

    Raises:
        RuntimeError: If there is no compiler for it, or it fails.
    """
    command = wasm_compiler()
    if command is None:
        raise RuntimeError(
            "There is no compiler for WebAssembly (looked for clang with "
            "wasm-ld, and the package ziglang). One that pip installs: pip "
            'install "mpt_keras[runtime]"'
        )
    found = subprocess.run(
        [*command, *_WASM, source, "-o", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if found.returncode:
        raise RuntimeError(
            f"`{' '.join(command)}` could not compile the ticket.\n"
            f"{found.stdout[:2000]}"
        )


def _size(ticket):
    """Bytes of the ticket's file."""
    path = pathlib.Path(ticket)
    if path.is_file():
        return path.stat().st_size
    return mpt.pretrained.find(ticket).bytes


def _weights(model):
    masks = [np.asarray(layer.mask()) for layer in mpt.masked_layers(model)]
    return {
        "kept": int(sum(mask.sum() for mask in masks)),
        "weights": sum(mask.size for mask in masks),
    }


def _held_out(model):
    """What Keras makes of the digits held out, and some of them."""
    _, (images, labels) = digits()
    predicted = model.predict(images, batch_size=512, verbose=0).argmax(-1)
    examples = [
        [int(label), "".join(_DIGITS[value] for value in image.ravel())]
        for image, label in zip(
            images[:_EXAMPLES], labels[:_EXAMPLES], strict=True
        )
    ]
    return {
        "heldOut": len(labels),
        "correct": int(np.sum(predicted == labels)),
        "examples": examples,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--ticket",
        default="digits_mpt_1_32",
        help="name of a packaged ticket, or a path",
    )
    parser.add_argument("--output_dir", default="page", help="folder for it")
    options = parser.parse_args()
    said = build(options.ticket, options.output_dir)
    paths = sorted(pathlib.Path(options.output_dir).iterdir())
    sizes = [path.stat().st_size for path in paths]
    for size, path in zip(sizes, paths, strict=True):
        print(f"{size:>7,}  {path.name}")
    print(f"{sum(sizes):>7,}  bytes in all")
    print(
        f"{said['name']}: {said['correct']} of {said['heldOut']} held-out "
        "digits are right"
    )


if __name__ == "__main__":
    main()
