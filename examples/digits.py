"""Handwritten digits that scikit-learn brings along."""

import numpy as np
import sklearn.datasets
from images import ImageData


def digits():
    """1,797 images of 8x8 pixels, values 0 to 16; a fifth is held out."""
    bunch = sklearn.datasets.load_digits()
    images = bunch.images[..., None].astype("uint8")
    labels = bunch.target.astype("int32")
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1437], order[1437:]
    return ImageData(
        name="digits",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        mean=(float(images[train].mean()),),
        std=(float(images[train].std()),),
        classes=10,
    )
