"""Settings: fields of a frozen dataclass that say what they mean.

Flags, their help, what a value must be, and the description of a run all come
from such a field, which is written once.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import os
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
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


# As Keras takes them.
SEED = {
    "accepts": lambda value: 0 <= value < 2**32,
    "expected": "an integer from 0 to 2**32 - 1",
}
POSITIVE = {
    "accepts": lambda value: 0 < value < math.inf,
    "expected": "a number above 0",
}
NOT_NEGATIVE = {
    "accepts": lambda value: 0 <= value < math.inf,
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


@functools.cache
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

    What is as good becomes what is expected: lists tuples, integers numbers,
    NumPy's numbers Python's, and paths texts.
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
        several = isinstance(value, Iterable) and not isinstance(value, str)
        values = tuple(value) if several else (value,)
        return tuple(_checked_value(field, kind, one, value) for one in values)
    return _checked_value(field, kind, value, value)


def _checked_value(field, kind, value, received):
    known = of_field(field)
    if isinstance(value, bool) != (kind.of is bool):
        raise _invalid(field, received, expected_of(known, kind))
    for there, as_good in _AS_GOOD.items():
        if kind.of is there and isinstance(value, as_good):
            value = there(value)
    if not isinstance(value, kind.of):
        raise _invalid(field, received, expected_of(known, kind))
    right = not known.choices or value in known.choices
    if right and known.accepts is not None:
        right = known.accepts(value)
    if not right:
        raise _invalid(field, received, expected_of(known, kind))
    return value


_AS_GOOD = {int: numbers.Integral, float: numbers.Real, str: os.PathLike}
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


class NoEffectError(ValueError):
    """A setting was said that has no effect beside the others.

    Attributes:
        setting: Its name.
    """

    def __init__(self, setting, value, why):
        self.setting = setting
        super().__init__(
            f"{setting}={in_words(value)} has no effect here: {why}. Leave it "
            "out."
        )


def refuse_without_effect(settings, said):
    """Looks for what has no effect, and refuses it if somebody has said it.

    Args:
        settings: A dataclass of settings in force.
        said: Those that somebody has said, a dictionary.

    Returns:
        Names of the fields without effect, a list.

    Raises:
        NoEffectError: If one of them was said and asks for something.
    """
    idle = without_effect(settings)
    for field in dataclasses.fields(settings):
        name, value = field.name, said.get(field.name)
        is_usual_none = value == of_field(field).usual == "none"
        if name in idle and not is_off(value) and not is_usual_none:
            raise NoEffectError(name, value, idle[name])
    return list(idle)


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


_Class = typing.TypeVar("_Class", bound=type)


def documented(cls: _Class) -> _Class:
    """Adds a section of the fields to the docstring of such a dataclass."""
    fields = (
        textwrap.fill(
            f"{field.name}: {described(field, field.default)}",
            width=76,
            initial_indent=4 * " ",
            subsequent_indent=8 * " ",
            break_on_hyphens=False,
        )
        for field in dataclasses.fields(cls)
    )
    text = "\n".join((inspect.cleandoc(cls.__doc__), "", "Args:", *fields))
    cls.__doc__ = f"{text}\n"
    return cls


def described(field, default, with_choices=True):
    """What a field means, what it may be, and what holds unless it is said."""
    known = of_field(field)
    text = known.help
    if known.choices and with_choices:
        text += f" Out of {', '.join(map(str, known.choices))}."
    if not is_off(default):
        text += f" Default: {in_words(default)}."
    elif not is_off(known.usual):
        text += f" Usual: {in_words(known.usual)}."
    return text


def is_off(value):
    """Whether a value asks for nothing."""
    return value in (None, False, ())


def in_words(value):
    """A value as a flag takes it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(in_words, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
