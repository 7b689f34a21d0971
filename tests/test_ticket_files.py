"""Files that are no tickets, whatever they hold: `TicketError`, no harm."""

import hashlib
import json
import struct
import zlib

import keras
import numpy as np
import pytest
import safetensors.numpy
from backend import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import mpt_keras as mpt
from mpt_keras import ticket
from mpt_keras.ticket import container


def network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            mpt.MPTConv2D(4, 3, sparsity=0.6),
            layers.BatchNormalization(),
            layers.Flatten(),
            mpt.MPTDense(3, kernel_initializer="glorot_uniform"),
        ],
        name="victim",
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.ticket"
    keras.utils.set_random_seed(0)
    mpt.save_ticket(network(), path)
    return path.read_bytes()


@pytest.fixture
def load(tmp_path):
    def load(data, **options):
        path = tmp_path / "hostile.ticket"
        path.write_bytes(data)
        return mpt.load_ticket(path, **options)

    return load


def read(data, tmp_path):
    path = tmp_path / "hostile.ticket"
    path.write_bytes(data)
    return ticket.read_ticket(path)


def forged(data, change, arrays=None):
    """A file whose checksums fit, with another description or arrays."""
    contents = container.Contents(data)
    description = json.loads(contents.description())
    own = dict(contents.arrays)
    description = change(description) or description
    return container.pack(description, own | (arrays or {}))


def test_truncated_anywhere(whole, tmp_path):
    for size in range(len(whole)):
        with pytest.raises(mpt.TicketError):
            read(whole[:size], tmp_path)
    with pytest.raises(mpt.TicketError):
        read(whole + b"\0", tmp_path)


def test_every_bit_of_the_header_and_thousands_elsewhere(whole, tmp_path):
    (header,) = struct.unpack_from("<Q", whole)
    bits = [*range(8 * (8 + header))]
    others = range(8 * (8 + header), 8 * len(whole))
    draw = np.random.default_rng(0)
    bits += draw.choice(others, min(4000, len(others)), replace=False).tolist()
    for bit in bits:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(mpt.TicketError):
            read(bytes(data), tmp_path)


