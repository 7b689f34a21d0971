"""C files: compiled in many ways, they predict what the frozen model does.

Weights and images are those of `test_runtime`: no order of adding changes a
sum, so that no sign may differ.
"""

import ctypes
import itertools
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from test_runtime import images_for, with_exact_sums

import mpt_keras as mpt
from mpt_keras.command_line import main
from mpt_keras.engines import c_file
from mpt_keras.runtime import compiling, library
from mpt_keras.runtime.c_source import SCALAR, c_source
from mpt_keras.runtime.operations import Elementwise, Plan, Steps, Value
from mpt_keras.runtime.packing import pack

_WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
_ALONE = ("-ffreestanding", "-nostdlib")
_SANITIZERS = (
    *("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"),
    "-static-libasan",  # others may be loaded before it
)
# Reads floats from one file, writes what is predicted to another.
_MAIN = """
#include <stdio.h>
void predict(const float *input, float *output);
static float input[INPUTS], output[OUTPUTS];
int main(int count, char **names) {
  FILE *from = fopen(names[1], "rb"), *to = fopen(names[2], "wb");
  while (count == 3 && fread(input, 4, INPUTS, from) == INPUTS) {
    predict(input, output);
    fwrite(output, 4, OUTPUTS, to);
  }
  return fclose(to);
}
"""


def needs(*commands):
    missing = [name for name in commands if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {missing}")


@pytest.fixture(scope="module", autouse=True)
def _quick_compiler(tmp_path_factory):
    """One that optimizes little where a test does not say how much."""
    found = shutil.which("gcc")
    if found is None:
        yield
        return
    library.load()  # kept for other tests, so not by that compiler
    path = tmp_path_factory.mktemp("compiler") / "cc"
    path.write_text(f'#!/bin/sh\nexec "{found}" "$@" -O1\n')
    path.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", str(path))
        yield


@pytest.fixture(scope="module")
def digits():
    """A network of binary weights and activations for 8x8 images, frozen."""
    sign = {"input_quantizer": "approx_sign", "padding": "same"}
    rng = np.random.default_rng(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            mpt.MPTConv2D(16, 3, padding="same", sparsity=0.5, seed=1),
            keras.layers.BatchNormalization(),
            mpt.MPTConv2D(32, 3, sparsity=0.75, seed=2, **sign),
            keras.layers.MaxPooling2D(),
            keras.layers.BatchNormalization(),
            mpt.MPTConv2D(64, 3, sparsity=0.75, seed=3, **sign),
            keras.layers.MaxPooling2D(),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            mpt.MPTDense(10, sparsity=0.5, seed=4, input_quantizer="ste_sign"),
            keras.layers.BatchNormalization(),
        ],
        name="digits",
    )
    return mpt.freeze(with_exact_sums(model, rng))


def images_of_digits(count):
    """Those of scikit-learn, and more of them with noise."""
    images = load_digits().images[..., None]
    rng = np.random.default_rng(2)
    chosen = images[np.arange(count) % len(images)]
    noise = rng.integers(-4, 5, chosen.shape)
    noise[: len(images)] = 0
    return (np.clip(chosen + noise, 0, 16) / 16).astype("float32")


@pytest.fixture(scope="module")
def exported(digits, tmp_path_factory):
    """Files with and without vectors."""
    folder = tmp_path_factory.mktemp("digits")
    for name, vectors in (("vectors", True), ("plain", False)):
        mpt.export(digits, folder / f"{name}.c", format="c", vectors=vectors)
    return folder


def ran(file, images, tmp_path, command, run=(), outputs=10):
    """What a program of a file predicts."""
    main, program = tmp_path / "main.c", tmp_path / "program"
    main.write_text(_MAIN)
    sizes = (f"-DINPUTS={images[0].size}", f"-DOUTPUTS={outputs}")
    subprocess.run(
        [*command, *_WARNINGS, *sizes, main, file, "-o", program], check=True
    )
    images.tofile(tmp_path / "images")
    names = (tmp_path / "images", tmp_path / "outputs")
    subprocess.run([*run, program, *names], check=True)
    found = np.fromfile(tmp_path / "outputs", "float32")
    return found.reshape(len(images), outputs)


