"""How many test images a model classifies rightly."""

import numpy as np

from mpt_keras.experiments import data

_BATCH = 500


def right(model, dataset, place):
    """Classifies the test images of a dataset.

    Args:
        model: Keras model from images as the dataset has them to class scores.
        dataset: Name of the dataset, for `data.read`.
        place: `Place`, which says where the images are.

    Returns:
        How many of them are classified rightly, and how many there are.

    Raises:
        RunError: If there are no such images.
        NoEffectError: If the place says what has no effect.
    """
    place.check(dataset)
    images = data.read(dataset, place)
    found = 0
    for begin in range(0, images.test_count, _BATCH):
        part = slice(begin, begin + _BATCH)
        scores = model.predict_on_batch(images.test_images[part])
        found += np.sum(scores.argmax(-1) == images.test_labels[part])
    return int(found), images.test_count
