"""What editors and type checkers see is what there is."""

import ast
import inspect
import pathlib
import re

import keras
import pytest
from conftest import ROOT

import mpt_keras as mpt

# Of some versions of Keras only, behind all others.
NEWER = {
    *("lora_rank", "lora_alpha", "quantization_config"),
    "gptq_unpacked_column_size",
}
OF_EVERY_LAYER = {
    *("name", "trainable", "dtype", "autocast", "activity_regularizer"),
}
LAYERS = [name for name in mpt.__all__ if name.startswith("MPT")]


def functions_of(stub):
    """Name of a class or function -> its parameters in a stub, by name."""
    tree = ast.parse((ROOT / "mpt_keras" / stub).read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node.args
        for inner in getattr(node, "body", ()):
            if getattr(inner, "name", "") in ("__init__", "__call__"):
                yield node.name, inner.args


def names_in(arguments):
    found = [argument.arg for argument in arguments.args + arguments.kwonlyargs]
    return [name for name in found if name != "self"]


def required_in(arguments):
    names = [argument.arg for argument in arguments.args]
    names = names[: len(names) - len(arguments.defaults)]
    return [name for name in names if name != "self"]


@pytest.mark.parametrize("name", LAYERS)
def test_stubs_of_layers_are_their_constructors(name):
    stub = dict(functions_of("layers/__init__.pyi"))[name]
    actual = inspect.signature(getattr(mpt, name)).parameters
    expected = [x for x in actual if x not in NEWER | {"kwargs"}]
    found = [
        name
        for name in names_in(stub)
        if name in actual or name not in OF_EVERY_LAYER
    ]
    assert found == expected
    assert required_in(stub) == [
        x for x in expected if actual[x].default is inspect.Parameter.empty
    ]


def test_stubs_of_networks_are_their_functions():
    stub = dict(functions_of("models/__init__.pyi"))["_Network"]
    actual = inspect.signature(mpt.models.conv4).parameters
    assert set(names_in(stub)) == set(actual)
    text = (ROOT / "mpt_keras/models/__init__.pyi").read_text()
    declared = set(re.findall(r"^(\w+): _Network", text, re.MULTILINE))
    declared |= set(re.findall(r"^def (\w+)", text, re.MULTILINE))
    networks = {
        name
        for name, value in vars(mpt.models).items()
        if inspect.isfunction(value)
    }
    assert declared == networks


def test_every_stubbed_attribute_is_there():
    layer = mpt.MPTDense(2)
    keras.Sequential([keras.Input((3,)), layer])
    tree = ast.parse((ROOT / "mpt_keras/layers/__init__.pyi").read_text())
    (masked,) = (
        x for x in tree.body if getattr(x, "name", "") == "MaskedLayer"
    )
    for node in masked.body:
        name = getattr(node, "name", None) or node.target.id
        assert hasattr(layer, name), name


def test_mypy_takes_what_users_write_and_finds_their_mistakes(monkeypatch):
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(ROOT)
    printed, errors, status = api.run([])
    assert status == 0, printed + errors
    printed, _, _ = api.run(["tests/wrong_usage.py"])
    found = dict(re.findall(r":(\d+): error: .*\[([a-z-]+)\]", printed))
    lines = pathlib.Path("tests/wrong_usage.py").read_text().splitlines()
    expected = {
        str(number): line.rpartition("# error: ")[2]
        for number, line in enumerate(lines, 1)
        if "# error: " in line
    }
    assert found == expected
