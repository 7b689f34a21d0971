"""Images streamed from disk, and ImageNet's recipe on a tiny copy of it."""

import csv
import io
import itertools
import json
import shutil
import subprocess
import sys

import backend
import keras
import numpy as np
import programs
import pytest

import mpt_keras as mpt

pillow = pytest.importorskip("PIL.Image")
tfds = pytest.importorskip("tensorflow_datasets")
tf = backend.tf
pytestmark = backend.needs_tensorflow

TRAIN, TEST, SIZE = 120, 21, 32
SMALL = (f"--image_size={SIZE}", "--width=0.05", "--batch_size=16")
LONG = (*SMALL, "--epochs=3", "--drop_remainder", "--model=conv4")


def encoded(image, kind):
    file = io.BytesIO()
    pillow.fromarray(image).save(file, format=kind)
    file.seek(0)
    return file


def examples(count, label=None):
    """Smooth images of many sizes; every tenth is a PNG."""
    rng = np.random.default_rng(count)
    for key in range(count):
        height, width = rng.integers(40, 91, 2)
        pixels = rng.integers(0, 256, (5, 6, 3)).astype("uint8")
        image = pillow.fromarray(pixels).resize((width, height), 3)
        kind = "png" if key % 10 == 9 else "jpeg"
        yield {
            "image": encoded(np.asarray(image), kind),
            "label": int(rng.integers(10)) if label is None else label,
            "file_name": f"{key}.JPEG",
        }


def write(folder, splits, **changes):
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=10),
        "file_name": tfds.features.Text(),
    }
    features |= changes
    features = {name: kind for name, kind in features.items() if kind}
    splits = {
        split: [
            (key, {name: example[name] for name in features})
            for key, example in enumerate(found)
        ]
        for split, found in splits.items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="imagenet2012",
        version="5.1.0",
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_datasets=splits,
        disable_shuffling=True,
        download_config=tfds.download.DownloadConfig(num_shards=3),
    )
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write(
        tmp_path_factory.mktemp("tfds"),
        {"train": examples(TRAIN), "validation": examples(TEST)},
    )


@pytest.fixture
def streamed(example):
    return example("streamed_images")


@pytest.fixture
def opened(streamed, example):
    """Opens a folder as the example does."""

    def open_it(folder):
        prepared = example("prepared")
        builder = prepared.find("imagenet2012", folder, download=False)
        prepared.check(builder, ["train", "validation"], (None, None, 3))
        mean, std = (0.0,) * 3, (1.0,) * 3
        data = streamed.StreamedImages(builder, SIZE, mean, std)
        data.check()
        return data

    return open_it


@pytest.fixture
def data(opened, data_dir):
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


