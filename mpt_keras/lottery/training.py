"""One training of a sub-network, from its start to the files of its ticket."""

from mpt_keras.analysis.masks import save_masks
from mpt_keras.callbacks.backup import AtomicBackup
from mpt_keras.lottery.enforcement import PrunedAverages, apply_masks
from mpt_keras.lottery.kernels import kernel_values
from mpt_keras.lottery.records import (
    MASKS,
    TICKET,
    TRAINING,
    Level,
    read_ticket,
    write_json,
)
from mpt_keras.lottery.rewinding import save_state

TRAINED = "trained.npz"


def train_ticket(
    *, model, train, folder, number, name, masks, first_step, start, seed, dense
):
    """Trains a model under masks, and returns the `Ticket`.

    Args:
        model: Keras model, set to where the training starts.
        train: Function of the model and a `Level`.
        folder: `pathlib.Path` of the ticket.
        number: Rounds of pruning, as of `Level`.
        name: As of `Level`.
        masks: Name of a kernel -> boolean array.
        first_step: As of `Level`.
        start: Text, what `model` was set to.
        seed: Integer, of what was drawn for it.
        dense: The `DenseNetwork` whose states this training keeps, or None.

    Raises:
        ValueError: If the training did not heed the masks, or kept no states.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_masks(masks, folder / MASKS)
    write_json(folder / TRAINING, {"start": start, "seed": seed})
    apply_masks(model, masks)
    savers = dense.state_savers(model) if dense else []
    level = Level(
        number=number,
        name=name,
        first_step=first_step,
        folder=folder,
        callbacks=[PrunedAverages(), *savers],
        backup=AtomicBackup(
            folder / "backup", run={"number": number, "name": name}
        ),
    )
    result = train(model, level)
    try:
        if dense:
            dense.check_states()
        _check_pruned(model, masks)
    except ValueError:
        # Or a mended `train` would find its work done, and fail again.
        level.backup.remove()
        raise
    save_state(model, folder / TRAINED)
    layers = {
        kernel: {"weights": mask.size, "kept": int(mask.sum())}
        for kernel, mask in masks.items()
    }
    content = {"layers": layers, "result": result}
    write_json(folder / TICKET, {"number": number, "name": name} | content)
    level.backup.remove()
    return read_ticket(folder)


def _check_pruned(model, masks):
    trained = [
        name
        for name, kernel in kernel_values(model).items()
        if kernel[~masks[name]].any()
    ]
    if trained:
        raise ValueError(
            f"Weights that are pruned were trained, in {trained}. Expected a "
            "`train` that compiles the model anew and trains it with `fit` and "
            "level.callbacks, or with `optimizer.apply`, which heeds "
            "constraints. Mend it and run again: the training begins anew."
        )
