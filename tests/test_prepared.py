"""Datasets that TensorFlow Datasets has prepared, read into memory."""

import backend
import numpy as np
import pytest
from small_datasets import tfds, write, write_cifar10

from mpt_keras.experiments.data import prepared, read
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place

pytestmark = backend.needs_tensorflow


def test_a_known_dataset(tmp_path):
    write_cifar10(tmp_path, train=50)
    data = read("cifar10", Place(data_dir=str(tmp_path)), validation=0.2)
    assert (data.train_count, data.validation_count) == (40, 10)
    assert data.test_count == 10
    assert data.image_shape == (32, 32, 3)
    assert data.mean == (255 * 0.491, 255 * 0.482, 255 * 0.447)
    assert data.std == (255 * 0.247, 255 * 0.243, 255 * 0.262)


@pytest.mark.parametrize("test", ["test", "validation"])
def test_another_dataset_of_images_of_one_size(test, tmp_path):
    write_cifar10(
        tmp_path, train=50, side=12, name="own", version="1.0.0", test=test
    )
    data = read("own", Place(data_dir=str(tmp_path)))
    assert (data.train_count, data.test_count) == (50, 10)
    assert (data.name, data.classes) == ("own", 10)
    assert data.image_shape == (12, 12, 3)
    np.testing.assert_allclose(data.mean, data.train_images.mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, data.train_images.std((0, 1, 2)))
    few = read("own", Place(data_dir=str(tmp_path)), validation=7)
    assert (few.train_count, few.validation_count) == (43, 7)
    np.testing.assert_allclose(few.mean, few.train_images.mean((0, 1, 2)))


# --- Bad input ------------------------------------------------------------


@pytest.mark.parametrize("download", [False, True])
def test_names_of_no_dataset(download, tmp_path):
    place = Place(data_dir=str(tmp_path), download=download)
    with pytest.raises(RunError, match="No dataset 'no_such_images'") as error:
        read("no_such_images", place)
    assert "Expected cifar10, mnist, digits, a name" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_dataset_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match=r"No prepared cifar10.*--download"):
        read("cifar10", Place(data_dir=str(tmp_path)))


def test_other_images_under_the_name(tmp_path):
    write_cifar10(tmp_path, train=5, side=28)
    with pytest.raises(RunError, match=r"uint8 and shape \(32, 32, 3\)"):
        read("cifar10", Place(data_dir=str(tmp_path)))


def test_a_dataset_without_images_to_test_on(tmp_path):
    write_cifar10(tmp_path, 5, name="own", version="1.0.0", test="dev")
    with pytest.raises(RunError, match="Expected the splits train and test"):
        read("own", Place(data_dir=str(tmp_path)))


def test_a_dataset_without_images(tmp_path):
    splits = {name: [(0, {"text": "a"})] for name in ("train", "test")}
    write(tmp_path, "own", "1.0.0", {"text": tfds.features.Text()}, splits)
    with pytest.raises(RunError, match="image: None; label: None"):
        read("own", Place(data_dir=str(tmp_path)))


def test_more_held_out_than_there_are(tmp_path):
    write_cifar10(tmp_path, train=20)
    with pytest.raises(RunError, match="of the 20 training images"):
        read("cifar10", Place(data_dir=str(tmp_path)), validation=20)


def test_labels_of_other_classes(tmp_path):
    write_cifar10(tmp_path, train=5, label=-1)
    builder = prepared.find("cifar10", tmp_path, download=False)
    with pytest.raises(RunError, match="Received: -1 to -1"):
        prepared.arrays(builder, "train")
    for file in tmp_path.glob("cifar10/*/*train*"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(RunError, match="Cannot read the images of"):
        prepared.arrays(builder, "train")


def test_a_download_that_fails(tmp_path, monkeypatch):
    def no_network(self, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", no_network
    )
    with pytest.raises(RunError, match="ConnectionError: no route to host"):
        read("cifar10", Place(data_dir=str(tmp_path), download=True))