def test_parts_make_up_the_whole(data, example):
    plan = example("streamed_images").StreamedBatches
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
def test_windows(height, width, streamed, rng):
    draws = rng.uniform(size=(500, 23)).astype("float32")
    found = tf.map_fn(
        lambda row: streamed.random_window(height, width, row),
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


# --- Runs -----------------------------------------------------------------


def words(data_dir, folder, *others):
    return (f"--data_dir={data_dir}", f"--output_dir={folder}", *others)


def run(data_dir, folder, *others):
    arguments = words(data_dir, folder, *others)
    programs.succeed("examples/imagenet_biprop.py", *arguments)
    return folder


def fail(*arguments):
    return programs.fail("examples/imagenet_biprop.py", *words(*arguments))


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole_run(data_dir, tmp_path_factory):
    return run(data_dir, tmp_path_factory.mktemp("whole") / "run", *LONG)


def test_a_run_leaves_everything_a_user_needs(whole_run, data):
    result = json.loads((whole_run / "result.json").read_text())
    assert result["data"] == "imagenet2012"
    assert result["weights_kept"] * 2 == pytest.approx(result["weights"], abs=9)
    recipe = result["recipe"]
    assert (recipe["optimizer"], recipe["momentum"]) == ("sgd", 0.875)
    assert (recipe["warmup_epochs"], recipe["label_smoothing"]) == (5, 0.1)
    rates = [float(row["learning_rate"]) for row in history(whole_run)]
    assert rates == pytest.approx([0.256 * epoch / 5 for epoch in (1, 2, 3)])
    model = keras.models.load_model(whole_run / "last.keras")
    images, labels = (part.numpy() for part in next(iter(data.test_data(TEST))))
    logits = model.predict(images, verbose=0)
    served = tf.saved_model.load(str(whole_run / "saved_model")).signatures
    (served,) = served["serving_default"](tf.constant(images)).values()
    np.testing.assert_allclose(served, logits, rtol=1e-5, atol=1e-5)
    wanted = 0.9 * np.eye(10)[labels] + 0.01
    losses = -(wanted * tf.nn.log_softmax(logits)).numpy().sum(-1)
    penalty = sum(map(float, model.losses))
    assert penalty > 0
    assert result["test_loss"] == pytest.approx(losses.mean() + penalty, 1e-5)
    right = logits.argmax(-1) == labels
    assert result["test_accuracy"] == pytest.approx(right.mean())


@pytest.fixture(scope="module")
def stopped_run(data_dir, tmp_path_factory):
    """The folder of a run that was stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"

    back_up = mpt.callbacks.AtomicBackup.on_epoch_end

    def stop(self, epoch, logs=None):
        back_up(self, epoch, logs)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpt.callbacks.AtomicBackup, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(data_dir, folder, *LONG)
    assert (folder / "backup").exists()
    assert not (folder / "result.json").exists()
    return folder


def test_a_stopped_run_resumes_as_if_nothing_had_happened(
    whole_run, stopped_run, data_dir, tmp_path
):
    folder = shutil.copytree(stopped_run, tmp_path / "run")
    run(data_dir, folder, *LONG, "--resume")
    found, expected = (
        keras.models.load_model(path / "last.keras")
        for path in (folder, whole_run)
    )
    for one, other in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one, other, one.path)
    for one, other in zip(history(folder), history(whole_run), strict=True):
        assert {**one, "seconds": None} == {**other, "seconds": None}


@pytest.mark.distributed
def test_two_devices_train_on_the_same_batches(whole_run, data_dir, tmp_path):
    # A process becomes several devices only before it has computed.
    folder = tmp_path / "run"
    options = (*LONG, "--epochs=1", "--distribute=mirrored", "--cpu_devices=2")
    program = programs.ROOT / "examples" / "imagenet_biprop.py"
    subprocess.run(
        [sys.executable, program, *words(data_dir, folder, *options)],
        check=True,
        capture_output=True,
    )
    (row,) = history(folder)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        expected = float(history(whole_run)[0][name])
        assert float(row[name]) == pytest.approx(expected, abs=1e-4), name


# --- Bad input ------------------------------------------------------------


def damage(folder, how):
    """Changes the next to last record of the training split's last file."""
    *_, file = sorted(folder.glob("imagenet2012/*/*train*"))
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    example = tf.train.Example.FromString(records[-2])
    features = example.features.feature
    if how == "image":
        images = features["image"].bytes_list
        images.value[0] = images.value[0][:100]
    if how == "label":
        features["label"].int64_list.value[0] = 10
    records[-2:-1] = [example.SerializeToString()] if how != "missing" else []
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    if how == "bytes":
        file.write_bytes(file.read_bytes()[:-20])


@pytest.fixture
def copied(data_dir, tmp_path):
    return shutil.copytree(data_dir, tmp_path / "tfds")


def test_damage_in_the_middle_of_training(stopped_run, copied, tmp_path):
    damage(copied, "image")
    folder = shutil.copytree(stopped_run, tmp_path / "run")
    message = fail(copied, folder, *LONG, "--resume")
    assert "imagenet_biprop.py: Cannot read the images of" in message
    assert " epochs are whole in" in message
    assert "0 epochs" not in message
    assert keras.models.load_model(folder / "last.keras")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("image", "Invalid JPEG data"),
        ("label", r"\[There is an image of class\] \[10\]\."),
        ("bytes", "truncated record"),
        ("missing", "contained only 119 elements"),
    ],
)
def test_damage_that_an_epoch_meets(how, reason, opened, copied):
    damage(copied, how)
    data = opened(copied)
    batches = data.batches(TRAIN, 0, True, False)
    with pytest.raises(OSError, match=reason), data.reading():
        next(iter(batches.from_epoch(0)))


def test_errors_that_are_not_the_images(data):
    with pytest.raises(tf.errors.InvalidArgumentError), data.reading():
        tf.reshape(tf.zeros(3), (2, 2))


def test_a_missing_file(run_error, opened, copied):
    next(copied.glob("imagenet2012/*/*validation*")).unlink()
    with pytest.raises(run_error, match="which holds validation images"):
        opened(copied)


def test_labels_of_no_class(run_error, opened, tmp_path):
    write(tmp_path, {"train": examples(3), "validation": examples(3, -1)})
    with pytest.raises(run_error, match=r"an image of class\] \[-1\]"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("split", "changes", "received"),
    [
        ("test", {}, r"\{'train': 3, 'test': 3\}"),
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
def test_other_data(split, changes, received, run_error, opened, tmp_path):
    found = {"train": [*examples(3)], split: [*examples(3)]}
    image = changes.get("image")
    if image:
        shape = [side or 50 for side in image.shape]
        for one in [*found["train"], *found[split]]:
            one["image"] = np.zeros(shape, image.np_dtype)
    write(tmp_path, found, **changes)
    with pytest.raises(run_error, match=f"Received: .*{received}"):
        opened(tmp_path)


def test_a_folder_that_tells_nothing(run_error, opened, copied):
    next(copied.glob("imagenet2012/*/features.json")).unlink()
    with pytest.raises(run_error, match="cannot be read"):
        opened(copied)


def test_names_of_no_dataset(run_error, example, tmp_path):
    with pytest.raises(run_error, match="No dataset 'no_such_images'"):
        example("prepared").find("no_such_images", tmp_path, download=True)


def test_images_that_nobody_can_fetch(tmp_path):
    """In one line, and before anything is written."""
    message = fail(tmp_path, tmp_path / "run", "--download")
    assert "Could not download imagenet2012" in message
    manual = tmp_path / "downloads" / "manual"
    assert f"Manual directory {manual} does not exist" in message
    assert "ILSVRC2012_img_train.tar" in message
    assert message.endswith("put them there by hand.")
    assert not (tmp_path / "run").exists()
