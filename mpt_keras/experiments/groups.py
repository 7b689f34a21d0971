"""Lines of trainings that differ in nothing but their seeds, as groups."""

import dataclasses
import math
import statistics

from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.spread import Difference, SeedSpread

# What a report is by default a comparison with: the first that is there.
_BASELINES = ("dense", "unpruned")
_NEEDED = ("method", "sparsity", "seed", "test_accuracy", "model", "data")
_TEXTS = ("method", "model", "data")
_NUMBERS = ("sparsity", "seed", "test_accuracy", "width", "rewind_step")
_MAY_BE_NONE = ("sparsity", "width", "rewind_step")


def value_of(line, name):
    """What a line says; a name with a dot looks into a dictionary of it."""
    for part in name.split("."):
        line = line.get(part) if isinstance(line, dict) else None
    return line


def by_seed(lines, name):
    """Seed -> value, the mean over what was drawn anew for the same seed.

    Only of seeds whose lines all have one.

    Raises:
        RunError: If two lines are those of one seed and one draw.
    """
    check_different(lines)
    seeds = {}
    for line in lines:
        seeds.setdefault(line.get("seed"), []).append(value_of(line, name))
    return {
        seed: statistics.fmean(values)
        for seed, values in seeds.items()
        if None not in values
    }


def check_different(lines):
    """Raises `RunError` if one of the lines could be taken for another."""
    there = {}
    for line in lines:
        key = (line.get("seed"), line.get("draw"))
        if key in there:
            raise _twice(there[key], line)
        there[key] = line


def _twice(one, other):
    settings = [line.get("settings", {}) for line in (one, other)]
    names = sorted(settings[0].keys() | settings[1].keys())
    first, second = ([each.get(name) for name in names] for each in settings)
    differ = [
        f"{name} is {a} and {b}"
        for name, a, b in zip(names, first, second, strict=True)
        if a != b
    ]
    names = ("method", "sparsity", "model", "data", "seed", "draw")
    same = [
        f"{name} {one[name]}" for name in names if one.get(name) is not None
    ]
    return RunError(
        f"Two lines of {', '.join(same)}: '{one['folder']}' and "
        f"'{other['folder']}'"
        + (f", whose {', '.join(differ)}" if differ else "")
        + ". Expected one for each seed. Report them apart."
    )


@dataclasses.dataclass(frozen=True)
class Group:
    """What several seeds of one method found, other things being equal."""

    method: str
    sparsity: float | None
    width: float | None
    rewind_step: int | None
    lines: tuple[dict, ...]

    @property
    def seeds(self):
        return sorted({line["seed"] for line in self.lines})

    def spread(self, name):
        """`SeedSpread` of a value over the seeds; None unless all have it."""
        values = by_seed(self.lines, name)
        if len(values) < len(self.seeds):
            return None
        return SeedSpread.of(list(values.values()))

    def mean(self, name):
        spread = self.spread(name)
        return None if spread is None else spread.mean


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The groups of one network, data set and number of epochs.

    Attributes:
        model, data, epochs: What all lines have in common.
        groups: A `Group` for each method, sparsity, width and step of
            rewinding: methods as they come, the rest from small to large.
        baseline: The method whose accuracy is subtracted, None without.
    """

    model: str
    data: str
    epochs: int | None
    groups: tuple[Group, ...]
    baseline: str | None

    @property
    def title(self):
        epochs = "" if self.epochs is None else f", {self.epochs} epochs"
        return f"{self.model} on {self.data}{epochs}"

    @property
    def name(self):
        """For files."""
        parts = (self.model, self.data, self.epochs)
        text = "-".join(str(part) for part in parts if part is not None)
        return "".join(
            one if one.isalnum() or one in "-_." else "_" for one in text
        )

    def varies(self, name):
        """Whether a setting is not the same wherever there is one."""
        values = {getattr(group, name) for group in self.groups}
        return len(values - {None}) > 1

    def label(self, group):
        """What a method is called beside the others."""
        width = self.varies("width") and group.width is not None
        step = self.varies("rewind_step") and group.rewind_step is not None
        return (
            group.method
            + (f", width {group.width:g}" if width else "")
            + (f", from step {group.rewind_step:,}" if step else "")
        )

    def difference(self, group):
        """`Difference` to the baseline, or None where there is none."""
        found = self._baseline_of(group)
        if found in (None, group):
            return None
        name = "test_accuracy"
        return Difference.of(
            by_seed(group.lines, name),
            by_seed(found.lines, name),
            self.baseline,
        )

    def _baseline_of(self, group):
        """That of the same width, and as much pruned, if it is pruned."""
        alike = [
            other
            for other in self.groups
            if other.method == self.baseline
            and other.width == group.width
            and other.sparsity in (None, group.sparsity)
        ]
        exact = [one for one in alike if one.rewind_step == group.rewind_step]
        found = exact or alike
        return found[0] if len(found) == 1 else None


def comparisons(lines, baseline=None):
    """A `Comparison` for each network, data set and number of epochs.

    Args:
        lines: Dictionaries, one for each training.
        baseline: Method to compare the others with; by default "dense" or
            "unpruned".

    Raises:
        RunError: If there is no such method, a line lacks what it needs, or
            two lines cannot be told apart.
    """
    networks = {}
    _check(lines)
    for line in lines:
        key = (line["model"], line["data"], line.get("epochs"))
        networks.setdefault(key, []).append(line)
    found = [
        Comparison(*key, *_grouped(own, baseline))
        for key, own in networks.items()
    ]
    if baseline and not any(one.baseline for one in found):
        methods = dict.fromkeys(line["method"] for line in lines)
        raise RunError(
            f"baseline={baseline}: no finished run of it. Expected one of "
            f"{', '.join(methods)}."
        )
    return found


def _check(lines):
    for line in lines:
        missing = [name for name in _NEEDED if name not in line]
        if missing:
            raise RunError(
                f"The line of '{line['folder']}' is not that of a training: it "
                f"lacks {', '.join(missing)}. Remove it; the run that it "
                "belongs to writes it again."
            )
        for name in (*_TEXTS, *_NUMBERS):
            if not _is_valid(name, line.get(name)):
                raise RunError(
                    f"The line of '{line['folder']}' is not that of a "
                    f"training: its {name} is {line.get(name)!r}. Repair or "
                    "remove it."
                )


def _is_valid(name, value):
    if value is None:
        return name in _MAY_BE_NONE
    if name in _TEXTS:
        return isinstance(value, str)
    return isinstance(value, (int, float)) and math.isfinite(value)


def _grouped(lines, baseline):
    """The groups, and the baseline that is among them."""
    methods = list(dict.fromkeys(line["method"] for line in lines))
    groups = {}
    for line in lines:
        key = (
            *(line["method"], line["sparsity"]),
            *(_width(line), line.get("rewind_step")),
        )
        groups.setdefault(key, []).append(line)
    ordered = sorted(groups, key=lambda key: _place(methods, *key))
    for key in ordered:
        check_different(groups[key])
    wanted = [baseline] if baseline else _BASELINES
    there = [method for method in wanted if method in methods]
    return (
        tuple(Group(*key, tuple(groups[key])) for key in ordered),
        there[0] if there else None,
    )


def _width(line):
    width = line.get("width")
    return None if width is None else float(width)


def _place(methods, method, *others):
    # None, where nothing is pruned or set back, comes first.
    return methods.index(method), *((x is not None, x or 0) for x in others)
