"""Datasets that TensorFlow Datasets has prepared in a folder."""

from mpt_keras.experiments.errors import RunError


def find(name, data_dir, download):
    """Finds a prepared dataset, or prepares it.

    Args:
        name: As TensorFlow Datasets calls it, with configuration and version
            if need be; or that of a folder in `data_dir` in its format.
        data_dir: Folder of TensorFlow Datasets; None for its own choice.
        download: Whether to fetch and prepare what is missing.

    Returns:
        A `tfds.core.DatasetBuilder` that says what the files say.

    Raises:
        RunError: If there is none.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise RunError(
            f"TensorFlow Datasets cannot be imported ({error}). Install the "
            "extra `experiments` and TensorFlow. The digits need neither, nor "
            "do cifar10 and mnist from a plain file, images=FILE."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        # Without the whole catalog.
        reason = _one_line(error).partition(" Available datasets:")[0]
        raise RunError(
            f"No dataset '{name}' in data_dir='{data_dir}', nor does "
            f"TensorFlow Datasets know how to make one: {reason[:300]} "
            "Expected cifar10, mnist, digits, a name from its catalog, or "
            "that of a folder there in its format."
        ) from error
    if download:
        _prepare(builder)
    if not builder.data_path.joinpath("dataset_info.json").exists():
        raise RunError(
            f"No prepared {name} in data_dir='{data_dir}'. Expected the "
            f"folder '{builder.data_dir}' with dataset_info.json. Fetch it "
            "with download=True (--download), or name the data_dir that "
            "holds it."
        )
    try:
        return tfds.builder_from_directory(builder.data_dir)
    except Exception as error:
        raise RunError(
            f"'{builder.data_dir}' cannot be read: {_one_line(error)} Expected "
            "a dataset as TensorFlow Datasets prepares it, with "
            "dataset_info.json and features.json. Prepare it again."
        ) from error


def _prepare(builder):
    try:
        builder.download_and_prepare()
    except Exception as error:
        by_hand = (
            "Its files cannot be fetched automatically: put them there by hand."
            if builder.MANUAL_DOWNLOAD_INSTRUCTIONS
            else "Expected access to the network and a folder that can be "
            "written. Without a network, copy a prepared folder there and "
            "drop `download`."
        )
        raise RunError(
            f"Could not download {builder.name} to '{builder.data_dir}': "
            f"{type(error).__name__}: {_one_line(error)} {by_hand}"
        ) from error


def _one_line(error):
    text = " ".join(str(error).split())
    return text if text.endswith(".") else f"{text}."


def sizes_vary(builder):
    """Whether a dataset's images are not all of one size."""
    image = _features(builder).get("image")
    return image is not None and None in image.shape


def first_split(builder, *names):
    """The first of these splits that a dataset has; if none, the first."""
    splits = builder.info.splits or {}
    return next((name for name in names if name in splits), names[0])


def check(builder, splits, image_shape, classes=None):
    """Raises `RunError` unless a dataset holds images with labels.

    Args:
        builder: From `find`.
        splits: Names of the splits that it must have.
        image_shape: Tuple, None where a side may be any or vary.
        classes: Number of classes, None for any.
    """
    import tensorflow_datasets as tfds

    features = _features(builder)
    image, label = features.get("image"), features.get("label")
    counts = {name: split.num_examples for name, split in _splits(builder)}
    right = (
        all(counts.get(split) for split in splits)
        and isinstance(image, tfds.features.Image)
        and image.np_dtype == "uint8"
        and _matches(image.shape, image_shape)
        and isinstance(label, tfds.features.ClassLabel)
        and label.num_classes
        and classes in (None, label.num_classes)
    )
    if not right:
        raise RunError(
            f"'{builder.data_path}' does not hold the images asked for. "
            f"Expected the splits {' and '.join(splits)}; the features image, "
            f"an Image of uint8 and shape {image_shape}, and label, a "
            f"ClassLabel{f' of {classes} classes' if classes else ''}. "
            f"Received: images per split {counts}; image: {image}; label: "
            f"{label}. Name another dataset or data_dir."
        )


def _features(builder):
    import tensorflow_datasets as tfds

    features = builder.info.features
    if isinstance(features, tfds.features.FeaturesDict):
        return dict(features.items())
    return {}


def _splits(builder):
    splits = builder.info.splits or {}
    return ((name, splits[name]) for name in splits)


def _matches(shape, expected):
    return len(shape) == len(expected) and all(
        side is None or side == found
        for found, side in zip(shape, expected, strict=True)
    )


def arrays(builder, split):
    """Images and labels of a whole split, decoded.

    Raises:
        RunError: If a file is damaged, or a label is none of the classes.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    try:
        everything = builder.as_dataset(split=split, batch_size=-1)
        everything = tfds.as_numpy(everything)
    except (OSError, tf.errors.OpError) as error:
        raise RunError(
            f"Cannot read the images of '{builder.data_path}': "
            f"{_one_line(error)} Prepare the dataset again."
        ) from error
    labels = everything["label"]
    classes = builder.info.features["label"].num_classes
    if labels.min() < 0 or labels.max() >= classes:
        raise RunError(
            f"'{builder.data_path}' holds labels that are none of its "
            f"{classes} classes. Expected 0 to {classes - 1} in the split "
            f"{split}. Received: {labels.min()} to {labels.max()}. Prepare "
            "the dataset again."
        )
    return everything["image"], labels
