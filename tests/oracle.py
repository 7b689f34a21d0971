"""The method in NumPy, written from the papers' formulas by sorting."""

import numpy as np


def pruned_count(sparsity, size):
    """floor(sparsity * size), guarded against float artefacts; one stays."""
    product = sparsity * size
    nearest = round(product)
    if abs(product - nearest) < 1e-9 * max(size, 1):
        return min(nearest, size - 1)
    return min(int(np.floor(product)), size - 1)


def mask(scores, sparsity):
    """Prunes the first `pruned_count` in the order of |score|, position."""
    magnitudes = np.abs(np.asarray(scores, "float32")).ravel()
    order = np.argsort(magnitudes, kind="stable")
    kept = np.ones(magnitudes.size, bool)
    kept[order[: pruned_count(sparsity, magnitudes.size)]] = False
    return kept.reshape(np.shape(scores))


def effective(scores, kernel, sparsity, binarize=True):
    kept = mask(scores, sparsity)
    if not binarize:
        return kernel * kept
    gain = np.abs(kernel.astype("float64"))[kept].mean()
    return gain * kept * np.sign(kernel)


def scores_gradient(upstream, scores, kernel):
    return upstream * kernel * np.sign(scores)
