"""Settings: fields of a frozen dataclass that say what they mean.

Flags, their help, what a value must be, and the description of a run all come
from such a field, which is written once.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of a field beside its type and its default.

    Attributes:
        help: One sentence, with the unit.
        choices: The values allowed; any where there are none.
        accepts: Function that says of a value whether it is allowed.
        expected: What `accepts` expects, in words.
        needs: Other field -> values of it with which this one has an effect.
        usual: What holds where neither the user nor a recipe says it.
    """

    help: str
    choices: tuple = ()
    accepts: Callable[[Any], bool] | None = None
    expected: str = ""
    needs: Mapping = dataclasses.field(default_factory=dict)
    usual: Any = None


def setting(default, help, **known):
    """A field of a settings class; `known` as in `Setting`."""
    return dataclasses.field(
        default=default, metadata={"setting": Setting(help, **known)}
    )


def integer_from(least):
    """What a setting that is such a number needs."""
    return {
        "accepts": lambda value: value >= least,
        "expected": f"an integer of {least} or more",
    }


POSITIVE = {"accepts": lambda value: value > 0, "expected": "a number above 0"}
NOT_NEGATIVE = {
    "accepts": lambda value: value >= 0,
    "expected": "a number of 0 or more",
}
FRACTION = {
    "accepts": lambda value: 0.0 <= value < 1.0,
    "expected": "a number in [0, 1)",
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """The type of a field: `of` a value, or of each value of a tuple."""

    of: type
    is_tuple: bool
    is_optional: bool


def kinds(cls):
    """Name of a field -> its `Kind`."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: _kind(hints[field.name])
        for field in dataclasses.fields(cls)
    }


def _kind(hint):
    options = (hint,)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
    (one,) = (option for option in options if option is not type(None))
    is_tuple = typing.get_origin(one) is tuple
    return Kind(
        of=typing.get_args(one)[0] if is_tuple else one,
        is_tuple=is_tuple,
        is_optional=len(options) > 1,
    )


def of_field(field):
    """The `Setting` of a field."""
    return field.metadata["setting"]


class Checked:
    """A dataclass of settings whose values are checked when it is made.

    Lists become tuples, and integers numbers where a number is expected.
    """

    def __post_init__(self):
        found = kinds(type(self))
        for field in dataclasses.fields(self):
            value = _checked(
                field, found[field.name], getattr(self, field.name)
            )
            object.__setattr__(self, field.name, value)

    def said(self):
        """The fields that are not at their defaults, a dictionary."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


def _checked(field, kind, value):
    if value is None and kind.is_optional:
        return None
    if kind.is_tuple:
        is_list = isinstance(value, (list, tuple))
        values = tuple(value) if is_list else (value,)
        return tuple(_checked_value(field, kind, one, value) for one in values)
    return _checked_value(field, kind, value, value)


def _checked_value(field, kind, value, received):
    known = of_field(field)
    if kind.of is float and type(value) is int:
        value = float(value)
    if not isinstance(value, kind.of) or (
        isinstance(value, bool) and kind.of is not bool
    ):
        raise _invalid(field, received, expected_of(known, kind))
    right = not known.choices or value in known.choices
    if right and known.accepts is not None:
        right = known.accepts(value)
    if not right:
        raise _invalid(field, received, expected_of(known, kind))
    return value


_IN_WORDS = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a text",
}


def expected_of(known, kind):
    """What a setting expects, in words."""
    if known.choices:
        return f"one of {', '.join(map(str, known.choices))}"
    return known.expected or _IN_WORDS[kind.of]


def _invalid(field, received, expected):
    return ValueError(
        f"Invalid value for `{field.name}`. Expected {expected}. Received: "
        f"{field.name}={received!r}"
    )


def without_effect(settings):
    """Names of the fields that have no effect beside the others.

    Args:
        settings: A dataclass of settings in force.

    Returns:
        Name -> why, in words.
    """
    found = {}
    for field in dataclasses.fields(settings):
        for other, values in of_field(field).needs.items():
            there = getattr(settings, other)
            several = there if isinstance(there, tuple) else (there,)
            if not set(several) & set(values):
                needed = " or ".join(f"{other}={value}" for value in values)
                found[field.name] = f"it needs {needed}"
    return found


def is_off(value):
    """Whether a value asks for nothing."""
    return value in (None, False, "none", ())


def in_words(value):
    """A value as a flag takes it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(in_words, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
