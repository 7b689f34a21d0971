"""Images streamed from disk: order, windows, held-out ones, damaged ones."""

import io
import itertools
import shutil

import backend
import numpy as np
import pytest
from small_datasets import (
    damage,
    examples,
    pillow,
    tfds,
    write_cifar10,
    write_imagenet,
)

from mpt_keras.experiments.data import read
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place

tf = backend.tf
pytestmark = backend.needs_tensorflow

TRAIN, TEST, SIZE = 120, 21, 32


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_imagenet(
        tmp_path_factory.mktemp("tfds"),
        {"train": examples(TRAIN), "validation": examples(TEST)},
    )


def opened(folder, validation=0):
    place = Place(data_dir=str(folder))
    return read("imagenet2012", place, SIZE, validation)


@pytest.fixture
def data(data_dir):
    return opened(data_dir)


# --- Order ----------------------------------------------------------------


def take(batches, epoch, count):
    return [
        tuple(part.numpy() for part in batch)
        for batch in itertools.islice(batches.from_epoch(epoch), count)
    ]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_epoch_holds_every_image_once(data):
    orders = [
        [record.numpy() for record in data.shuffled_records(tf.constant(seed))]
        for seed in ([0, 0], [0, 1], [0, 0])
    ]
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert len(set(orders[0])) == TRAIN
    assert set(orders[0]) == set(orders[1])


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_a_function_of_seed_epoch_and_position(augment, data):
    tf.random.set_seed(1)
    whole = take(data.batches(50, 7, augment, False), 0, 6)
    assert [len(labels) for _, labels in whole] == [50, 50, 20] * 2
    tf.random.set_seed(2)
    assert_same(take(data.batches(50, 7, augment, False), 1, 3), whole[3:])
    other = take(data.batches(50, 8, augment, False), 1, 1)
    assert (other[0][0] != whole[3][0]).any()
    assert (whole[0][0] != whole[3][0]).any()
    assert whole[0][0].shape == (50, SIZE, SIZE, 3)
    assert whole[0][0].dtype == "uint8"


def test_parts_make_up_the_whole(data):
    from mpt_keras.experiments.data.streamed import StreamedBatches as plan

    options = {"seed": 0, "augment": True, "drop_remainder": True}
    whole = take(plan(data, 24, **options), 1, 10)
    assert all(len(labels) == 24 for _, labels in whole)
    first = plan(data, 24, **options, parts=3, own_parts=(0, 1))
    second = plan(data, 24, **options, parts=3, own_parts=(2,))
    pairs = zip(*[iter(take(first, 1, 20))] * 2, strict=True)
    joined = [
        tuple(map(np.concatenate, zip(one, two, three, strict=True)))
        for (one, two), three in zip(pairs, take(second, 1, 10), strict=True)
    ]
    assert_same(joined, whole)


def test_test_parts_make_up_the_whole(data):
    images, labels = next(iter(data.test_data(TEST)))
    np.testing.assert_array_equal(data.first_test_images(9), images[:9])
    found = []
    for own_parts in [(0, 1), (2, 3)]:  # 6 images each, 3 too many
        parts = zip(*data.test_parts(4, 4, own_parts), strict=True)
        for part in parts:
            assert [len(weights) for _, _, weights in part] == [4, 2]
            found.append([np.concatenate(x) for x in zip(*part, strict=True)])
    pixels, classes, weights = map(np.concatenate, zip(*found, strict=True))
    np.testing.assert_array_equal(pixels[weights == 1], images)
    np.testing.assert_array_equal(classes[weights == 1], labels)
    assert weights.sum() == TEST


# --- Windows --------------------------------------------------------------


