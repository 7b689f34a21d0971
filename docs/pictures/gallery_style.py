"""What the pictures of the gallery share: data, size and headlines."""

import json
import pathlib
import textwrap

import numpy as np

from mpt_keras import figure_words, figures

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data"
RESULTS = HERE.parent / "results"
# Inches, so that ten points can still be read on a telephone.
WIDTH = 4.3
_CHARACTERS = 40


def read(name):
    """A data file: arrays by name, or JSON."""
    path = DATA / name
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    return json.loads(path.read_text())


def say(figure, sentence):
    """The headline of a picture is what it shows."""
    lines = len(textwrap.wrap(sentence, _CHARACTERS))
    # Of about the same length.
    width = min(
        width
        for width in range(12, _CHARACTERS + 1)
        if len(textwrap.wrap(sentence, width)) <= lines
    )
    figure_words.headline(figure, textwrap.fill(sentence, width))


@figures.picture
def resized(figure, height, sentence):
    """A figure of the library, with the size and headline of the gallery."""
    figure.set_size_inches(WIDTH, height)
    say(figure, sentence)
    return figure