def check(found, model, images):
    expected = np.asarray(model.predict(images, batch_size=2000, verbose=0))
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * largest)


@needs("gcc")
@pytest.mark.parametrize("name", ["vectors", "plain"])
def test_sanitizers_find_nothing_in_10000_images(
    name, exported, digits, tmp_path
):
    images = images_of_digits(10_000)
    command = ("gcc", *_SANITIZERS)
    found = ran(exported / f"{name}.c", images, tmp_path, command)
    check(found, digits, images)


def ways(quick, *values):
    """All that go together; those that are not quick take minutes."""
    return [
        pytest.param(*way, marks=() if way in quick else pytest.mark.slow)
        for way in itertools.product(*values)
    ]


@pytest.mark.parametrize(
    ("name", "flags", "compiler"),
    ways(
        (
            ("vectors", "-O3 -march=native", "gcc"),
            ("vectors", "-Os", "clang"),
            ("plain", "-Os", "gcc"),
            ("plain", "-O3", "clang"),
        ),
        ("vectors", "plain"),
        ("-Os", "-O3", "-O3 -march=native"),
        ("gcc", "clang"),
    ),
)
def test_digits_in_many_ways(name, flags, compiler, exported, digits, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    images = images_of_digits(200)
    command = (compiler, *flags.split())
    found = ran(exported / f"{name}.c", images, tmp_path, command)
    check(found, digits, images)


_ARM = {
    "aarch64": ("aarch64-linux-gnu", "qemu-aarch64", ()),
    "arm": ("arm-linux-gnueabihf", "qemu-arm", ("-mfpu=neon",)),
}


@pytest.mark.parametrize(
    ("processor", "name"),
    ways(
        (("aarch64", "vectors"), ("arm", "plain")), _ARM, ("vectors", "plain")
    ),
)
def test_digits_on_arm(processor, name, exported, digits, tmp_path):
    system, emulator, flags = _ARM[processor]
    for command in (f"{system}-gcc", emulator):
        if not shutil.which(command):
            pytest.skip(f"needs {command}")
    images = images_of_digits(100)
    found = ran(
        exported / f"{name}.c",
        images,
        tmp_path,
        (f"{system}-gcc", "-O2", *flags),
        (emulator, "-L", f"/usr/{system}"),
    )
    check(found, digits, images)


@pytest.mark.parametrize(
    ("name", "flags", "compiler"),
    ways(
        (
            ("vectors", "-O0", "gcc"),
            ("vectors", "-O3", "clang"),
            ("plain", "-O3", "gcc"),
            ("plain", "-Os", "clang"),
        ),
        ("vectors", "plain"),
        ("-O0", "-Os", "-O3"),
        ("gcc", "clang"),
    ),
)
@needs("nm")
def test_digits_need_no_library(name, flags, compiler, exported, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    compiled = tmp_path / "digits.o"
    file = exported / f"{name}.c"
    subprocess.run(
        [compiler, *_WARNINGS, *_ALONE, flags, "-c", file, "-o", compiled],
        check=True,
    )
    assert symbols(compiled) == ["T predict"]


def symbols(compiled, tool="nm"):
    """What a compiled file has for others, or needs of them."""
    found = subprocess.run(
        [tool, "-g", compiled], check=True, capture_output=True, text=True
    )
    return [" ".join(line.split()[-2:]) for line in found.stdout.splitlines()]


@needs("arm-none-eabi-gcc")
def test_digits_fit_a_microcontroller(exported, tmp_path):
    compiled = tmp_path / "digits.o"
    file = exported / "plain.c"
    of_processor = (
        *("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard"),
        "-mfpu=fpv4-sp-d16",
    )
    subprocess.run(
        [
            *("arm-none-eabi-gcc", *_WARNINGS, *_ALONE, "-Os", *of_processor),
            *("-fstack-usage", "-c", file, "-o", compiled),
        ],
        check=True,
    )
    assert symbols(compiled, "arm-none-eabi-nm") == ["T predict"]
    found = subprocess.run(
        ["arm-none-eabi-size", compiled],
        check=True,
        capture_output=True,
        text=True,
    )
    code, written, zeros = map(int, found.stdout.splitlines()[1].split()[:3])
    said = c_file.Heading(file)
    assert written == 0
    # What starts with zeros is the arena alone.
    assert zeros == said.ram_bytes
    assert said.flash_bytes < code < said.flash_bytes + 20_000
    usage = compiled.with_suffix(".su").read_text().splitlines()
    # A function of the file, a kernel and what that calls.
    assert sum(sorted(int(line.split("\t")[1]) for line in usage)[-3:]) < 2000


@needs("g++")
def test_digits_are_cplusplus_too(exported, tmp_path):
    compiled = tmp_path / "digits.o"
    file = exported / "vectors.c"
    subprocess.run(
        ["g++", "-O1", "-x", "c++", "-c", file, "-o", compiled], check=True
    )
    assert "T predict" in symbols(compiled)


def predicted(path, images):
    return c_file.build(path)([images])[0]


_NETWORKS = {
    "conv2": {"binary_activations": True},
    "conv4": {"binary_activations": False},
    "conv6": {"binary_activations": True},
    "conv8": {"binary_activations": False},
    "lenet_300_100": {"binary_activations": True},
    "vgg_small": {"binary_activations": True},
    "resnet18": {"binary_activations": True},
    "resnet20": {"binary_activations": True, "width": 0.5},
    "resnet50": {"binary_activations": False},
    "wide_resnet18_2": {"binary_activations": True},
    "imagenet_resnet18": {"input_shape": (64, 64, 3), "classes": 12},
    "imagenet_resnet50": {"input_shape": (32, 32, 3), "classes": 12},
}


# Of every family one, and both kinds of activations.
_QUICK = ("conv2", "conv4", "lenet_300_100", "vgg_small", "resnet20")
_QUICK += ("imagenet_resnet50",)


@pytest.mark.parametrize("name", ways([(name,) for name in _QUICK], _NETWORKS))
def test_networks(name, tmp_path):
    rng = np.random.default_rng(3)
    options = {"width": 0.1, "sparsity": 0.6, "trained_batch_norm": True}
    options |= _NETWORKS[name]
    model = with_exact_sums(getattr(mpt.models, name)(**options), rng)
    images = images_for(model.input_shape[1:], 3, rng)
    frozen = mpt.freeze(model)
    report = mpt.export(
        frozen, tmp_path / "net.c", format="c", inputs=images, tolerance=1e-5
    )
    assert report.undecided == 0
    assert report.differences.same_class == 1.0
    found = c_file.Heading(report.path)
    assert found.checksum == c_file.weights_checksum(frozen)
    assert report.bytes == found.flash_bytes
    assert f"flash: {report.bytes:,} bytes" in report.notes[0]
    assert len(report.layers) == len(mpt.masked_layers(model))
    for row in report.layers:
        size = int(row.stored.split()[0].replace(",", ""))
        assert size > 0.1 * np.prod(row.shape) / 8
        assert "pruned" in row.stored


def test_folded_batch_norms(tmp_path):
    model = mpt.models.resnet20(width=0.25, trained_batch_norm=True)
    path = tmp_path / "net.c"
    report = mpt.export(model, path, format="c", fold_batch_norm=True)
    assert report.differences.relative < 1e-5


# --- The file ---------------------------------------------------------------


@pytest.fixture(scope="module")
def searched():
    """A masked network whose signs follow from its seeds."""
    sign = {"input_quantizer": "approx_sign", "sparsity": 0.5}
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            mpt.MPTConv2D(70, 3, sparsity=0.5, seed=1),
            keras.layers.BatchNormalization(center=False),
            mpt.MPTConv2D(65, (3, 2), seed=2, use_bias=True, **sign),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            mpt.MPTDense(7, seed=2**63 + 5, **sign),
        ],
        name="searched",
    )


