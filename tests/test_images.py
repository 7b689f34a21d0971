"""Images in memory: order, crops and flips, and those of a plain file."""

import io
import itertools
import json

import keras
import numpy as np
import programs
import pytest
from backend import needs_tensorflow

import mpt_keras as mpt
from mpt_keras.experiments.data.batches import Batches, epoch_draws
from mpt_keras.experiments.data.in_memory import ImageData
from mpt_keras.experiments.data.plain_file import read_images
from mpt_keras.experiments.errors import RunError

COUNT = 37


@pytest.fixture
def data(rng):
    pixels = rng.integers(0, 256, (COUNT, 6, 5, 3)).astype("uint8")
    labels = rng.integers(0, 10, COUNT)
    return ImageData(
        "random", pixels, labels, pixels, labels, (0.0,) * 3, (1.0,) * 3, 10
    )


def take(batches, epoch, count):
    return [
        tuple(keras.ops.convert_to_numpy(part) for part in batch)
        for batch in itertools.islice(batches.from_epoch(epoch), count)
    ]


def expected_image(image, top, left, flip):
    """Crop of the image padded by 4, then flip, one pixel at a time."""
    height, width, _ = image.shape
    padded = np.zeros((height + 8, width + 8, 3), "uint8")
    padded[4:-4, 4:-4] = image
    crop = padded[top : top + height, left : left + width]
    return crop[:, ::-1] if flip else crop


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_what_the_draws_say(augment, data):
    batches = Batches(data, 10, seed=3, augment=augment)
    assert batches.per_epoch == 4
    for epoch in (0, 1):
        order, top, left, flip = epoch_draws(3, epoch, COUNT)
        assert sorted(order) == list(range(COUNT))
        found = take(batches, epoch, 4)
        assert [len(labels) for _, labels in found] == [10, 10, 10, 7]
        pixels, labels = map(np.concatenate, zip(*found, strict=True))
        np.testing.assert_array_equal(labels, data.train_labels[order])
        expected = data.train_images[order]
        if augment:
            draws = zip(expected, top, left, flip, strict=True)
            expected = np.stack([expected_image(*draw) for draw in draws])
        np.testing.assert_array_equal(pixels, expected)
        assert pixels.dtype == "uint8"


