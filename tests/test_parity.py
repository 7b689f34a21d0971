"""The authors' own numbers, through the public layers.

They were computed with the authors' PyTorch code. What must match, and how
closely, is what `tests/data/parity/README.md` states.
"""

import functools
import pathlib

import keras
import numpy as np
import pytest
from backend import as_numpy, value_and_gradients
from keras import ops

import mpt_keras as mpt

pytestmark = pytest.mark.usefixtures("optimized_graphs")

PARITY = pathlib.Path(__file__).parent / "data/parity"
MEAN = np.array([0.491, 0.482, 0.447], "float32")
STD = np.array([0.247, 0.243, 0.262], "float32")


def fixture_of(name):
    return np.load(PARITY / f"{name}.npz")


def convolution(weights, scores, **options):
    """A masked convolution holding given weights and scores."""
    layer = mpt.MPTConv2D(
        weights.shape[-1],
        weights.shape[:2],
        kernel_initializer=lambda shape, dtype: ops.convert_to_tensor(weights),
        scores_initializer=lambda shape, dtype: ops.convert_to_tensor(scores),
        **options,
    )
    return layer


def output_and_gradients(function, x, upstream, variables=()):
    """What a function gives; its gradients by its input and variables."""
    images = keras.Variable(x)
    output, gradients = value_and_gradients(
        lambda: function(ops.copy(images)), [images, *variables], upstream
    )
    return [output, *gradients]


def test_ops():
    data = fixture_of("ops")
    for i in range(int(data["cases"])):
        scores, weights, upstream, quantnet, gradient = (
            data[f"{i}/{name}"]
            for name in (
                *("scores", "weights", "upstream"),
                *("quantnet", "scores_grad"),
            )
        )
        layer = convolution(
            weights, scores, sparsity=float(data[f"{i}/sparsity"])
        )
        layer.build((None, 8, 8, weights.shape[2]))
        # Their function ends before the sign of the weights comes in.
        output = as_numpy(layer.effective_kernel()) * np.sign(weights)
        np.testing.assert_allclose(output, quantnet, rtol=0, atol=1e-6)
        _, (ours,) = value_and_gradients(
            layer.effective_kernel, [layer.scores], np.sign(weights) * upstream
        )
        np.testing.assert_allclose(ours, gradient, rtol=0, atol=1e-6)


def test_layers():
    data = fixture_of("layers")
    for i in range(int(data["cases"])):
        x, y, upstream, x_gradient, scores, weights, gradient = (
            data[f"{i}/{name}"]
            for name in (
                *("x", "y", "upstream", "x_grad"),
                *("scores", "weights", "scores_grad"),
            )
        )
        _, stride, pad, dilation, groups = (int(v) for v in data[f"{i}/config"])
        layer = convolution(
            weights,
            scores,
            sparsity=float(data[f"{i}/sparsity"]),
            strides=stride,
            dilation_rate=dilation,
            groups=groups,
        )
        model = keras.Sequential(
            [
                keras.Input(x.shape[1:]),
                keras.layers.ZeroPadding2D(pad),
                layer,
            ]
        )
        found = output_and_gradients(model, x, upstream, [layer.scores])
        for ours, theirs in zip(found, [y, x_gradient, gradient], strict=True):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(
                ours, theirs, rtol=1e-4, atol=1e-5 * scale
            )


def test_binary_activation():
    data = fixture_of("binact")
    y, x_gradient = output_and_gradients(
        mpt.quantizers.ApproxSign(), data["x"], data["upstream"]
    )
    np.testing.assert_array_equal(y, data["y"])
    np.testing.assert_allclose(x_gradient, data["x_grad"], rtol=0, atol=1e-6)