@pytest.mark.parametrize("vectors", [True, False])
def test_signs_from_a_seed(vectors, searched, tmp_path):
    files = {}
    for signs in ("stored", "seed"):
        path = files[signs] = tmp_path / f"{signs}.c"
        mpt.export(searched, path, format="c", signs=signs, vectors=vectors)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(50, 6, 5, 2)).astype("float32")
    np.testing.assert_array_equal(
        predicted(files["seed"], images), predicted(files["stored"], images)
    )
    seed, stored = (c_file.Heading(files[key]) for key in ("seed", "stored"))
    # A bit instead of two, in words of 64 channels; and both in memory.
    words = 65 * 6 * 2 + 7 * 4 * 2
    assert stored.flash_bytes - seed.flash_bytes == 8 * words
    assert seed.ram_bytes - stored.ram_bytes == 2 * 8 * words


@needs("gcc", "nm")
def test_a_seed_needs_no_library(searched, tmp_path):
    path = tmp_path / "net.c"
    mpt.export(searched, path, format="c", signs="seed", vectors=False)
    for flags in ("-Os", "-O3"):
        compiled = tmp_path / "net.o"
        subprocess.run(
            ["gcc", *_WARNINGS, *_ALONE, flags, "-c", path, "-o", compiled],
            check=True,
        )
        assert symbols(compiled) == ["T predict"], flags