def test_draws_are_pinned_and_cover_their_range():
    order, top, left, flip = epoch_draws(0, 0, 5)
    assert order.tolist() == [0, 2, 1, 4, 3]
    _, top, left, flip = epoch_draws(1, 2, 20_000)
    assert set(top.tolist()) == set(left.tolist()) == set(range(9))
    assert abs(flip.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.03
    other = epoch_draws(1, 3, 20_000)[1]
    assert (top != other).mean() > 0.8


def test_a_later_epoch_is_the_same_from_there(data):
    batches = Batches(data, 10, seed=0, augment=True)
    whole = take(batches, 0, 12)
    for ours, expected in zip(take(batches, 2, 4), whole[8:], strict=True):
        np.testing.assert_array_equal(ours[0], expected[0])


def test_parts_make_up_the_whole(data):
    options = {"seed": 0, "augment": True, "drop_remainder": True}
    whole = take(Batches(data, 12, **options), 0, 6)
    assert all(len(labels) == 12 for _, labels in whole)
    first = Batches(data, 12, **options, parts=3, own_parts=(0, 1))
    second = Batches(data, 12, **options, parts=3, own_parts=(2,))
    assert first.per_epoch == 3
    for batch, (one, two), three in zip(
        whole,
        zip(*[iter(take(first, 0, 12))] * 2, strict=True),
        take(second, 0, 6),
        strict=True,
    ):
        joined = np.concatenate([one[0], two[0], three[0]])
        np.testing.assert_array_equal(joined, batch[0])


@needs_tensorflow
def test_shapes_are_static_where_batches_are_whole(data):
    whole = Batches(data, 12, seed=0, drop_remainder=True)
    spec, _ = whole.from_epoch(0).element_spec
    assert tuple(spec.shape) == (12, 6, 5, 3)


# --- A plain file ---------------------------------------------------------


def test_cifar10_trains_from_a_plain_file(rng, tmp_path):
    """On JAX and PyTorch this needs no TensorFlow."""
    labels = rng.integers(0, 10, 96)
    noise = rng.integers(0, 100, (96, 32, 32, 3))
    pixels = (noise + 15 * labels[:, None, None, None]).astype("uint8")
    np.savez(
        tmp_path / "images.npz",
        train_images=pixels,
        train_labels=labels,
        test_images=pixels[:40],
        test_labels=labels[:40],
    )
    programs.succeed(
        "examples/cifar10_biprop.py",
        f"--images={tmp_path / 'images.npz'}",
        f"--output_dir={tmp_path / 'run'}",
        "--width=0.05",
        "--epochs=2",
        "--batch_size=32",
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(result["test_accuracy_per_epoch"]) == 2
    on_tensorflow = keras.backend.backend() == "tensorflow"
    assert (result["saved_model"] is not None) == on_tensorflow
    searched = keras.models.load_model(tmp_path / "run" / "last.keras")
    shipped = keras.models.load_model(tmp_path / "run" / "ticket.keras")
    np.testing.assert_array_equal(
        shipped.predict(pixels, verbose=0), searched.predict(pixels, verbose=0)
    )
    assert not mpt.masked_layers(shipped)


def encoded(pixels):
    import PIL.Image

    files = []
    for image in pixels:
        file = io.BytesIO()
        PIL.Image.fromarray(image).save(file, format="png")
        files.append(np.frombuffer(file.getvalue(), "uint8"))
    offsets = np.cumsum([0] + [len(file) for file in files])
    return np.concatenate(files), offsets


def plain_file(path, data, **changes):
    arrays = {
        "train_images": data.train_images,
        "train_labels": data.train_labels,
        "test_images": data.test_images[:8],
        "test_labels": data.test_labels[:8],
    }
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_a_plain_file_of_arrays(data, tmp_path):
    path = plain_file(tmp_path / "images.npz", data)
    train, labels, test, _ = read_images(path, (6, 5, 3), classes=10)
    np.testing.assert_array_equal(train, data.train_images)
    np.testing.assert_array_equal(labels, data.train_labels)
    assert test.shape == (8, 6, 5, 3)


def test_a_plain_file_of_encoded_images(data, tmp_path):
    pytest.importorskip("PIL")
    names = ("bytes", "offsets")
    train = dict(zip(names, encoded(data.train_images), strict=True))
    test = dict(zip(names, encoded(data.test_images[:8]), strict=True))
    path = plain_file(
        tmp_path / "images.npz",
        data,
        train_images=None,
        test_images=None,
        **{f"train_{name}": value for name, value in train.items()},
        **{f"test_{name}": value for name, value in test.items()},
    )
    found, _, _, _ = read_images(path, (6, 5, 3), classes=10)
    np.testing.assert_array_equal(found, data.train_images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "no train_labels among"),
        ({"test_images": None}, "neither among"),
        (
            {"test_images": np.zeros((8, 6, 6, 3), "uint8")},
            r"images of uint8 and shape \(8, 6, 6, 3\)",
        ),
        (
            {"test_images": np.zeros((8, 6, 5, 3), "float32")},
            "images of float32",
        ),
        ({"test_labels": np.zeros(9, "int32")}, r"labels of shape \(9,\)"),
        ({"test_labels": np.zeros(8, "float32")}, "8 images, labels"),
        ({"test_labels": np.full(8, 10)}, r"labels \[10\]"),
        (
            {
                "test_images": None,
                "test_bytes": np.zeros(9, "uint8"),
                "test_offsets": np.array([0, 9]),
            },
            "Cannot decode the images",
        ),
        ({"train_labels": np.array([None])}, "Cannot read images"),
    ],
)
def test_files_of_other_images(changes, message, data, tmp_path):
    path = plain_file(tmp_path / "images.npz", data, **changes)
    with pytest.raises(RunError, match=message):
        read_images(path, (6, 5, 3), classes=10)


def test_what_is_no_file_of_arrays(tmp_path):
    path = tmp_path / "images.npz"
    with pytest.raises(RunError, match="Cannot read images"):
        read_images(path, (6, 5, 3), classes=10)
    path.write_bytes(b"PK\x03\x04 broken off")
    with pytest.raises(RunError, match="Cannot read images"):
        read_images(path, (6, 5, 3), classes=10)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(RunError, match="one array without a name"):
        read_images(path, (6, 5, 3), classes=10)
