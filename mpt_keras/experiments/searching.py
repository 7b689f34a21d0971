"""How a `Search` runs: one network, one training, one line."""

import keras

from mpt_keras import callbacks as own_callbacks
from mpt_keras import files, schedules
from mpt_keras.callbacks.backup import AtomicBackup
from mpt_keras.experiments import (
    lines,
    networks,
    optimization,
    recipes,
    running,
    shipping,
    training,
    versions,
)
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.following import in_force_of


def plan(settings):
    """The `running.Plan` of a search by settings that are all said."""
    pruned = "" if settings.sparsity is None else f"-{settings.sparsity}"
    model = settings.model.replace(":", ".")
    return running.Plan(
        f"{settings.dataset}-{model}-{settings.method}{pruned}".replace(
            "/", "_"
        ),
        _begin,
    )


def _begin(prepared):
    network = build(prepared)
    further = _callbacks(prepared.settings)

    def go(path):
        there = lines.read(path / lines.NAME)
        if there:
            AtomicBackup(path / training.BACKUP).remove()
            report(there[-1])
        else:
            _train(network, prepared, path, further)

    return go


def build(prepared, **options):
    """The network that the settings name.

    Args:
        prepared: `preparation.Prepared`.
        **options: Arguments of the network, before those of the settings.

    Raises:
        RunError: If the settings make no network.
    """
    settings = prepared.settings
    options = {
        "width": settings.width,
        "binary_activations": settings.binary_activations,
        "trained_batch_norm": settings.trained_batch_norm,
        "regularizer": optimization.regularizer(settings),
        "seed": settings.seed,
        **prepared.shape,
        **(options or _of_the_method(settings)),
    }
    try:
        with prepared.devices.scope():
            return networks.builder(settings.model)(**options)
    except ValueError as error:
        raise RunError(error) from error
    except TypeError as error:
        if networks.is_own(settings.model):
            raise RunError(
                f"model={settings.model} does not take the arguments of a "
                f"network: {error}. Expected those of mpt_keras.models.conv4."
            ) from error
        raise


def _of_the_method(settings):
    options = {"kernel_seed": settings.kernel_seed}
    if settings.method == "dense":
        return {"masked": False, **options}
    scale_fan = settings.scale_fan
    frozen = {
        name: getattr(settings, name)
        for name in ("frozen_pruned", "frozen_kept")
        if getattr(settings, name)
    }
    return {
        **frozen,
        "sparsity": settings.sparsity,
        "binarize": settings.method == "biprop",
        "kernel_initializer": settings.kernel_initializer,
        "scale_fan": None if scale_fan == "none" else scale_fan,
        **options,
    }


def _callbacks(settings):
    """Those that the search needs beside the optimizer."""
    found = []
    if settings.method == "dense":
        return found
    if settings.global_sparsity:
        # The authors', down from one half.
        start = min(0.5, settings.sparsity)
        ramp = schedules.Polynomial(
            start, settings.sparsity, end=recipes.RAMP_EPOCHS
        )
        found.append(own_callbacks.GlobalSparsity(schedule=ramp))
    if settings.recycling != "none":
        found.append(
            own_callbacks.WeightRecycling(
                settings.recycled_fraction,
                settings.recycling_every,
                settings.recycling,
                settings.recycling_per,
                seed=settings.seed,
            )
        )
    return [*found, own_callbacks.MaskChurn()]


def _train(network, prepared, path, callbacks):
    trained = training.train(network, prepared, path, callbacks)
    if not prepared.devices.writes_files:
        return
    model = keras.models.load_model(path / "last.keras", compile=False)
    settings = prepared.settings
    line = {
        **identity(prepared, settings.method_name(), settings.sparsity),
        "folder": ".",
        **shipping.kept(model),
        **trained.figures,
        **shipping.ship(model, prepared, path),
        "settings": in_force_of(settings),
        "versions": versions.here(),
    }
    files.write_json(path / "result.json", line)
    del line["layers"]
    lines.append(path / lines.NAME, [line])
    trained.backup.remove()
    report(line)


def report(line):
    """One line for the end of a run."""
    pruned = (
        ""
        if line["sparsity"] is None
        else (f", {line['weights_kept']:,} of {line['weights']:,} weights kept")
    )
    best = line["best"]
    chosen = (
        ""
        if best is None
        else (
            f" (after epoch {best['epoch']}, the best by validation: "
            f"{best['test_accuracy']:.2%})"
        )
    )
    size = line["ticket_bytes"]
    small = "" if size is None else f", {size:,} bytes as a ticket"
    print(
        f"{line['model']} on {line['data']}, {line['method']}: test accuracy "
        f"{line['test_accuracy']:.2%}{chosen}{pruned}{small}, "
        f"{line['seconds']} s",
        flush=True,
    )


def identity(prepared, method, sparsity):
    """What tells a line from others."""
    settings = prepared.settings
    return {
        "method": method,
        "sparsity": sparsity,
        "seed": settings.seed,
        "width": settings.width,
        "model": settings.model,
        "data": prepared.images.name,
        "validation": settings.validation,
        "replicas": prepared.devices.replicas,
    }