# Reads floats from one file, writes what is predicted to another.
_NODE = """
const fs = require("node:fs");
const [wasm, from, to, inputs, outputs] = process.argv.slice(2);
const { predict, memory, __heap_base } = new WebAssembly.Instance(
  new WebAssembly.Module(fs.readFileSync(wasm))).exports;
const input = __heap_base.value, output = input + 4 * inputs;
memory.grow(1);
const images = new Float32Array(Uint8Array.from(fs.readFileSync(from)).buffer);
const found = [];
for (let i = 0; i < images.length; i += Number(inputs)) {
  const image = images.subarray(i, i + Number(inputs));
  new Float32Array(memory.buffer, input).set(image);
  predict(input, output);
  found.push(...new Float32Array(memory.buffer, output, outputs));
}
fs.writeFileSync(to, Float32Array.from(found));
"""


@needs("clang", "wasm-ld", "node")
@pytest.mark.parametrize("vectors", [True, False])
def test_webassembly_without_a_library(vectors, searched, tmp_path):
    path, module = tmp_path / "net.c", tmp_path / "net.wasm"
    mpt.export(searched, path, format="c", signs="seed", vectors=vectors)
    # As docs/browser.md says; all names must be found, or it does not link.
    command = (
        *("clang", "--target=wasm32", "-Os", "-nostdlib", "-Wl,--no-entry"),
        *("-Wl,--export=predict", "-Wl,--export=__heap_base"),
        *(("-msimd128",) if vectors else ()),
    )
    subprocess.run([*command, *_WARNINGS, path, "-o", module], check=True)
    images = np.random.default_rng(0).normal(size=(50, 6, 5, 2))
    images = images.astype("float32")
    images.tofile(tmp_path / "images")
    script = tmp_path / "run.cjs"
    script.write_text(_NODE)
    names = (module, tmp_path / "images", tmp_path / "outputs", "60", "7")
    subprocess.run(["node", script, *names], check=True)
    found = np.fromfile(tmp_path / "outputs", "float32").reshape(50, 7)
    np.testing.assert_array_equal(found, predicted(path, images))


def test_layers_of_a_nested_model(searched, tmp_path):
    """Their signs come from seeds, too, and each has its row."""
    reports = []
    for number, model in enumerate(
        (
            searched,
            keras.Sequential([keras.Input((6, 5, 2)), searched]),
        )
    ):
        path = tmp_path / f"{number}.c"
        reports.append(mpt.export(model, path, format="c", signs="seed"))
    flat, nested = reports
    assert nested.bytes == flat.bytes
    assert nested.layers == flat.layers
    assert all(row.computes for row in nested.layers)


def test_only_signs_that_are_drawn_come_from_a_seed(searched, tmp_path):
    def refused(model):
        with pytest.raises(ValueError, match="can be drawn from a seed"):
            mpt.export(model, tmp_path / "a.c", format="c", signs="seed")
        assert not list(tmp_path.iterdir())

    refused(mpt.freeze(searched))
    refused(mpt.models.conv2(width=0.1))  # whose activations are real
    other = keras.models.clone_model(searched)
    for layer in mpt.masked_layers(other):
        layer.kernel.assign(-layer.kernel)
    refused(other)


