"""The methods by name, and the runs that a comparison of them needs."""

import dataclasses

from mpt_keras.experiments.search import Search
from mpt_keras.experiments.settings import (
    FRACTION,
    POSITIVE,
    SEED,
    Checked,
    NoEffectError,
    in_words,
    setting,
)
from mpt_keras.experiments.tickets import Distilled, WinningTicket
from mpt_keras.experiments.ways import WAYS

KINDS = {cls.kind: cls for cls in (Search, WinningTicket, Distilled)}

_BIPROP = {"method": "biprop"}
_EDGE_POPUP = {"method": "edge_popup"}
_DENSE = {"method": "dense"}
_BINARY = {"binary_activations": True}
_BN = {"trained_batch_norm": True}
# Name -> the settings of the search that make it.
SEARCHES = {
    "dense": _DENSE,
    "dense_binary": _DENSE | _BINARY,
    "mpt_1_32": _BIPROP,
    "mpt_1_1": _BIPROP | _BINARY,
    # Only where real activations have batch norms.
    "mpt_1_32_bn": _BIPROP | _BN,
    "mpt_1_1_bn": _BIPROP | _BINARY | _BN,
    "mpt_1_32_recycling": _BIPROP | {"recycling": "highest"},
    "mpt_1_32_recycling_next_lowest": _BIPROP | {"recycling": "next_lowest"},
    "mpt_1_32_iterand": _BIPROP | {"recycling": "random"},
    "edge_popup": _EDGE_POPUP,
    "edge_popup_recycling": _EDGE_POPUP | {"recycling": "highest"},
    "edge_popup_recycling_next_lowest": (
        _EDGE_POPUP | {"recycling": "next_lowest"}
    ),
    "edge_popup_iterand": _EDGE_POPUP | {"recycling": "random"},
}
METHODS = (*SEARCHES, *WAYS)
# What a sweep says itself in every run.
OF_THE_SWEEP = {
    *("recipe", "method", "sparsity", "seed", "binary_activations"),
    *("recycling", "ways", "rounds", "sparsities"),
}


def from_json(content):
    """The experiment of what its `to_json` returned."""
    settings = dict(content)
    return KINDS[settings.pop("kind")](**settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes(Checked):
    """What a sweep varies: every method by every sparsity by every seed."""

    methods: tuple[str, ...] = setting(
        ("mpt_1_32", "edge_popup", "dense"),
        "Methods, each by its own published recipe for whatever is not said. "
        "Those that prune nothing are trained once per seed. The dense network "
        "that ordinary tickets come from is trained once per seed for all of "
        "them, and called unpruned.",
        choices=METHODS,
    )
    sparsities: tuple[float, ...] = setting(
        (0.5,), "Fractions of weights pruned, each in [0, 1).", **FRACTION
    )
    widths: tuple[float, ...] | None = setting(
        None, "Multipliers of every layer's width, as an axis.", **POSITIVE
    )
    seeds: tuple[int, ...] = setting((0,), "Seeds, integers from 0 on.", **SEED)

    def units(self, settings):
        """The runs, every method once before a second seed.

        Args:
            settings: Setting -> value, for all runs in which it has an effect.

        Returns:
            Pairs of a name and an experiment.

        Raises:
            ValueError: If nothing is to be run, or a setting is unknown, the
                sweep's own, or without effect in all of the runs.
        """
        self._check(settings)
        used = set()
        found = {}
        for seed in self.seeds:
            for width in self.widths or (None,):
                for name, cls, own in self._runs(seed, width):
                    try:
                        found[name] = _experiment(cls, own, settings, used)
                    except ValueError as error:
                        raise ValueError(f"{name}: {error}") from error
        idle = sorted(settings.keys() - used)
        if idle:
            raise ValueError(
                f"{idle[0]}={in_words(settings[idle[0]])} has no effect with "
                f"the methods {', '.join(self.methods)}. Leave it out."
            )
        return list(found.items())

    def _check(self, settings):
        for name in ("methods", "sparsities", "seeds"):
            if not getattr(self, name):
                raise ValueError(
                    f"Invalid value for `{name}`. Expected one or more. "
                    "Received: none"
                )
        ways = [name for name in self.methods if name in WAYS]
        if ways and not any(self.sparsities):
            raise ValueError(
                f"Invalid value for `sparsities`. Expected one above 0 for "
                f"{', '.join(ways)}. Received: {in_words(self.sparsities)}"
            )
        if self.widths and "width" in settings:
            raise ValueError("width is one of widths: say only these.")
        known = {
            field.name
            for cls in KINDS.values()
            for field in dataclasses.fields(cls)
        }
        for name in settings:
            if name in OF_THE_SWEEP or name not in known:
                raise ValueError(
                    f"{name} is no setting of a sweep. Expected methods, "
                    "sparsities, widths and seeds, and any of "
                    f"{', '.join(sorted(known - OF_THE_SWEEP))}."
                )

    def _runs(self, seed, width):
        """Name, class and own settings of each run of a seed."""
        common = {"seed": seed} | ({} if width is None else {"width": width})
        end = f"seed{seed}"
        if width not in (None, 1.0):
            end = f"width{width}-{end}"
        ways = tuple(name for name in self.methods if name in WAYS)
        for method in self.methods:
            own = SEARCHES.get(method)
            if own is None:
                continue
            if method.startswith("dense"):
                yield f"{method}-{end}", Search, own | common
                continue
            for sparsity in self.sparsities:
                pruned = {"sparsity": sparsity}
                name = f"{method}-{sparsity}-{end}"
                yield name, Search, own | common | pruned
        pruned = tuple(value for value in self.sparsities if value > 0)
        if ways and pruned:
            own = {"ways": ways, "sparsities": pruned}
            yield f"tickets-{end}", WinningTicket, own | common


def _experiment(cls, own, settings, used):
    """An experiment with those settings that have an effect in it."""
    fields = {field.name for field in dataclasses.fields(cls)}
    settings = {k: v for k, v in settings.items() if k in fields}
    while True:
        experiment = cls(**settings | own)
        try:
            experiment.followed()
        except NoEffectError as error:
            if error.setting not in settings:
                raise
            del settings[error.setting]
        else:
            used.update(settings)
            return experiment