class Trajectory:
    """The authors' small network and its training, from a fixture."""

    def __init__(self, name):
        self.data = fixture_of(name)
        self.binary = bool(self.data["binary"])
        self.decay = keras.regularizers.L2(float(self.data["weight_decay"]) / 2)
        self.convolutions = [self._convolution(i) for i in range(4)]
        self.batch_norms = [self._batch_norm() for _ in range(3)]
        self.model = keras.Sequential(
            [keras.Input((32, 32, 3)), *self._layers()]
        )
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        images = self.data["images"].astype("float32") / 255
        self.images = (images - MEAN) / STD
        self.labels = self.data["labels"].astype("int32")

    def _convolution(self, i):
        return convolution(
            self.data[f"conv{i}/weights"],
            self.data[f"conv{i}/scores_init"],
            sparsity=float(self.data["sparsity"]),
            padding="same",
            scores_regularizer=self.decay,
        )

    def _batch_norm(self):
        affine = bool(self.data["affine"])
        return keras.layers.BatchNormalization(
            epsilon=1e-5,
            momentum=0.9,
            center=affine,
            scale=affine,
            gamma_regularizer=self.decay,
            beta_regularizer=self.decay,
        )

    def _layers(self):
        """Flattened in channel, height, width order before the last."""
        conv, norm = self.convolutions, self.batch_norms
        tail = [
            keras.layers.AveragePooling2D(4),
            keras.layers.Permute((3, 1, 2)),
            keras.layers.Reshape((1, 1, -1)),
            conv[3],
            keras.layers.Flatten(),
        ]
        if self.binary:
            sign = mpt.quantizers.ApproxSign
            pool = functools.partial(keras.layers.AveragePooling2D, 2)
            return [
                *(conv[0], norm[0], sign()),
                *(conv[1], pool(), norm[1], sign()),
                *(conv[2], pool(), norm[2], sign()),
                *tail,
            ]
        relu, pool = keras.layers.ReLU, keras.layers.MaxPooling2D
        return [
            *(conv[0], relu(), conv[1], relu(), pool()),
            *(conv[2], relu(), pool()),
            *tail,
        ]

    def first_gradients(self):
        """Of the cross-entropy alone, at the first batch, by variable path."""
        variables = self.model.trainable_variables
        _, gradients = value_and_gradients(
            lambda: self.loss(
                self.labels[0], self.model(self.images[0], training=True)
            ),
            variables,
        )
        return {
            variable.path: gradient
            for variable, gradient in zip(variables, gradients, strict=True)
        }

    def fit(self, callbacks=()):
        """Trains batch by batch; returns the cross-entropies."""
        self.model.compile(
            keras.optimizers.SGD(float(self.data["lr"]), momentum=0.9),
            self.loss,
            metrics=[
                keras.metrics.SparseCategoricalCrossentropy(from_logits=True)
            ],
        )
        losses = []
        for images, labels in zip(self.images, self.labels, strict=True):
            history = self.model.fit(
                images,
                labels,
                batch_size=len(labels),
                callbacks=list(callbacks),
                verbose=0,
            ).history
            losses.append(history["sparse_categorical_crossentropy"][0])
        return losses

    def check_first_gradients(self, rtol):
        gradients = self.first_gradients()
        expected = {
            conv.scores.path: self.data[f"conv{i}/scores_grad_step0"]
            for i, conv in enumerate(self.convolutions)
        }
        if self.data["affine"]:
            for j, norm in enumerate(self.batch_norms):
                expected[norm.gamma.path] = self.data[f"bn{j}/gamma_grad_step0"]
                expected[norm.beta.path] = self.data[f"bn{j}/beta_grad_step0"]
        assert gradients.keys() == expected.keys()
        for path, theirs in expected.items():
            np.testing.assert_allclose(
                gradients[path],
                theirs,
                rtol=rtol,
                atol=rtol * np.abs(theirs).max(),
                err_msg=path,
            )

    def check_end(self, losses, tolerance):
        np.testing.assert_allclose(losses, self.data["losses"], atol=tolerance)
        for i, conv in enumerate(self.convolutions):
            np.testing.assert_allclose(
                as_numpy(conv.scores),
                self.data[f"conv{i}/scores_final"],
                atol=1e-3,
            )
        np.testing.assert_allclose(
            self.model.predict_on_batch(self.images[0]),
            self.data["final_logits_batch0"],
            atol=1e-3,
        )


def test_trajectory_binary_weights():
    trajectory = Trajectory("trajectory_mpt_1_32")
    trajectory.check_first_gradients(rtol=1e-3)
    trajectory.check_end(trajectory.fit(), tolerance=1e-4)


def test_trajectory_global_sparsity():
    trajectory = Trajectory("trajectory_global")
    callback = mpt.callbacks.GlobalSparsity(float(trajectory.data["sparsity"]))
    losses = trajectory.fit([callback])
    trajectory.check_end(losses, tolerance=1e-4)
    total = sum(
        int(np.sum(as_numpy(conv.mask()))) for conv in trajectory.convolutions
    )
    size = sum(conv.masked_kernels[0].size for conv in trajectory.convolutions)
    assert total == size * (1 - 0.625)


def test_trajectory_binary_activations():
    """One step: Keras' Adam adds epsilon elsewhere than PyTorch's."""
    trajectory = Trajectory("trajectory_mpt_1_1")
    logits = trajectory.model(trajectory.images[0], training=True)
    loss = trajectory.loss(trajectory.labels[0], logits)
    np.testing.assert_allclose(
        as_numpy(loss), trajectory.data["losses"][0], rtol=1e-3
    )
    Trajectory("trajectory_mpt_1_1").check_first_gradients(rtol=1e-3)


def test_trajectory_binary_activations_and_trained_batch_norm():
    trajectory = Trajectory("trajectory_mpt_1_1_bn")
    Trajectory("trajectory_mpt_1_1_bn").check_first_gradients(rtol=1e-3)
    trajectory.check_end(trajectory.fit(), tolerance=1e-3)
    for j, norm in enumerate(trajectory.batch_norms):
        for name in ("moving_mean", "gamma", "beta"):
            np.testing.assert_allclose(
                as_numpy(getattr(norm, name)),
                trajectory.data[f"bn{j}/{name}"],
                atol=1e-3,
            )
