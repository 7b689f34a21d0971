"""Which datasets are known, and what is held out of them, in memory."""

import subprocess
import sys

import numpy as np
import pytest

from mpt_keras.experiments.data import DATASETS, read
from mpt_keras.experiments.data.held_out import held_out
from mpt_keras.experiments.data.in_memory import of_arrays
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place


def read_digits(**options):
    pytest.importorskip("sklearn")
    return read("digits", Place(), **options)


def rows(images):
    return {image.tobytes() for image in images}


def test_names_are_known_without_what_reads_them():
    program = (
        "import sys, mpt_keras.experiments.data as data; print(*data.DATASETS);"
        "assert not {'keras', 'sklearn', 'tensorflow', 'PIL',"
        "'tensorflow_datasets'} & sys.modules.keys()"
    )
    printed = subprocess.check_output(
        [sys.executable, "-c", program], text=True
    )
    assert printed.split() == [*DATASETS] == ["cifar10", "mnist", "digits"]


def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    data = read_digits()
    bunch = sklearn.load_digits()
    assert (data.train_count, data.test_count) == (1437, 360)
    assert data.image_shape == DATASETS["digits"].image_shape
    assert data.classes == 10
    everything = np.concatenate([data.train_images, data.test_images])
    assert sorted(rows(everything)) == sorted(
        rows(bunch.images[..., None].astype("uint8"))
    )
    np.testing.assert_allclose(data.mean, data.train_images.mean(), 1e-15)
    np.testing.assert_allclose(data.std, data.train_images.std(), 1e-14)
    assert data.validation_count == 0
    assert data.validation_data(10) is None


@pytest.mark.parametrize(("validation", "count"), [(0.1, 144), (37, 37)])
def test_held_out_images_are_never_trained_on(validation, count):
    whole, data = read_digits(), read_digits(validation=validation)
    assert (data.validation_count, data.train_count) == (count, 1437 - count)
    raw = np.random.Philox(key=0, counter=[0, 0, 0, 1]).random_raw(1437)
    held = sorted(np.argsort(raw, kind="stable")[:count])
    left = np.setdiff1d(np.arange(1437), held)
    images, labels = data.validation_data(10)
    np.testing.assert_array_equal(images, whole.train_images[held])
    np.testing.assert_array_equal(labels, whole.train_labels[held])
    np.testing.assert_array_equal(data.train_images, whole.train_images[left])
    np.testing.assert_array_equal(data.train_labels, whole.train_labels[left])
    np.testing.assert_array_equal(data.test_images, whole.test_images)
    np.testing.assert_allclose(data.mean, data.train_images.mean(), 1e-15)
    batches = data.batches(100, 0, False, False)
    drawn = batches.from_epoch(0)
    seen = [next(iterator) for iterator in [iter(drawn)] * batches.per_epoch]
    trained = np.concatenate([np.asarray(labels) for _, labels in seen])
    assert sorted(trained) == sorted(data.train_labels)


def test_validation_parts_make_up_the_whole():
    data = read_digits(validation=10)
    found = [
        np.concatenate(arrays)
        for arrays in zip(
            *(
                part
                for parts in data.validation_parts(3, 4, (0, 1, 2, 3))
                for part in parts
            ),
            strict=True,
        )
    ]
    images, labels, weights = found
    assert weights.sum() == 10
    assert len(weights) == 12
    assert rows(images[weights == 1]) == rows(data.validation_images)
    assert sorted(labels[weights == 1]) == sorted(data.validation_labels)


def test_draws_are_pinned_and_nested():
    assert held_out(0, 12) is None
    few, many = held_out(3, 12), held_out(0.5, 12)
    assert np.flatnonzero(few).tolist() == [4, 7, 8]
    assert many.sum() == 6
    assert (few <= many).all()
    np.testing.assert_array_equal(held_out(3.0, 12), few)


@pytest.mark.parametrize(
    "validation", [12, 12.0, 13, -1, 2.5, 0.01, 0.99, float("nan")]
)
def test_more_held_out_than_there_are(validation):
    with pytest.raises(RunError, match="of the 12 training images") as error:
        held_out(validation, 12)
    assert "\n" not in str(error.value)


def test_mean_and_std_are_computed_per_channel(rng):
    images = rng.integers(0, 256, (50, 6, 5, 3)).astype("uint8")
    labels = rng.integers(0, 4, 50)
    data = of_arrays("own", (images, labels), (images, labels), classes=4)
    np.testing.assert_allclose(data.mean, images.mean((0, 1, 2)), 1e-12)
    np.testing.assert_allclose(data.std, images.std((0, 1, 2)), 1e-12)
    assert data.train_labels.dtype == "int32"


# --- A plain file ---------------------------------------------------------


@pytest.fixture
def file_of(rng, tmp_path):
    def write(dataset, count=20):
        labels = rng.integers(0, 10, count)
        images = rng.integers(0, 17, (count, *DATASETS[dataset].image_shape))
        arrays = {"images": images.astype("uint8"), "labels": labels}
        path = tmp_path / "images.npz"
        np.savez(
            path,
            **{f"train_{name}": value for name, value in arrays.items()},
            **{f"test_{name}": value[:8] for name, value in arrays.items()},
        )
        return Place(images=str(path))

    return write


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_a_plain_file_of_any_known_dataset(dataset, file_of):
    data = read(dataset, file_of(dataset), validation=0.25)
    assert data.name == dataset
    assert (data.train_count, data.validation_count) == (15, 5)
    assert data.test_count == 8
    known = DATASETS[dataset]
    expected = 255 * np.array(known.mean or data.train_images.mean() / 255)
    np.testing.assert_allclose(data.mean, expected)


def test_a_plain_file_of_an_unknown_dataset(file_of):
    with pytest.raises(RunError, match="digits, mnist"):
        read("no_such_images", file_of("mnist"))


def test_sizes_that_nothing_is_brought_to(file_of):
    with pytest.raises(RunError, match="image_size=16"):
        read("mnist", file_of("mnist"), image_size=16)
    with pytest.raises(RunError, match="image_size=16"):
        read("digits", Place(), image_size=16)
