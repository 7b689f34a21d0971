"""The loss of distilled tickets against its formula in NumPy."""

import subprocess
import sys

import backend
import keras
import numpy as np
import pytest

from mpt_keras import lottery

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CLASSES = 4


def network(seed, classes=CLASSES, inputs=6, **options):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(
                classes,
                kernel_initializer=keras.initializers.RandomNormal(
                    stddev=2.0, seed=seed
                ),
                **options,
            ),
        ],
        name=f"network{seed}",
    )


def data(rng):
    images = rng.normal(size=(12, 6)).astype("float32")
    return images, (np.arange(12) % CLASSES).astype("int32")


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def by_the_formula(teacher, student, labels, temperature, alpha, reduction):
    teacher, student = teacher.astype("float64"), student.astype("float64")
    entropy = -log_softmax(student)[np.arange(len(labels)), labels].mean()
    soft = log_softmax(teacher / temperature)
    divergence = np.exp(soft) * (soft - log_softmax(student / temperature))
    divergence = divergence.sum(axis=-1).mean()
    if reduction == "mean":
        divergence /= teacher.shape[-1]
    return (1 - alpha) * entropy + alpha * temperature**2 * divergence


@pytest.mark.parametrize("reduction", lottery.REDUCTIONS)
@pytest.mark.parametrize(
    ("temperature", "alpha"), [(5.0, 0.9), (2, 0.3), (4.0, 1.0)]
)
def test_the_loss_is_the_formulas(temperature, alpha, reduction, rng):
    teacher, student = network(1), network(2)
    images, labels = data(rng)
    expected = by_the_formula(
        teacher.predict_on_batch(images),
        student.predict_on_batch(images),
        *(labels, temperature, alpha, reduction),
    )
    model = lottery.distiller(teacher, student, temperature, alpha, reduction)
    model.compile(keras.optimizers.SGD(0.0), LOSS, metrics=["accuracy"])
    found = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    guesses = student.predict_on_batch(images).argmax(axis=-1)
    assert found["accuracy"] == pytest.approx((guesses == labels).mean())


def test_alpha_0_is_ordinary_training_to_the_bit(rng):
    images, labels = data(rng)
    plain, student = network(2), network(2)
    plain.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
    model = lottery.distiller(network(1), student, alpha=0)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
    for trained in (plain, model):
        trained.fit(images, labels, shuffle=False, epochs=3, verbose=0)
    for a, b in zip(plain.weights, student.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_regularization_counts(rng):
    images, labels = data(rng)
    decay = keras.regularizers.L2(0.1)
    losses = []
    for options in ({}, {"kernel_regularizer": decay}):
        student = network(2, **options)
        model = lottery.distiller(network(1), student)
        model.compile("sgd", LOSS)
        found = model.evaluate(images, labels, verbose=0, return_dict=True)
        losses.append(found["loss"])
    kernel = np.asarray(keras.ops.convert_to_numpy(student.weights[0]))
    expected = 0.1 * (kernel.astype("float64") ** 2).sum()
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4)


