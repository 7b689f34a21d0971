"""The datasets that are known, and the one function that reads any."""

import dataclasses

from mpt_keras.experiments.errors import RunError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset whose images are all of one size; mean and std in [0, 1].

    Those of the training images are computed where none were published.
    """

    image_shape: tuple
    mean: tuple = ()
    std: tuple = ()
    augment: bool = False
    classes: int = 10


DATASETS = {
    "cifar10": Dataset(
        (32, 32, 3), (0.491, 0.482, 0.447), (0.247, 0.243, 0.262), augment=True
    ),
    "mnist": Dataset((28, 28, 1), (0.1307,), (0.3081,)),
    "digits": Dataset((8, 8, 1)),
}

# What images of varying sizes are taken for.
_IMAGENET = Dataset((224, 224, 3), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def read(dataset, place, image_size=None, validation=0):
    """Reads images: into memory, or looks at files that are read in training.

    Args:
        dataset: One of `DATASETS`, or what TensorFlow Datasets calls it, with
            configuration and version if need be (`"imagenette/160px-v2"`).
            It must have images with labels, a split `train`, and a split
            `test` or `validation`.
        place: A `Place`, which says where the images are.
        image_size: Height and width, in pixels, to which images are brought
            that are then streamed. Images of one size are by default taken
            into memory as they are, those of varying sizes come out as 224.
        validation: Fraction in (0, 1), or number, of training images that are
            held out of the training; the same ones in every run.

    Returns:
        `in_memory.ImageData` or `streamed.StreamedImages`.

    Raises:
        RunError: If there are no such images, or too few to hold some out.
    """
    if place.images is not None:
        return _from_file(dataset, place.images, image_size, validation)
    if dataset == "digits":
        _refuse_size(dataset, image_size)
        return _of_known(dataset, *_digits(), validation)
    from mpt_keras.experiments.data import prepared

    builder = prepared.find(dataset, place.data_dir, place.download)
    if image_size is not None or prepared.sizes_vary(builder):
        size = image_size or _IMAGENET.image_shape[0]
        return _streamed(dataset, builder, size, validation)
    return _from_tfds(dataset, builder, validation)


def _refuse_size(dataset, image_size):
    if image_size is not None:
        raise RunError(
            f"The images of {dataset} are of one size there, and are not "
            f"streamed. Received: image_size={image_size}. Leave it out."
        )


def _from_file(dataset, path, image_size, validation):
    from mpt_keras.experiments.data import plain_file

    if dataset not in DATASETS:
        raise RunError(
            f"images='{path}' can hold a known dataset only: "
            f"{', '.join(sorted(DATASETS))}. Received: dataset='{dataset}'. "
            "Name one of these, or leave the file out."
        )
    _refuse_size(dataset, image_size)
    known = DATASETS[dataset]
    train_images, train_labels, *test = plain_file.read_images(
        path, known.image_shape, known.classes
    )
    return _of_known(dataset, (train_images, train_labels), test, validation)


def _digits():
    try:
        from mpt_keras.experiments.data import digits
    except ImportError as error:
        raise RunError(
            f"scikit-learn cannot be imported ({error}); it brings the "
            "digits. Install the extra `experiments`."
        ) from error
    return digits.digits()


def _of_known(dataset, train, test, validation):
    from mpt_keras.experiments.data import in_memory

    known = DATASETS[dataset]
    return in_memory.of_arrays(
        dataset,
        train,
        test,
        known.classes,
        mean=_of_uint8(known.mean),
        std=_of_uint8(known.std),
        validation=validation,
    )


def _from_tfds(dataset, builder, validation):
    """Decoded once, all of it."""
    from mpt_keras.experiments.data import in_memory, prepared

    known = DATASETS.get(dataset)
    splits = ("train", prepared.first_split(builder, "test", "validation"))
    prepared.check(
        builder,
        splits,
        known.image_shape if known else (None, None, None),
        known.classes if known else None,
    )
    train, test = (prepared.arrays(builder, split) for split in splits)
    if known:
        return _of_known(dataset, train, test, validation)
    classes = builder.info.features["label"].num_classes
    return in_memory.of_arrays(
        dataset, train, test, classes, validation=validation
    )


def _streamed(dataset, builder, image_size, validation):
    """Looked at, but not read yet."""
    from mpt_keras.experiments.data import prepared
    from mpt_keras.experiments.data.held_out import held_out

    test = prepared.first_split(builder, "validation", "test")
    prepared.check(builder, ("train", test), (None, None, 3))
    try:
        from mpt_keras.experiments.data import streamed
    except ImportError as error:
        raise RunError(
            f"TensorFlow cannot be imported ({error}); it reads the images. "
            "Install it beside the backend."
        ) from error
    known = DATASETS.get(dataset, _IMAGENET)
    data = streamed.StreamedImages(
        builder,
        image_size,
        mean=_of_uint8(known.mean),
        std=_of_uint8(known.std),
        test=test,
        held_out=held_out(
            validation, builder.info.splits["train"].num_examples
        ),
    )
    data.check()
    return data


def _of_uint8(values):
    return tuple(255 * value for value in values)