def test_a_file_is_always_the_same(digits, exported, tmp_path):
    mpt.export(digits, tmp_path / "b.c", format="c")
    data = (exported / "vectors.c").read_bytes()
    assert (tmp_path / "b.c").read_bytes() == data
    assert str(tmp_path).encode() not in data
    digits.save(tmp_path / "digits.keras")
    subprocess.run(
        [
            *(sys.executable, "-c"),
            "from mpt_keras.command_line import main; raise SystemExit(main())",
            *("export", tmp_path / "digits.keras", "--format", "c"),
            *("--output", tmp_path / "c.c"),
        ],
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "c.c").read_bytes() == data


def test_two_files_go_together(digits, tmp_path):
    other = mpt.models.dense_net((5,), input_shape=(4, 4, 1))
    mpt.export(digits, tmp_path / "a.c", format="c", function="digit")
    mpt.export(other, tmp_path / "b.c", format="c", function="other")
    library = tmp_path / "both.so"
    sources = [tmp_path / "a.c", tmp_path / "b.c"]
    library.write_bytes(compiling.shared_library(sources, (), "both"))
    both = ctypes.CDLL(str(library))
    for name, path in zip(("digit", "other"), sources, strict=True):
        shape = c_file.Heading(path).input_shape
        image = images_for(shape, 1, np.random.default_rng(0))
        found = np.empty(10, "float32")
        getattr(both, name)(
            ctypes.c_void_p(image.ctypes.data),
            ctypes.c_void_p(found.ctypes.data),
        )
        np.testing.assert_allclose(found, predicted(path, image)[0], 1e-6)


_NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["int", "steps", "2nd", "a/b", "a*/b", "/*", "??/", "net_arena", "\\\n"]
    ),
)


@needs("gcc")
@settings(max_examples=examples(25))
@given(_NAMES, _NAMES, _NAMES)
def test_any_name_is_a_name_in_c(name, first, second):
    values = [Value((2, 3, 1)) for _ in range(3)]
    steps = Steps(offset=np.ones(2, "float32"))
    operations = [
        Elementwise(layer, (before,), after, steps)
        for layer, before, after in zip(
            (first, second), values, values[1:], strict=False
        )
    ]
    shape = (3, 1, 2)
    plan = Plan(
        *(name, values[0], values[-1], shape, shape, False, False),
        tuple(operations),
    )
    heading = f"{name}\n{first}\n{second}"
    text = c_source(pack(plan), heading, width=SCALAR)
    subprocess.run(
        ["gcc", *_WARNINGS, "-fsyntax-only", "-x", "c", "-"],
        input=text.encode("utf-8", "replace"),
        check=True,
    )


def test_numbers_are_what_they_are(tmp_path):
    numbers = np.array(
        [0.1, -0.0, 1e-45, -3e38, np.inf, -np.inf, np.nan, 16777217],
        "float32",
    )
    value = Value((len(numbers), 1, 1))
    shape = (len(numbers),)
    output = Value(value.shape)
    steps = Steps(offset=numbers)
    plan = Plan(
        *("n", value, output, shape, shape, False, False),
        (Elementwise("e", (value,), output, steps),),
    )
    path = tmp_path / "n.c"
    path.write_text(c_source(pack(plan)))
    library = tmp_path / "n.so"
    library.write_bytes(compiling.shared_library([path], (), "n"))
    zeros = np.full(shape, -0.0, "float32")
    found = np.empty(shape, "float32")
    ctypes.CDLL(str(library)).predict(
        ctypes.c_void_p(zeros.ctypes.data), ctypes.c_void_p(found.ctypes.data)
    )
    np.testing.assert_array_equal(found.view("uint32"), numbers.view("uint32"))


# --- Bad input --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": 1}, "True or False.*vectors=1"),
        ({"signs": "drawn"}, "'stored' or 'seed'.*'drawn'"),
        ({"function": "2nd"}, "a name that a function.*'2nd'"),
        ({"function": "int"}, "'int'"),
        ({"function": "memcpy"}, "memcpy"),
        ({"function": "add_signs"}, "add_signs"),
        ({"function": "net_arena"}, "net_arena"),
        ({"function": None}, "None"),
        ({"width": 3}, "no option 'width'.*'vectors'"),
    ],
)
def test_options_are_checked(options, message, digits, tmp_path):
    with pytest.raises(ValueError, match=message):
        mpt.export(digits, tmp_path / "a.c", format="c", **options)


