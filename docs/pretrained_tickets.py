"""The tickets of the package: trains them, packs them, writes their tables.

    python docs/pretrained_tickets.py --train --runs=runs --data_dir=data
    python docs/pretrained_tickets.py --runs=runs --data_dir=data

The first trains what is missing among the folders of `--runs`, one run after
another, and continues what was interrupted. The second takes the runs that are
finished, wherever they lie in these folders (they are known by their settings),
copies their tickets into the package, measures the files' accuracies, and
writes `mpt_keras/pretrained_tickets/table.json` and the table of
`docs/pretrained.md`; what is packed already and has no run there stays.
`--only=NAME,...` does either for some, in this order.
"""

import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys

import keras
from absl import app, flags

from mpt_keras import files, pretrained
from mpt_keras.experiments import Place, RunError, Search
from mpt_keras.experiments.classifying import right
from mpt_keras.experiments.following import in_force_of
from mpt_keras.ticket import (
    load_ticket,
    packaged,
    read_ticket,
    save_ticket,
)

FLAGS = flags.FLAGS

flags.DEFINE_list("runs", ["runs"], "Folders that hold folders of runs.")
flags.DEFINE_bool("train", False, "Train what is missing, in the first.")
flags.DEFINE_list("only", None, "Names of tickets.")
flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets.")
flags.DEFINE_string("images", None, "Or a .npz file of images.")

_ROOT = pathlib.Path(__file__).parents[1]
_DOCUMENT = _ROOT / "docs" / "pretrained.md"
_BEGIN, _END = "<!-- pretrained tickets -->\n", "<!-- end -->\n"