def expected_window(height, width, draws):
    """One try after the other, in Python's numbers."""
    draws = [float(draw) for draw in draws]
    for area, ratio in zip(draws[:10], draws[10:20], strict=True):
        area = height * width * (0.08 + 0.92 * area)
        ratio = np.exp(np.log(3 / 4) + ratio * np.log(16 / 9))
        rows = round(np.sqrt(area / ratio))
        columns = round(np.sqrt(area * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top = int(draws[20] * (height - rows + 1))
            left = int(draws[21] * (width - columns + 1))
            return top, left, rows, columns
    rows, columns = height, width
    if width < height * 3 / 4:
        rows = round(width * 4 / 3)
    elif width > height * 4 / 3:
        columns = round(height * 4 / 3)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


@pytest.mark.parametrize(
    ("height", "width"), [(400, 300), (333, 500), (60, 1000), (900, 40), (1, 1)]
)
def test_windows(height, width, rng):
    from mpt_keras.experiments.data import windows

    draws = rng.uniform(size=(500, 23)).astype("float32")
    found = tf.map_fn(
        lambda row: windows.random_window(height, width, row),
        draws,
        fn_output_signature="int32",
    ).numpy()
    expected = [expected_window(height, width, row) for row in draws]
    # Where a side lies between two integers, 32 bits may take the other.
    same = (found == expected).all(axis=1)
    assert same.mean() > 0.98
    top, left, rows, columns = found.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= height).all()
    assert (left + columns <= width).all()
    if 3 / 4 <= width / height <= 4 / 3 and height > 1:
        share = rows * columns / (height * width)
        assert share.min() > 0.079
        assert abs(np.log(columns / rows)).max() < np.log(4 / 3) + 0.03


def decoded(record):
    example = tf.train.Example.FromString(record)
    (file,) = example.features.feature["image"].bytes_list.value
    return pillow.open(io.BytesIO(file)).convert("RGB")


def test_a_training_image_is_its_window(data):
    """Decoded, cut out, resized and flipped by Pillow."""
    records = data.shuffled_records(tf.constant([0, 0])).take(20)
    flips = set()
    for number, record in enumerate(records):
        seed = tf.constant([number, 1])
        found, _ = data.crop(record, seed)
        draws = tf.random.stateless_uniform((23,), seed, alg="philox").numpy()
        image = decoded(record.numpy())
        top, left, rows, columns = expected_window(*image.size[::-1], draws)
        image = image.crop((left, top, left + columns, top + rows))
        image = np.asarray(image.resize((SIZE, SIZE), pillow.BILINEAR), int)
        flips.add(draws[-1] < 0.5)
        if draws[-1] < 0.5:
            image = image[:, ::-1]
        # Colours beyond the window's edge are unknown to who cuts first.
        difference = np.abs(found.numpy() - image)
        assert difference[2:-2, 2:-2].max() <= 8
        assert difference.mean() < 0.6
    assert flips == {False, True}


def test_an_evaluated_image_is_its_middle(data):
    records = tf.data.TFRecordDataset(data._files("validation"))
    for record, found in zip(
        records, data.first_test_images(TEST), strict=True
    ):
        image = decoded(record.numpy())
        width, height = image.size
        short = 37  # 32 * 256 / 224, rounded
        scaled = (
            (short, short * height // width)
            if width < height
            else (short * width // height, short)
        )
        image = np.asarray(image.resize(scaled, pillow.BILINEAR), int)
        top, left = (round((side - SIZE) / 2) for side in image.shape[:2])
        image = image[top : top + SIZE, left : left + SIZE]
        assert np.abs(found - image).max() <= 2


# --- Held out -------------------------------------------------------------


def all_of(batches):
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def files_in_order(data):
    """The encoded training images, file by file."""
    return [
        bytes(record.numpy())
        for file in data._files("train")
        for record in tf.data.TFRecordDataset(file)
    ]


@pytest.mark.parametrize(("validation", "count"), [(0.25, 30), (7, 7)])
def test_held_out_images_are_never_trained_on(validation, count, data_dir):
    data = opened(data_dir, validation)
    assert data.validation_count == count
    assert data.train_count == TRAIN - count
    assert data.test_count == TEST
    raw = np.random.Philox(key=0, counter=[0, 0, 0, 1]).random_raw(TRAIN)
    held = set(np.argsort(raw, kind="stable")[:count])
    records = files_in_order(data)
    expected = {records[number] for number in held}
    seed = tf.constant([0, 1])
    trained = [record.numpy() for record in data.shuffled_records(seed)]
    assert len(trained) == len(set(trained)) == TRAIN - count
    assert set(trained) == set(records) - expected
    images, labels = all_of(data.validation_data(4))
    shown = sorted(image.tobytes() for image in images)
    views = [data.view(tf.constant(record)) for record in expected]
    assert shown == sorted(image.numpy().tobytes() for image, _ in views)
    assert sorted(labels) == sorted(int(label) for _, label in views)


def test_batches_of_what_is_left(data_dir):
    data = opened(data_dir, 20)
    batches = data.batches(30, 7, True, False)
    assert batches.per_epoch == 4
    whole = take(batches, 0, 8)
    assert [len(labels) for _, labels in whole] == [30, 30, 30, 10] * 2
    assert_same(take(batches, 1, 4), whole[4:])


def test_validation_parts_make_up_the_whole(data_dir):
    data = opened(data_dir, 10)
    images, labels = all_of(data.validation_data(10))
    parts = zip(*data.validation_parts(2, 3, (0, 1, 2)), strict=True)
    found = [
        np.concatenate(arrays)
        for arrays in zip(*itertools.chain(*parts), strict=True)
    ]
    assert found[2].sum() == 10
    np.testing.assert_array_equal(found[0][found[2] == 1], images)
    np.testing.assert_array_equal(found[1][found[2] == 1], labels)


def test_nothing_held_out(data):
    assert data.validation_count == 0
    assert data.validation_data(10) is None


@pytest.mark.parametrize("validation", [120, 500, -1, 0.001, 2.5])
def test_more_held_out_than_there_are(validation, data_dir):
    with pytest.raises(RunError, match="of the 120 training images"):
        opened(data_dir, validation)


# --- Other datasets -------------------------------------------------------


def test_sizes_that_vary_are_streamed(data_dir):
    data = read("imagenet2012", Place(data_dir=str(data_dir)))
    assert data.image_shape == (224, 224, 3)
    assert data.mean == (255 * 0.485, 255 * 0.456, 255 * 0.406)
    assert data.first_test_images(2).shape == (2, 224, 224, 3)


def test_an_image_size_streams_images_of_one_size(tmp_path):
    write_cifar10(tmp_path, train=20)
    data = read("cifar10", Place(data_dir=str(tmp_path)), 24)
    assert data.image_shape == (24, 24, 3)
    assert (data.train_count, data.test_count) == (20, 4)
    assert data.mean == (255 * 0.491, 255 * 0.482, 255 * 0.447)
    assert take(data.batches(20, 0, True, False), 0, 1)[0][0].any()


# --- Bad input ------------------------------------------------------------


@pytest.fixture
def copied(data_dir, tmp_path):
    return shutil.copytree(data_dir, tmp_path / "tfds")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("image", "Invalid JPEG data"),
        ("label", r"\[There is an image of class\] \[10\]\."),
        ("bytes", "truncated record"),
        ("missing", "contained only 119 elements"),
    ],
)
def test_damage_that_an_epoch_meets(how, reason, copied):
    damage(copied, how)
    data = opened(copied)
    batches = data.batches(TRAIN, 0, True, False)
    with pytest.raises(OSError, match=reason), data.reading():
        next(iter(batches.from_epoch(0)))


def test_errors_that_are_not_the_images(data):
    with pytest.raises(tf.errors.InvalidArgumentError), data.reading():
        tf.reshape(tf.zeros(3), (2, 2))


def test_a_missing_file(copied):
    next(copied.glob("imagenet2012/*/*validation*")).unlink()
    with pytest.raises(RunError, match="which holds validation images"):
        opened(copied)


def test_labels_of_no_class(tmp_path):
    write_imagenet(
        tmp_path, {"train": examples(3), "validation": examples(3, -1)}
    )
    with pytest.raises(RunError, match=r"an image of class\] \[-1\]"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("split", "changes", "received"),
    [
        ("dev", {}, r"\{'train': 3, 'dev': 3\}"),
        ("validation", {"label": None}, "label: None"),
        (
            "validation",
            {"label": tfds.features.Scalar(np.int64)},
            "label: Scalar",
        ),
        (
            "validation",
            {"image": tfds.features.Image(shape=(None, None, 1))},
            r"Image\(shape=\(None, None, 1\)",
        ),
        (
            "validation",
            {"image": tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)},
            "float32",
        ),
    ],
)
def test_other_data(split, changes, received, tmp_path):
    found = {"train": [*examples(3)], split: [*examples(3)]}
    image = changes.get("image")
    if image:
        shape = [side or 50 for side in image.shape]
        for one in [*found["train"], *found[split]]:
            one["image"] = np.zeros(shape, image.np_dtype)
    write_imagenet(tmp_path, found, **changes)
    with pytest.raises(RunError, match=f"Received: .*{received}"):
        opened(tmp_path)


def test_a_folder_that_tells_nothing(copied):
    next(copied.glob("imagenet2012/*/features.json")).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        opened(copied)