@settings(max_examples=examples(200), deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes(data, tmp_path_factory):
    with pytest.raises(mpt.TicketError):
        read(data, tmp_path_factory.getbasetemp())


def test_headers_of_gigabytes(load):
    for announced in (2**63, 2**40, 2**24 + 1, 0):
        with pytest.raises(mpt.TicketError, match="Announced"):
            load(struct.pack("<Q", announced) + b"{}" * 50)


def test_other_safetensors_files_and_other_versions(whole, load):
    other = safetensors.numpy.save({"a": np.zeros(3, "float32")})
    with pytest.raises(mpt.TicketError, match="names no checksum"):
        load(other)
    arrays = {"sha256": np.zeros(32, "uint8")}
    with pytest.raises(mpt.TicketError, match="no ticket"):
        load(safetensors.numpy.save(arrays, {"mpt_keras_ticket": "{"}))
    about = json.dumps({"version": 3, "description_bytes": 3})
    with pytest.raises(mpt.TicketError, match="version 3"):
        load(safetensors.numpy.save(arrays, {"mpt_keras_ticket": about}))


def test_a_checksum_that_does_not_fit(whole, load):
    contents = container.Contents(whole)
    place = whole.index(bytes.fromhex(contents.checksum))
    data = whole[:place] + bytes(32) + whole[place + 32 :]
    with pytest.raises(mpt.TicketError, match="checksum"):
        load(data)


def test_a_description_that_inflates_to_gigabytes(whole, load):
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = deflate.compress(b" " * 2**26) + deflate.flush()
    about = {"version": 1, "description_bytes": 100}
    data = safetensors.numpy.save(
        {
            "description": np.frombuffer(bomb, "uint8"),
            "sha256": np.zeros(32, "uint8"),
        },
        {"mpt_keras_ticket": json.dumps(about)},
    )
    _, place = container._header_and_place(data)
    digest = hashlib.sha256(data).digest()
    data = data[: place.start] + digest + data[place.stop :]
    with pytest.raises(mpt.TicketError, match="expected 100 bytes"):
        load(data)


def record(description, **changes):
    description["kernels"][0] |= changes


KERNELS = {
    "a shape that overflows": {"shape": [2**40, 2**40]},
    "a shape of gigabytes": {"shape": [2**31]},
    "a negative shape": {"shape": [-3, 3, 2, 4]},
    "a shape of text": {"shape": "many"},
    "another shape": {"shape": [3, 3, 4, 2]},
    "more kept than there are": {"kept": 10**9},
    "fewer kept": {"kept": 3},
    "an unknown kernel": {"kernel": "code"},
    "an unknown distribution": {
        "draw": {
            "distribution": "os.system",
            "seed": 0,
            "stream": 0,
            "fan_in": 1.0,
            "slope": 0.0,
        }
    },
    "an endless seed": {
        "draw": {
            "distribution": "kaiming_normal",
            "seed": 2**80,
            "stream": 0,
            "fan_in": 1.0,
            "slope": 0.0,
        }
    },
    "no fan": {
        "draw": {
            "distribution": "kaiming_normal",
            "seed": 0,
            "stream": 0,
            "fan_in": 0.0,
            "slope": 0.0,
        }
    },
    "another seed": {
        "draw": {
            "distribution": "kaiming_normal",
            "seed": 1,
            "stream": 0,
            "fan_in": 18.0,
            "slope": 0.0,
        }
    },
    "values that are missing": {"kernel": "values"},
    "signs that are missing": {
        "kernel": "signs",
        "magnitude": 1.0,
        "sign_ones": 3,
    },
    "another place": {"place": 1},
    "a place that is none": {"place": 7},
    "a gain of text": {"gain": "large"},
    "a name that is none": {"name": None},
    "a type that is none": {"dtype": "float8"},
    "more dimensions than there are": {"shape": [2**62] * 200_000},
    "no weight kept": {"kept": 0},
    "binary where its layer is not": {"binarize": False},
    "another gain": {"gain": 1e5},
    "an endless name": {"name": "a" * 10**6},
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_that_cannot_be(name, whole, load):
    data = forged(whole, lambda found: record(found, **KERNELS[name]))
    with pytest.raises(mpt.TicketError):
        load(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("config"),
        lambda found: found.update(config=3),
        lambda found: found.update(kernels=[]),
        lambda found: found.update(kernels=None),
        lambda found: found.update(kernels=[1, 2]),
        lambda found: found.update(weights={}),
        lambda found: found["weights"].append("more"),
        lambda found: found["weights"].pop(),
        lambda found: found["kernels"].append(found["kernels"][0]),
        lambda found: found["kernels"].pop(),
        lambda found: found.update(rebuilt="0" * 64),
        lambda found: found.update(config={"class_name": "Sequential"}),
        lambda found: found.update(weights=[["bias"]]),
        lambda found: found.update(weights=[{}]),
        lambda found: found.update(weights=[None, 3]),
        lambda found: found.update(trainable="01"),
        lambda found: found.update(trainable=7),
    ],
)
def test_descriptions_that_cannot_be(change, whole, load):
    def changed(found):
        change(found)

    with pytest.raises(mpt.TicketError):
        load(forged(whole, changed))


def test_descriptions_that_are_too_deep(whole, load):
    deep = json.loads("[" * 900 + "]" * 900)

    def changed(found):
        found["config"]["config"]["layers"].append({"config": deep})

    with pytest.raises(mpt.TicketError):
        load(forged(whole, changed))


def test_too_many_weights_are_refused_before_they_are_made(whole, load):
    with pytest.raises(mpt.TicketError, match="announces 264 weights"):
        load(whole, max_weights=263)
    assert load(whole, max_weights=264)


def layer_of(found, number):
    return found["config"]["config"]["layers"][number]


def test_a_network_of_other_sizes_is_not_made(whole, load):
    def larger(found):
        layer_of(found, -1)["config"]["units"] = 10**12

    with pytest.raises(mpt.TicketError, match="kernel"):
        load(forged(whole, larger))

    def embedding(found):
        found["config"]["config"]["layers"].append(
            keras.saving.serialize_keras_object(
                layers.Dense(10**10, name="large")
            )
        )

    with pytest.raises(mpt.TicketError, match="large"):
        load(forged(whole, embedding))


def test_headers_that_place_nothing(whole, load):
    (size,) = struct.unpack_from("<Q", whole)
    header = json.loads(whole[8 : 8 + size])
    for place in ([0.0, 32.0], ["a", "b"], [0], None, [-8, 24], [0, 2**70]):
        header["sha256"]["data_offsets"] = place
        text = json.dumps(header).encode()
        with pytest.raises(mpt.TicketError):
            load(struct.pack("<Q", len(text)) + text + whole[8 + size :])


def test_arrays_of_more_dimensions_than_numpy_has(whole, load):
    arrays = {"weights/x": np.zeros((1,) * 32, "float32")}
    data = forged(whole, lambda found: None, arrays)
    data = data.replace(b"[" + b"1," * 31 + b"1]", b"[" + b"1," * 40 + b"1]")
    with pytest.raises(mpt.TicketError):
        load(data)


def test_descriptions_of_many_small_things(whole, load, monkeypatch):
    def changed(found):
        found["more"] = [{}] * 2**21

    with pytest.raises(ValueError, match="Expected at most 4194304"):
        forged(whole, changed)
    monkeypatch.setattr(container, "MAX_DESCRIPTION_BYTES", 2**26)
    data = forged(whole, changed)
    monkeypatch.undo()
    with pytest.raises(mpt.TicketError, match="at most 4194304"):
        load(data)


def constant(shape=(2, 3)):
    return {
        "class_name": "__tensor__",
        "config": {"value": np.zeros(shape).tolist(), "dtype": "float32"},
    }


def functional(layer, arguments):
    """A functional model with a layer called on something."""
    inputs = keras.Input((3,), name="in")
    model = keras.Model(inputs, layer(inputs))
    config = json.loads(
        json.dumps(keras.saving.serialize_keras_object(model), default=str)
    )
    config["config"]["layers"][1]["inbound_nodes"] = [
        {"args": arguments, "kwargs": {}}
    ]
    return config


@pytest.mark.parametrize("arguments", [[constant()], [], [3.0], [[constant()]]])
def test_networks_that_compute_with_constants_alone(arguments, whole, load):
    config = functional(layers.Dense(10**3, name="large"), arguments)
    with pytest.raises(mpt.TicketError, match="constants alone"):
        load(forged(whole, lambda found: found.update(config=config)))


@pytest.mark.parametrize("key", ["batch_shape", "shape"])
def test_inputs_of_gigabytes(key, whole, load):
    def changed(found):
        (inputs, *_) = found["config"]["config"]["layers"]
        inputs["config"][key] = [None, 10**9]
        found["config"]["config"]["layers"].insert(
            1,
            keras_layer("Normalization", mean=0.0, variance=1.0, axis=-1),
        )

    with pytest.raises(mpt.TicketError, match="inputs of the shape"):
        load(forged(whole, changed))


@pytest.mark.parametrize(
    "key", ["kernel_initializer", "scores_initializer", "activation", "more"]
)
@pytest.mark.parametrize("name", ["hostile>runs", "hostile>Runs"])
def test_names_of_registered_objects_are_no_strings(key, name, whole, load):
    RAN.clear()

    def changed(found):
        layer_of(found, -1)["config"][key] = name

    with pytest.raises(mpt.TicketError, match="It names 'hostile"):
        load(forged(whole, changed))
    assert not RAN


@pytest.mark.parametrize(
    "initializer",
    [
        keras.initializers.RandomNormal(mean="a"),
        keras.initializers.Constant([1.0, 2.0]),
        keras.initializers.Zeros(),
    ],
)
def test_initializers_that_fail(initializer, whole, load):
    def changed(found):
        layer = layer_of(found, -1)["config"]
        layer["scores_initializer"] = keras.saving.serialize_keras_object(
            initializer
        )
        found["kernels"][1].pop("scores")

    with pytest.raises(mpt.TicketError):
        load(forged(whole, changed))


RAN = []


@keras.saving.register_keras_serializable("hostile")
class Runs(layers.Layer):
    def __init__(self, **kwargs):
        RAN.append(kwargs)
        super().__init__(**kwargs)


@keras.saving.register_keras_serializable("hostile")
def runs(x):
    RAN.append(x)
    return x


def keras_layer(class_name, module="keras.layers", **config):
    return {
        "module": module,
        "class_name": class_name,
        "registered_name": None,
        "config": {"name": "bad", **config},
    }


def with_lambda():
    return keras.saving.serialize_keras_object(
        layers.Lambda(lambda x: RAN.append(x), name="bad")
    )


HOSTILE = {
    "a Lambda": with_lambda,
    "a layer that loads a SavedModel": lambda: keras_layer(
        "TFSMLayer", filepath="/etc"
    ),
    "a pickle": lambda: keras_layer(
        "TorchModuleWrapper", module="keras.layers"
    ),
    "a layer that reads a file": lambda: keras_layer(
        "StringLookup", vocabulary="/etc/passwd"
    ),
    "a class of Python": lambda: keras_layer(
        "Popen", module="subprocess", args="true"
    ),
    "a module of Keras that is none": lambda: keras_layer(
        "system", module="keras.src.os"
    ),
    "what a module of Keras imports": lambda: keras_layer(
        "np", module="keras.src.layers.layer"
    ),
    "a function of Keras": lambda: keras_layer("load_model", "keras.models"),
    "a registered class": lambda: {
        **keras_layer("Dense"),
        "registered_name": "hostile>Runs",
    },
    "a registered class by its name": lambda: {
        "module": "keras.layers",
        "class_name": "hostile>Runs",
        "config": {},
    },
    "an old form without a module": lambda: {
        "class_name": "Lambda",
        "config": {},
    },
    "a registered function": lambda: keras_layer(
        "Activation",
        activation={
            "module": "builtins",
            "class_name": "function",
            "config": "hostile>runs",
            "registered_name": "hostile>runs",
        },
    ),
    "a function that is no activation": lambda: keras_layer(
        "Activation",
        activation={
            "module": "keras.utils",
            "class_name": "function",
            "config": "get_file",
            "registered_name": "get_file",
        },
    ),
    "a lambda for an activation": lambda: keras_layer(
        "Activation",
        activation={"class_name": "__lambda__", "config": {"value": "x"}},
    ),
    "an array of gigabytes": lambda: keras_layer(
        "Activation",
        activation={
            "class_name": "__numpy__",
            "config": {"value": ["a"], "dtype": "U1000000000"},
        },
    ),
    "a type of TensorFlow": lambda: keras_layer(
        "Activation",
        activation={
            "class_name": "__typespec__",
            "spec_name": "TensorSpec",
            "module": "tensorflow",
            "registered_name": None,
            "config": [],
        },
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_configurations_that_name_code(name, whole, load):
    RAN.clear()
    bad = json.loads(json.dumps(HOSTILE[name](), default=str))

    def changed(found):
        found["config"]["config"]["layers"].insert(1, bad)

    with pytest.raises(mpt.TicketError):
        load(forged(whole, changed))
    assert not RAN


def test_arrays_are_written_in_c_order():
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert not array.flags.c_contiguous
    data = container.pack({}, {"weights/w": array})
    found = container.Contents(data).arrays["weights/w"]
    np.testing.assert_array_equal(found, array)