_JPEG = "CIFAR-10, a JPEG copy"
_NUMBERS = tuple("0123456789")
_OBJECTS = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog"),
    *("horse", "ship", "truck"),
)
_DATA = {
    "digits": ("scikit-learn's digits", "uint8 (8, 8, 1), 0 to 16", _NUMBERS),
    "mnist": ("MNIST", "uint8 (28, 28, 1), 0 to 255", _NUMBERS),
    "cifar10": (_JPEG, "uint8 (32, 32, 3), 0 to 255", _OBJECTS),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A ticket, the search that finds it, and the dense network beside it."""

    name: str
    card: str
    network: str
    search: Search
    dense: Search


def _row(name, card, network, dense=(), **settings):
    """`dense`: what the dense network is trained with that is not usual."""
    search = Search(**settings)
    shared = ("dataset", "model", "width", "epochs", "seed", "validation")
    shared += ("mixed_precision",)
    dense = Search(
        method="dense",
        **{key: getattr(search, key) for key in shared},
        **dict(dense),
    )
    return Row(name, card, network, search, dense)


_DIGITS = {"dataset": "digits", "model": "conv2", "width": 0.25, "epochs": 60}
_MNIST = {"dataset": "mnist", "validation": 0.0, "epochs": 20}
# Of a network of one's own no recipe is published.
_SMALL = {"batch_size": 128, "score_decay": 0.0}
_TWO = {"model": "small_networks:two_convolutions", **_SMALL}
_ADAM = {"optimizer": "adam", "learning_rate": 1e-3, **_SMALL}
_CIFAR10 = {
    "dataset": "cifar10",
    "validation": 0.0,
    "mixed_precision": "bfloat16",
}
_CONV4 = {"model": "conv4", "epochs": 40, **_CIFAR10}
_CONV6 = {"model": "conv6", "epochs": 20, **_CIFAR10}

ROWS = (
    _row(
        "digits_mpt_1_32",
        "Handwritten digits of 8x8 pixels, binary weights.",
        "Conv-2, width 0.25",
        **_DIGITS,
    ),
    _row(
        "digits_mpt_1_1",
        "Handwritten digits of 8x8 pixels, binary weights and activations.",
        "Conv-2, width 0.25",
        binary_activations=True,
        **_DIGITS,
    ),
    _row(
        "mnist_lenet_300_100",
        "Handwritten digits, binary weights, no convolution.",
        "LeNet-300-100",
        model="lenet_300_100",
        sparsity=0.5,
        **_MNIST,
    ),
    _row(
        "mnist_conv_1_32",
        "Handwritten digits, binary weights.",
        "two convolutions, width 2",
        _ADAM,
        optimizer="sgd",
        learning_rate=0.1,
        width=2.0,
        sparsity=0.75,
        **_TWO,
        **_MNIST,
    ),
    _row(
        "mnist_conv_1_1",
        "Handwritten digits, binary weights and activations.",
        "two convolutions, width 2",
        _ADAM,
        binary_activations=True,
        optimizer="adam",
        learning_rate=0.01,
        width=2.0,
        sparsity=0.75,
        **_TWO,
        **_MNIST,
    ),
    _row(
        "cifar10_conv4_50",
        "Small color photos, binary weights, half of them pruned.",
        "Conv-4",
        sparsity=0.5,
        **_CONV4,
    ),
    _row(
        "cifar10_conv4_80",
        "Small color photos, binary weights, four fifths of them pruned.",
        "Conv-4",
        sparsity=0.8,
        **_CONV4,
    ),
    _row(
        "cifar10_conv6_50",
        "Small color photos, binary weights, half of them pruned.",
        "Conv-6",
        sparsity=0.5,
        **_CONV6,
    ),
    _row(
        "cifar10_conv6_80",
        "Small color photos, binary weights, four fifths of them pruned.",
        "Conv-6",
        sparsity=0.8,
        **_CONV6,
    ),
    _row(
        "cifar10_resnet20",
        "Small color photos, binary weights, trained batch norms.",
        "ResNet-20",
        model="resnet20",
        trained_batch_norm=True,
        sparsity=0.5,
        epochs=15,
        **_CIFAR10,
    ),
    _row(
        "cifar10_vgg_small_1_1",
        "Small color photos, binary weights and activations, trained batch "
        "norms.",
        "VGG-Small, width 0.25",
        model="vgg_small",
        width=0.25,
        trained_batch_norm=True,
        binary_activations=True,
        sparsity=0.5,
        epochs=12,
        **_CIFAR10,
    ),
)


def search_words(search):
    """What runs it, behind `mpt-keras`."""
    return [
        "search",
        *(
            f"--{key}" if value is True else f"--{key}={value}"
            for key, value in search.said().items()
        ),
    ]


def command(search, name):
    """What a reader types to run it."""
    words = ["mpt-keras", *search_words(search)]
    if search.dataset != "digits":
        words.append("--data_dir=data")
    return " ".join([*words, f"--output_dir=runs/{name}"])


def place(search):
    if search.dataset == "digits":
        return Place()
    return Place(data_dir=FLAGS.data_dir, images=FLAGS.images)


# --- Runs -----------------------------------------------------------------


def finished_run(search):
    """The folder of the finished run with these settings, or None."""
    wanted = json.loads(json.dumps(in_force_of(search.followed().settings)))
    for root in FLAGS.runs:
        for result in sorted(pathlib.Path(root).glob("*/result.json")):
            try:
                run = json.loads((result.parent / "run.json").read_text())
                settings = dict(run["settings"])
            except (OSError, ValueError, TypeError, KeyError) as error:
                print(f"{result.parent}: left out, run.json: {error}")
                continue
            if wanted == {key: settings.get(key) for key in wanted}:
                return result.parent
    return None


def train(row):
    """Runs what is not finished; returns the names of runs that failed."""
    runs = {row.name: row.search, f"{row.name}_dense": row.dense}
    return [
        name
        for name, search in runs.items()
        if finished_run(search) is None and run(search, name) != 0
    ]


def run(search, name):
    """Runs a search in a process of its own; returns its exit status."""
    folder = pathlib.Path(FLAGS.runs[0]).absolute() / name
    words = [*search_words(search), f"--output_dir={folder}", "--resume"]
    for key in ("data_dir", "images"):
        value = getattr(place(search), key)
        if value is not None:
            words.append(f"--{key}={pathlib.Path(value).absolute()}")
    print(f"{name}: mpt-keras {' '.join(words)}", flush=True)
    words.append("--verbose=2")
    script = (
        "import sys; from mpt_keras.command_line import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=_ROOT / "examples",  # where small_networks.py stands
        check=False,
    ).returncode


# --- The package ----------------------------------------------------------


def packed(row):
    """A ticket as it was measured, and its file's bytes; None without runs."""
    run, dense = finished_run(row.search), finished_run(row.dense)
    if run is None or dense is None:
        return None
    settings = row.search.followed().settings
    path = run / "network.ticket"
    if settings.mixed_precision != "none":
        model = keras.models.load_model(run / "last.keras", compile=False)
        path = run / "float32.ticket"
        save_ticket(in_float32(model), path)
    data = path.read_bytes()
    kernels = read_ticket(path).kernels.values()
    of_data, pixels, classes = _DATA[row.search.dataset]
    found, count = right(load_ticket(path), settings.dataset, place(settings))
    dense_model = keras.models.load_model(dense / "last.keras", compile=False)
    dense_found, _ = right(dense_model, settings.dataset, place(settings))
    ticket = packaged.PretrainedTicket(
        name=row.name,
        card=row.card,
        network=row.network,
        data=of_data,
        dataset=settings.dataset,
        pixels=pixels,
        classes=classes,
        sparsity=settings.sparsity,
        binary_activations=settings.binary_activations,
        epochs=settings.epochs,
        accuracy=found / count,
        dense_accuracy=dense_found / count,
        test_images=count,
        weights=sum(kernel.size for kernel in kernels),
        weights_kept=sum(kernel.kept for kernel in kernels),
        bytes=len(data),
        command=command(row.search, row.name),
        dense_command=command(row.dense, f"{row.name}_dense"),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return ticket, data


def in_float32(model):
    """The same weights, all of them float32, without mixed precision.

    `mpt_keras.runtime` computes nothing else.
    """
    text = json.dumps(keras.saving.serialize_keras_object(model))
    for name in ("mixed_bfloat16", "mixed_float16"):
        text = text.replace(f'"{name}"', '"float32"')
    same = keras.saving.deserialize_keras_object(json.loads(text))
    same.set_weights(model.get_weights())
    return same


def write_tables(tickets):
    rows = [dataclasses.asdict(ticket) for ticket in tickets]
    files.write_json(packaged.FOLDER / packaged.TABLE, rows)
    text = _DOCUMENT.read_text(encoding="utf-8")
    files.write_text(_DOCUMENT, with_table(text))


def with_table(text):
    """The document with the table of what the package has."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"'{_DOCUMENT}' has no {_BEGIN} ... {_END}.")
    table = pretrained.list().markdown()
    return f"{before}{begin}\n{table}\n{end}{after}"


def main(_):
    rows = {row.name: row for row in ROWS}
    unknown = set(FLAGS.only or ()) - rows.keys()
    if unknown:
        raise RunError(
            f"Expected --only=NAME,... of {', '.join(rows)}. Received: "
            f"{', '.join(sorted(unknown))}"
        )
    chosen = [rows[name] for name in FLAGS.only or rows]
    if FLAGS.train:
        failed = [name for row in chosen for name in train(row)]
        if failed:
            raise RunError(f"These runs failed: {', '.join(failed)}.")
        return
    known = {}
    if (packaged.FOLDER / packaged.TABLE).exists():
        known = {ticket.name: ticket for ticket in packaged.tickets()}
    data = {}
    for row in chosen:
        found = packed(row)
        if found is None:
            print(f"{row.name}: no finished runs of it and its dense network")
            continue
        known[row.name], data[row.name] = found
        print(known[row.name])
    # Not before all are measured: the table must be that of the files.
    for name in data:
        files.write_whole(known[name].path, data[name])
    write_tables([known[row.name] for row in ROWS if row.name in known])


if __name__ == "__main__":
    try:
        app.run(main)
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"pretrained_tickets.py: {error}")
