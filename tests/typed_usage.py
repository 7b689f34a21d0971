"""What users write, for mypy: `mypy` reads this file and never runs it."""

import keras
import numpy as np

import mpt_keras as mpt
from mpt_keras import callbacks, experiments, lottery, schedules


def layers() -> keras.Model:
    first = mpt.MPTConv2D(
        32,
        3,
        padding="same",
        activation="relu",
        sparsity=0.8,
        binarize=False,
        input_quantizer=mpt.quantizers.SteSign(clip_value=1.2),
        scores_initializer=mpt.initializers.KaimingUniform(),
        seed=0,
    )
    separable = mpt.MPTSeparableConv2D(8, 3, sparsity=(0.5, 0.9))
    tokens = mpt.MPTEmbedding(100, 8, mask_zero=True, sparsity=0.9)
    steps = mpt.MPTSeparableConv1D(8, 3, 2, "same", sparsity=(0.5, 0.9))
    volume = mpt.MPTConv3DTranspose(4, 2, output_padding=(0, 0, 1))
    print(tokens.kernel.shape, steps.sparsity[0], volume.filters)
    heads = mpt.MPTEinsumDense("btd,dhk->bthk", (None, 2, 8), bias_axes="hk")
    attention = mpt.MPTMultiHeadAttention(2, 8, sparsity={"query": 0.9})
    attention.sparsity = 0.8
    print(attention.projections["query"].sparsity + 1.0)
    grouped = mpt.MPTGroupedQueryAttention(8, 4, 2, dropout=0.1, sparsity=0.9)
    print(grouped.projections)
    last = mpt.MPTDense(10, input_quantizer="approx_sign")
    last.sparsity = 0.9
    print(f"{last.sparsity:.2f}", separable.sparsity[1] + 1.0)
    last.set_mask(np.ones((4, 10), bool))
    sign = mpt.quantizers.ApproxSign(name="sign")
    kept = last.masked_kernels[0].kept()
    print(kept)
    return keras.Sequential([sign, first, separable, heads, last])


def searching(model: keras.Model, images: np.ndarray) -> None:
    ramp = schedules.Polynomial(0.5, 0.95, end=10)
    found: list[keras.callbacks.Callback] = [
        callbacks.GlobalSparsity(schedule=ramp, layers="stage4_*"),
        callbacks.SparsitySchedule(lambda epoch: 0.1 * epoch, per="epoch"),
        callbacks.WeightRecycling(0.2, every=10, source="highest"),
        callbacks.MaskChurn(per_layer=True),
        callbacks.CheckFinite(),
        callbacks.AtomicCheckpoint("last.keras", save_best_only=True),
        callbacks.AtomicBackup("backup", run={"seed": 0}),
    ]
    model.fit(images, callbacks=found)
    masks = mpt.analysis.masks_of(model)
    mpt.analysis.save_masks(masks, "masks.npz")
    mpt.analysis.load_masks(model, "masks.npz")
    agreement: float = mpt.analysis.compare_masks(masks, masks).total.agreement
    print(agreement, len(mpt.masked_layers(model)))
    mpt.freeze(model).export("saved_model")


def networks() -> keras.Model:
    dense = mpt.models.conv4(masked=False, seed=0)
    masked = mpt.models.conv4(sparsity=0.8, binary_activations=True, width=0.5)
    mpt.transfer_weights(dense, masked)
    return mpt.checkpoints.load_biprop("model_best.pth", binarize=True)


def tickets(model: keras.Model) -> float:
    def train(model: keras.Model, level: lottery.Level) -> float:
        model.fit(callbacks=[*level.callbacks, level.backup])
        return 0.5

    search = lottery.TicketSearch(model, train, "folder", lottery.Magnitude())
    tickets = list(search.run(levels=3))
    search.load(tickets[-1])
    drawn = search.control(search.at(0.9), "random_masks", seed=1)
    return drawn.sparsity + search.control(3, "random_masks").sparsity


def many_tasks(model: keras.Model) -> int:
    tasks = mpt.TaskMasks(model)
    tasks.add("digits")
    tasks.add("letters", start="digits")
    tasks.add("others", ticket="others.ticket")
    tasks.switch("digits")
    tasks.pack("letters")
    tasks.remove("others")
    tasks.save("tasks")
    loaded: mpt.TaskMasks = mpt.TaskMasks.load("tasks", max_weights=10**6)
    names: tuple[str, ...] = loaded.names
    print(names, loaded.current, loaded.model.name, len(tasks))
    return sum(row.ticket_bytes for row in loaded.summary().rows)


def shipped(model: keras.Model) -> list[int]:
    mpt.save_ticket(model, "my.ticket", base=None, values_dtype="float16")
    loaded: keras.Model = mpt.load_ticket("my.ticket", max_weights=10**6)
    report = mpt.export(loaded, "my.tflite", format="litert")
    print(mpt.summary("my.ticket").totals.macs, report.bytes)
    ticket: mpt.ticket.Ticket = mpt.ticket.read_ticket("my.ticket")
    return [kernel.bytes for kernel in ticket.kernels.values()]


def packaged() -> keras.Model:
    tickets = mpt.pretrained.list()
    first: mpt.pretrained.PretrainedTicket = tickets[0]
    print(tickets, tickets.markdown(), first.accuracy + first.bits_per_weight)
    print(mpt.pretrained.find("digits_mpt_1_32").path.name)
    return mpt.pretrained.load(first.name)


def run() -> np.ndarray:
    network: mpt.runtime.Network = mpt.runtime.load(
        "my.ticket",
        base="base.ticket",
        threads=2,
        level=mpt.runtime.levels()[0],
    )
    return network(np.zeros((1, *network.input_shape)))


def running() -> float:
    search = experiments.Search(dataset="digits", model="conv2", sparsity=0.8)
    place = experiments.Place(distribute="mirrored")
    result: experiments.Result = search.replace(epochs=2).run("a", place=place)
    found: keras.Model = result.model()
    print(found.name, result.history()[-1]["val_accuracy"])
    row: experiments.Search = experiments.published.SEARCHES["biprop_conv"]
    row.run("b", resume=True, data_dir="data")
    experiments.WinningTicket(ways=("winning_ticket",), rounds=3).run()
    experiments.Distilled(sparsities=(0.9, 0.965), rewind_steps=(500,)).run()
    lines: list[dict] = experiments.sweep(
        "c", methods=["mpt_1_32", "dense"], seeds=[0, 1], engine="ray"
    )
    (table,) = experiments.report("c", baseline="dense")
    print(table.title)
    experiments.compare(["a", "b"], "figures", labels=["one", "other"])
    try:
        experiments.report("none")
    except experiments.RunError as error:
        print(error)
    accuracy: float = lines[0]["test_accuracy"]
    return accuracy
