"""Every family of keras.applications as a masked network."""

import keras
import numpy as np
import pytest
from backend import as_numpy, needs_tensorflow

import mpt_keras as mpt

pytestmark = [
    needs_tensorflow,
    pytest.mark.usefixtures("optimized_graphs"),
    # Keras counts how often networks are traced.
    pytest.mark.filterwarnings("ignore:.*retracing"),
]

# Family -> its smallest network, the smallest images, other arguments.
FAMILIES = {
    "mobilenet": ("MobileNet", 32, {"alpha": 0.25}),
    "mobilenet_v2": ("MobileNetV2", 32, {"alpha": 0.35}),
    "mobilenet_v3": ("MobileNetV3Small", 32, {"minimalistic": True}),
    "convnext": ("ConvNeXtTiny", 32, {}),
    "densenet": ("DenseNet121", 32, {}),
    "efficientnet": ("EfficientNetB0", 32, {}),
    "efficientnet_v2": ("EfficientNetV2B0", 32, {}),
    "inception_resnet_v2": ("InceptionResNetV2", 75, {}),
    "inception_v3": ("InceptionV3", 75, {}),
    "nasnet": ("NASNetMobile", 32, {}),
    "resnet": ("ResNet50", 32, {}),
    "resnet_v2": ("ResNet50V2", 32, {}),
    "vgg16": ("VGG16", 32, {}),
    "vgg19": ("VGG19", 32, {}),
    "xception": ("Xception", 71, {}),
}
_QUICK = ("mobilenet",)


@pytest.mark.parametrize(
    "family",
    [
        family
        if family in _QUICK
        else pytest.param(family, marks=pytest.mark.slow)
        for family in FAMILIES
    ],
)
def test_every_family(family, rng, tmp_path):
    name, size, options = FAMILIES[family]
    model = getattr(keras.applications, name)(
        input_shape=(size, size, 3), weights=None, classes=2, **options
    )
    x = rng.uniform(0, 255, (2, size, size, 3)).astype("float32")
    before = [weight.tobytes() for weight in model.get_weights()]

    kept = mpt.convert(model, kernel="keep")
    np.testing.assert_array_equal(
        kept.predict_on_batch(x), model.predict_on_batch(x)
    )
    del kept

    masked = mpt.convert(model, seed=0)
    assert before == [weight.tobytes() for weight in model.get_weights()]
    assert [layer.name for layer in masked.layers] == [
        layer.name for layer in model.layers
    ]
    reasons = {
        row.reason
        for row in mpt.conversion_report(masked).left_alone
        if row.weights
    }
    assert reasons <= {"no kernel"}
    masked.compile("sgd", "sparse_categorical_crossentropy")
    loss = masked.train_on_batch(x, np.array([0, 1]))
    assert np.isfinite(loss)
    # TensorFlow regroups the sums of shortcuts, in each graph in its own way.
    np.testing.assert_allclose(
        mpt.freeze(masked).predict_on_batch(x),
        masked.predict_on_batch(x),
        rtol=1e-4,
        atol=1e-5,
    )
    mpt.save_ticket(masked, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    for ours, theirs in zip(
        mpt.masked_layers(loaded), mpt.masked_layers(masked), strict=True
    ):
        for one, other in zip(
            ours.masked_kernels, theirs.masked_kernels, strict=True
        ):
            np.testing.assert_array_equal(
                one.effective_array(), other.effective_array()
            )
    others = [
        {w.path: as_numpy(w) for w in network.weights if "norm" in w.path}
        for network in (loaded, masked)
    ]
    for path, value in others[1].items():
        np.testing.assert_array_equal(others[0][path], value)