def test_the_student_learns_the_teacher_under_its_mask(rng):
    images, labels = data(rng)
    teacher, student = network(1), network(2)
    before = teacher.get_weights()
    masks = lottery.magnitude_masks(lottery.kernel_values(student), 0.5)
    lottery.apply_masks(student, masks)
    model = lottery.distiller(teacher, student, alpha=1.0)
    model.compile(keras.optimizers.Adam(0.05), LOSS)
    history = model.fit(images, labels, epochs=30, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    for a, b in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    (kernel,) = lottery.kernel_values(student).values()
    (mask,) = masks.values()
    assert (kernel[~mask] == 0).all()
    assert (kernel[mask] != 0).all()


def test_the_teacher_runs_in_inference_mode(rng):
    images, labels = data(rng)
    teacher = keras.Sequential(
        [keras.Input((6,)), keras.layers.BatchNormalization(), network(1)]
    )
    statistics = teacher.layers[0].get_weights()
    model = lottery.distiller(teacher, network(2))
    model.compile("sgd", LOSS)
    model.fit(images + 5, labels, verbose=0)
    for a, b in zip(teacher.layers[0].get_weights(), statistics, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_can_be_saved(tmp_path, rng):
    images, labels = data(rng)
    model = lottery.distiller(network(1), network(2))
    model.compile("sgd", LOSS)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.compile("sgd", LOSS)
    assert loaded.evaluate(images, labels, verbose=0) == pytest.approx(
        model.evaluate(images, labels, verbose=0), rel=1e-6
    )


class Subclassed(keras.Model):
    """`network`, whose shapes Keras does not know."""

    def __init__(self, seed, classes=CLASSES):
        super().__init__()
        self.inside = network(seed, classes)

    def call(self, inputs):
        return self.inside(inputs)


def subclassed(seed, classes=CLASSES):
    model = Subclassed(seed, classes)
    model(np.ones((2, 6), "float32"))
    return model


@pytest.mark.parametrize("reduction", lottery.REDUCTIONS)
@pytest.mark.parametrize(
    "build", [(subclassed, network), (network, subclassed)]
)
def test_subclassed_models(build, reduction, rng):
    images, labels = data(rng)
    expected, found = (
        lottery.distiller(*models, kl_reduction=reduction)
        for models in (
            (network(1), network(2)),
            (build[0](1), build[1](2)),
        )
    )
    for model in (expected, found):
        model.compile(keras.optimizers.SGD(0.1), LOSS)
        model.fit(images, labels, shuffle=False, verbose=0)
    assert found.evaluate(images, labels, verbose=0) == pytest.approx(
        expected.evaluate(images, labels, verbose=0), rel=1e-6
    )


def test_subclassed_models_of_other_outputs(rng):
    model = lottery.distiller(subclassed(1, classes=5), subclassed(2))
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match=r"must give as many logits.*5.*4"):
        model.fit(*data(rng), verbose=0)


ON_TWO_REPLICAS = """
import sys

import keras
import numpy as np
import tensorflow as tf

from mpt_keras import lottery

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
kernels = []
for strategy in (
    tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    tf.distribute.get_strategy(),
):
    with strategy.scope():
        teacher, student = (
            keras.Sequential(
                [
                    keras.Input((6,)),
                    keras.layers.Dense(
                        4,
                        kernel_initializer="ones",
                        kernel_regularizer=keras.regularizers.L2(0.1),
                    ),
                ]
            )
            for _ in range(2)
        )
        model = lottery.distiller(teacher, student)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5), loss)
    images = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    model.fit(images, np.arange(8) % 4, batch_size=8, verbose=0)
    kernels.append(student.get_weights()[0])
np.save(sys.argv[1], kernels)
"""


@pytest.mark.distributed
@backend.needs_tensorflow
def test_regularization_counts_once_on_two_replicas(tmp_path):
    path = tmp_path / "kernels.npy"
    subprocess.run([sys.executable, "-c", ON_TWO_REPLICAS, path], check=True)
    on_two, on_one = np.load(path)
    np.testing.assert_allclose(on_two, on_one, rtol=1e-5)
    assert not np.allclose(on_one, 1.0, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "a positive number.*temperature=0"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"alpha": 1.1}, r"in \[0, 1\].*alpha=1.1"),
        ({"alpha": -0.1}, "alpha=-0.1"),
        ({"kl_reduction": "sum"}, "kl_reduction='sum'"),
        ({"teacher": network(1, classes=5)}, r"as many logits.*\(None, 5\)"),
        ({"teacher": network(1, inputs=7)}, r"the same inputs.*\(None, 7\)"),
        ({"student": keras.layers.Dense(4)}, "built Keras model as student"),
        (
            {"student": keras.Sequential([keras.layers.Dense(4)])},
            "built Keras model as student",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"teacher": network(1), "student": network(2)} | arguments
    with pytest.raises(ValueError, match=message):
        lottery.distiller(**arguments)
