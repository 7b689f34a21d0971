"""Settings: one field, and the flag, the check and the description of it."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from absl import flags as absl_flags
from backend import examples
from hypothesis import given, settings, strategies

from mpt_keras.experiments import Place, Search, WinningTicket, flags
from mpt_keras.experiments.command import Output
from mpt_keras.experiments.methods import KINDS, Axes, from_json
from mpt_keras.experiments.networks import FAMILIES
from mpt_keras.experiments.settings import (
    Checked,
    in_words,
    kinds,
    of_field,
    setting,
)
from mpt_keras.experiments.sweeping import Engine

CLASSES = (*KINDS.values(), Axes, Engine, Output, Place)


# --- Fields and flags -----------------------------------------------------


def values_of(field, kind):
    """A strategy for values that a field takes."""
    known = of_field(field)
    one = {
        bool: strategies.booleans(),
        int: strategies.integers(0, 10**6),
        float: strategies.floats(allow_nan=False, allow_infinity=False)
        | strategies.floats(0, 1)
        | strategies.integers(0, 100).map(float),
        str: strategies.text("abc /-_.=1", min_size=1),
    }[kind.of]
    if known.choices:
        one = strategies.sampled_from(known.choices)
    if field.name == "model":
        one = strategies.sampled_from([*FAMILIES, "my.module:network"])
    elif field.name == "recipe":
        one = strategies.sampled_from(known.expected[7:].split(", "))
    elif known.accepts:
        one = one.filter(known.accepts)
    return strategies.lists(one, max_size=3) if kind.is_tuple else one


def experiments(cls):
    """A strategy for the fields that are said of a class."""
    return strategies.fixed_dictionaries(
        {},
        optional={
            field.name: values_of(field, kinds(cls)[field.name])
            for field in dataclasses.fields(cls)
        },
    )


def flag_of(name, value):
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return f"--{name}={value}"


def by_flags(cls, *words):
    values = absl_flags.FlagValues()
    flags.define((cls,), flag_values=values)
    values(["program", *words])
    return flags.read(cls, values)


@pytest.mark.parametrize("cls", CLASSES)
@given(data=strategies.data())
@settings(deadline=None, max_examples=examples(60))
def test_flags_and_fields_say_the_same(cls, data):
    said = data.draw(experiments(cls))
    made = cls(**said)
    assert by_flags(cls, *(flag_of(*item) for item in said.items())) == made
    # What was said is all that a description needs.
    content = json.loads(json.dumps(made.said()))
    assert cls(**content) == made
    if cls in KINDS.values():
        content = json.loads(json.dumps(made.to_json()))
        assert content.keys() <= {"kind", *said}
        found = from_json(content)
        assert (type(found), found) == (cls, made)


def test_flags_of_several_classes_with_defaults_of_their_own():
    values = absl_flags.FlagValues()
    flags.define(
        (Search, WinningTicket, Output),
        {"dataset": "digits", "milestones": (3, 4)},
        without={"seed", "resume"},
        flag_values=values,
    )
    values(["program", "--epochs=3"])
    assert "seed" not in values
    assert "resume" not in values
    expected = {"dataset": "digits", "milestones": (3, 4), "epochs": 3}
    assert flags.read(Search, values) == Search(**expected)
    assert flags.read(WinningTicket, values) == WinningTicket(**expected)
    assert "Default: digits." in values["dataset"].help
    assert "Usual: conv4." in values["model"].help


@pytest.mark.parametrize("cls", CLASSES)
def test_help(cls):
    values = absl_flags.FlagValues()
    flags.define((cls,), flag_values=values)
    for field in dataclasses.fields(cls):
        known = of_field(field)
        assert known.help.endswith("."), field.name
        assert known.help == " ".join(known.help.split())
        text = values[field.name].help
        assert known.help in text
        assert all(choice in text for choice in known.choices)
        assert bool(known.accepts) == bool(known.expected), field.name
        assert known.needs.keys() <= kinds(cls).keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs=0"], "`epochs`. Expected an integer of 1 or more"),
        (["--sparsity=nan"], r"`sparsity`. Expected a number in \[0, 1\)"),
        (
            ["--milestones=1,two"],
            "`milestones`. Expected an integer of 0 or more, separated by "
            "commas. Received: 'two'",
        ),
        (["--model=conv5"], "`model`. Expected one of conv2, conv4"),
    ],
)
def test_flags_of_other_values(words, message):
    with pytest.raises(ValueError, match=message):
        by_flags(Search, *words)


@pytest.mark.parametrize(
    "word", ["--epochs=many", "--method=none", "--sparsity=", "--nothing=1"]
)
def test_flags_that_are_none(word):
    with pytest.raises(absl_flags.Error):
        by_flags(Search, word)


# --- Values ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Some(Checked):
    text: str = setting("a", "A text.")
    on: bool = setting(False, "Whether.")
    number: float | None = setting(None, "A number.")
    integer: int = setting(0, "An integer.")
    integers: tuple[int, ...] = setting((), "Integers.")
    names: tuple[str, ...] | None = setting(
        None, "Names.", choices=("one", "two")
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("number", 1, 1.0),
        ("number", np.float32(0.5), 0.5),
        ("number", np.int64(3), 3.0),
        ("integer", np.int32(3), 3),
        ("integers", [1, 2], (1, 2)),
        ("integers", range(3), (0, 1, 2)),
        ("integers", np.arange(3), (0, 1, 2)),
        ("integers", 7, (7,)),
        ("integers", [], ()),
        ("names", "one", ("one",)),
        ("names", None, None),
        ("text", pathlib.PurePosixPath("a/b"), "a/b"),
    ],
)
def test_values_become_those_of_the_field(name, value, expected):
    found = getattr(Some(**{name: value}), name)
    assert found == expected
    assert type(found) is type(expected)
    json.dumps(found)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", 1, "a text"),
        ("text", None, "a text"),
        ("on", 1, "True or False"),
        ("on", "yes", "True or False"),
        ("number", "1", "a number"),
        ("number", True, "a number"),
        ("integer", 1.0, "an integer"),
        ("integer", True, "an integer"),
        ("integers", "12", "an integer"),
        ("integers", [1, 2.5], "an integer"),
        ("integers", None, "an integer"),
        ("names", ["one", "three"], "one of one, two"),
    ],
)
def test_other_values_are_refused(name, value, expected):
    with pytest.raises(ValueError, match="Invalid value") as caught:
        Some(**{name: value})
    assert str(caught.value) == (
        f"Invalid value for `{name}`. Expected {expected}. Received: "
        f"{name}={value!r}"
    )


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        *((Search, "sparsity", value) for value in (-0.1, 1.0, 1.5)),
        *((Search, "validation", value) for value in (-1, 1.5, 1e400, "all")),
        (Search, "validation", float("nan")),
        *((Search, "width", value) for value in (0, -1, float("inf"))),
        *((Search, "epochs", value) for value in (0, -3, 2.5)),
        *((Search, "model", value) for value in ("conv", "a:", ":b", "a:1")),
        (Search, "recipe", "biprop"),
        (Search, "learning_rate", 0.0),
        (Search, "score_decay", -1e-4),
        (WinningTicket, "sparsities", (0.5, 0.0)),
        (WinningTicket, "ways", ("dense",)),
        (WinningTicket, "alpha", 1.1),
        (Axes, "methods", ("mpt",)),
        (Axes, "seeds", (-1,)),
        (Engine, "engine", "slurm"),
        (Engine, "jobs", 0),
        (Engine, "gpus", -1),
        (Place, "distribute", "some"),
        (Place, "evaluation_batch", 0),
        (Place, "verbose", "3"),
    ],
)
def test_values_out_of_range_are_refused(cls, name, value):
    with pytest.raises(ValueError, match=f"`{name}`. Expected .* Received: "):
        cls(**{name: value})


@pytest.mark.parametrize("value", [0, 0.25, 1, 500])
def test_validation_is_a_fraction_or_a_number(value):
    assert Search(validation=value).validation == value


def test_a_field_that_is_none():
    with pytest.raises(TypeError, match="sparsty"):
        Search(sparsty=0.5)


def test_settings_are_values():
    search = Search(sparsity=0.5)
    assert search == Search(sparsity=0.5)
    assert hash(search) == hash(search.replace(sparsity=0.5))
    assert search.replace(epochs=3).said() == {"sparsity": 0.5, "epochs": 3}
    with pytest.raises(dataclasses.FrozenInstanceError):
        search.sparsity = 0.9


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "0.5"),
        (1e-4, "0.0001"),
        (2.0, "2"),
        (True, "True"),
        ((), "none"),
        ((0.5, 0.9), "0.5,0.9"),
        (("a", "b"), "a,b"),
        (None, "None"),
    ],
)
def test_in_words(value, words):
    assert in_words(value) == words


def test_kinds():
    found = kinds(Some)
    assert found["number"].is_optional
    assert not found["integer"].is_optional
    assert found["integers"].is_tuple
    assert found["integers"].of is int
    assert (found["names"].of, found["names"].is_optional) == (str, True)
