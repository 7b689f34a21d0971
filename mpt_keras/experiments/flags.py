"""Flags out of settings: names, types, help and defaults come from fields."""

import dataclasses
import sys

from absl import flags

from mpt_keras.experiments.settings import (
    expected_of,
    in_words,
    is_off,
    kinds,
    of_field,
)


def define(classes, defaults=None, without=(), flag_values=flags.FLAGS):
    """Defines a flag for every field of some classes of settings.

    Args:
        classes: Dataclasses of settings.
        defaults: Field -> default, where it is another.
        without: Names of fields that get no flag.
        flag_values: Where the flags are defined.
    """
    for cls in classes:
        for field in dataclasses.fields(cls):
            if field.name in without or field.name in flag_values:
                continue
            default = (defaults or {}).get(field.name, field.default)
            _define(field, kinds(cls)[field.name], default, flag_values)
            # So that --help shows it: a flag of the program, not of ours.
            flag_values.register_key_flag_for_module(
                sys.argv[0], flag_values[field.name]
            )


def _define(field, kind, default, flag_values):
    known = of_field(field)
    text = known.help
    if known.choices and kind.is_tuple:
        text += f" Out of {', '.join(map(str, known.choices))}."
    if not is_off(default):
        text += f" Default: {in_words(default)}."
    elif not is_off(known.usual):
        text += f" Usual: {in_words(known.usual)}."
    arguments = (field.name, default, text)
    if kind.is_tuple:
        default = default and list(map(str, default))
        flags.DEFINE_list(field.name, default, text, flag_values=flag_values)
    elif known.choices:
        flags.DEFINE_enum(
            *arguments[:2], known.choices, text, flag_values=flag_values
        )
    else:
        function = {
            bool: flags.DEFINE_bool,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            str: flags.DEFINE_string,
        }[kind.of]
        function(*arguments, flag_values=flag_values)


def read(cls, flag_values=flags.FLAGS):
    """The settings of a class, as the flags say them.

    Raises:
        ValueError: If a flag's value is none of the field.
    """
    return cls(**values_of(cls, flag_values))


def values_of(cls, flag_values=flags.FLAGS):
    """Field -> value of its flag, for the fields that have one."""
    found = {}
    for field in dataclasses.fields(cls):
        if field.name not in flag_values:
            continue
        value, kind = flag_values[field.name].value, kinds(cls)[field.name]
        if kind.is_tuple and value is not None:
            value = tuple(_converted(field, kind, text) for text in value)
        found[field.name] = value
    return found


def _converted(field, kind, text):
    try:
        return kind.of(text)
    except ValueError as error:
        raise ValueError(
            f"Invalid value for `{field.name}`. Expected "
            f"{expected_of(of_field(field), kind)}, separated by commas. "
            f"Received: {text!r}"
        ) from error