def test_models_that_do_not_fit_are_named(tmp_path):
    source = keras.Input((8, 3))
    model = keras.Model(source, keras.layers.LSTM(4)(source), name="words")
    with pytest.raises(ValueError, match="LSTM"):
        mpt.export(model, tmp_path / "a.c", format="c")
    source = keras.Input((None, 3))
    model = keras.Model(source, keras.layers.ReLU()(source))
    with pytest.raises(ValueError, match="every size"):
        mpt.export(model, tmp_path / "a.c", format="c")
    assert not list(tmp_path.iterdir())


def test_files_of_others_stay(digits, tmp_path):
    path = tmp_path / "a.c"
    path.write_text("int main(void) { return 0; }\n")
    with pytest.raises(ValueError, match="a C file of another origin"):
        mpt.export(digits, path, format="c")
    assert path.read_text().startswith("int main")
    with pytest.raises(ValueError, match="no C file that mpt_keras"):
        c_file.build(path)


def test_without_a_compiler(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "_compilers", lambda: iter(()))
    with pytest.raises(ImportError, match=r'pip install "mpt_keras\[runtime\]'):
        mpt.export(digits, tmp_path / "a.c", format="c")


def test_a_damaged_file_does_not_compile(exported, tmp_path):
    path = tmp_path / "a.c"
    path.write_bytes((exported / "vectors.c").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"could not compile 'a\.c'"):
        c_file.build(path)


def test_other_shapes_are_refused(exported):
    run = c_file.build(exported / "plain.c")
    with pytest.raises(ValueError, match=r"shape \(8, 8, 1\)"):
        run([np.zeros((2, 8, 8, 2), "float32")])


# --- The command ------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ticket, another one, and a C file of the first."""
    folder = tmp_path_factory.mktemp("command")
    for name, seed in (("a", 0), ("b", 1)):
        model = mpt.models.conv2(
            width=0.1, classes=3, input_shape=(8, 8, 1), seed=seed
        )
        mpt.save_ticket(model, folder / f"{name}.ticket")
    arguments = ["--format", "c", "--output", str(folder / "a.c")]
    assert main(["export", str(folder / "a.ticket"), *arguments]) == 0
    return folder


def test_verify_finds_the_model_in_either_order(folder, capsys):
    printed = []
    for names in (("a.c", "a.ticket"), ("a.ticket", "a.c")):
        one, other = (str(folder / name) for name in names)
        assert main(["verify", one, "--against", other]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "of the largest output" in printed[0]
    assert "ULP" in printed[0]
    assert "same predicted class: 100.0%" in printed[0]
    file, ticket = folder / "a.c", folder / "a.ticket"
    assert f"{file}: made of the weights of {ticket}" in printed[0]


def test_verify_knows_the_file_of_another_model(folder, capsys):
    one, other = str(folder / "a.c"), str(folder / "b.ticket")
    assert main(["verify", one, "--against", other]) == 1
    captured = capsys.readouterr()
    assert "made of other weights" in captured.out
    assert "do not predict the same" in captured.err


def test_verify_of_a_c_file_alone_compares_two_builds(folder, capsys, tmp_path):
    file = folder / "a.c"
    assert main(["verify", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "compared with no model (--against MODEL)" in printed
    assert (
        "the fastest build: differs from the smallest one by up to" in printed
    )
    np.save(tmp_path / "x.npy", np.ones((5, 8, 8, 1), "float32"))
    assert main(["verify", str(file), "--inputs", str(tmp_path / "x.npy")]) == 0
    assert "for 5 given inputs" in capsys.readouterr().out


def test_verify_of_a_file_of_others_says_so(tmp_path, capsys):
    path = tmp_path / "a.c"
    path.write_text("int main(void) { return 0; }\n")
    assert main(["verify", str(path)]) == 1
    assert "no C file that mpt_keras.export wrote" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none.c")]) == 1
    assert "none.c" in capsys.readouterr().err


def test_bench_covers_c_files(folder, capsys, tmp_path):
    arguments = ["--formats", "c", "--rounds", "2", "--output", str(tmp_path)]
    assert main(["bench", str(folder / "a.ticket"), *arguments]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (row,) = [cells for cells in rows if cells[:1] == ["c"]]
    size = c_file.Heading(tmp_path / "ticket.c").flash_bytes
    assert row[1] == f"{size:,}"
