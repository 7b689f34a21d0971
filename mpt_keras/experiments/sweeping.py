"""One command for all methods: what a sweep is asked for, run and reported."""

import dataclasses
import os
import typing

from mpt_keras.experiments.many_runs import ENGINES, run_sweep
from mpt_keras.experiments.methods import KINDS, Axes
from mpt_keras.experiments.place import Place
from mpt_keras.experiments.reporting import report
from mpt_keras.experiments.settings import (
    NOT_NEGATIVE,
    Checked,
    integer_from,
    setting,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine(Checked):
    """Who trains the runs of a sweep."""

    engine: str = setting(
        "local",
        "This machine, or an existing Ray cluster whose nodes all see the "
        "sweep's folder.",
        choices=ENGINES,
    )
    jobs: int = setting(
        1, "Runs at the same time, on this machine.", **integer_from(1)
    )
    address: str | None = setting(
        None,
        "Of the Ray cluster, as ray.init takes it; by default the one that "
        "RAY_ADDRESS names, or that runs on this machine.",
    )
    cpus: int = setting(1, "CPUs for each run, on Ray.", **integer_from(0))
    gpus: float = setting(0.0, "GPUs for each run, on Ray.", **NOT_NEGATIVE)


def sweep(
    folder: str | os.PathLike,
    axes: Axes | None = None,
    engine: Engine | str | None = None,
    place: Place | None = None,
    **given: typing.Any,
) -> list[dict]:
    """Trains methods x sparsities x widths x seeds, and reports.

    A finished run is never repeated; the same sweep continues one that was
    interrupted, and one with more methods, sparsities, widths or seeds adds
    to it.

    Args:
        folder: Path of the sweep's folder.
        axes: `Axes`; or their fields (`methods`, `sparsities`, `widths`,
            `seeds`) among `given`.
        engine: `Engine`, or its name; its other fields may be in `given`.
        place: `Place`, or its fields in `given`.
        **given: Settings of all runs in which they have an effect, such as
            `model="conv4"`, `epochs=10`.

    Returns:
        The lines of all trainings, dictionaries.

    Raises:
        RunError: If the sweep cannot start, was stopped, or a run has failed;
            the others are finished before.
        ValueError: If the settings make no sweep.

    Example:

    >>> lines = sweep(  # doctest: +SKIP
    ...     "sweeps/a", methods=["mpt_1_32", "winning_ticket"],
    ...     sparsities=[0.5, 0.8], seeds=[0, 1], dataset="digits",
    ... )
    >>> sweep("sweeps/b", methods=["dense"], scale_fan="paper")
    Traceback (most recent call last):
    ValueError: scale_fan=paper has no effect with the methods dense. Leave ...
    """
    if isinstance(engine, str):
        given["engine"], engine = engine, None
    axes = _of_fields(Axes, axes, given)
    engine = _of_fields(Engine, engine, given)
    place = _of_fields(Place, place, given)
    found = run_sweep(
        axes.units(given),
        folder,
        place,
        settings=_checked(given),
        **dataclasses.asdict(engine),
    )
    report(folder)
    return found


def _checked(given):
    """Settings as an experiment has them, which JSON can say."""
    found = {}
    for name, value in given.items():
        cls = next(one for one in KINDS.values() if hasattr(one, name))
        found[name] = getattr(cls(**{name: value}), name)
    return found


def _of_fields(cls, there, given):
    """An object of settings, changed by what is taken out of `given`."""
    own = {
        field.name: given.pop(field.name)
        for field in dataclasses.fields(cls)
        if field.name in given
    }
    return cls(**own) if there is None else dataclasses.replace(there, **own)
