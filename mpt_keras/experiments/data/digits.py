"""Handwritten digits that scikit-learn brings along."""

import numpy as np
import sklearn.datasets


def digits():
    """1,797 images of 8x8 pixels, values 0 to 16; a fifth is tested on.

    Returns:
        Two pairs of images (uint8, NHWC) and labels: training and test.
    """
    bunch = sklearn.datasets.load_digits()
    images = bunch.images[..., None].astype("uint8")
    labels = bunch.target.astype("int32")
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1437], order[1437:]
    return (images[train], labels[train]), (images[test], labels[test])
