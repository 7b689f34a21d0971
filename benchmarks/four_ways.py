"""One seed, one network, trained four ways: which masks come out?

    python benchmarks/four_ways.py --jax_python=.venv-jax/bin/python

runs `examples/quickstart.py` on one device, mirrored on two, by two workers,
and on JAX (if an interpreter that has it is given), and compares the masks and
scores of its two networks with those of the first run. A control tells what
rounding alone does: the first run again, with other convolutions (TensorFlow's
own instead of oneDNN's).
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from absl import app, flags

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 20, "Epochs of every run.")
flags.DEFINE_integer("seed", 0, "Seed of every run.")
flags.DEFINE_string("jax_python", None, "Interpreter with JAX installed.")

_QUICKSTART = pathlib.Path(__file__).parents[1] / "examples" / "quickstart.py"
_NETWORKS = ("binary_weights", "binary_weights_and_activations")


def start(folder, *arguments, python=sys.executable, **environment):
    return subprocess.Popen(
        [
            python,
            _QUICKSTART,
            f"--output_dir={folder}",
            f"--epochs={FLAGS.epochs}",
            f"--seed={FLAGS.seed}",
            "--drop_remainder",
            *arguments,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def two_workers(folder):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in servers]
    for server in servers:
        server.close()
    return [
        start(
            folder,
            "--distribute=multiworker",
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]


def run_all(folder):
    """Way -> its folder."""
    mirrored = ("--distribute=mirrored", "--cpu_devices=2")
    ways = {
        "one device": lambda path: [start(path)],
        "one device, rounded otherwise": lambda path: [
            start(path, TF_ENABLE_ONEDNN_OPTS="0")
        ],
        "mirrored x2": lambda path: [start(path, *mirrored)],
        "two workers": two_workers,
    }
    if FLAGS.jax_python:
        ways["JAX"] = lambda path: [
            start(path, python=FLAGS.jax_python, KERAS_BACKEND="jax")
        ]
    folders = {}
    for way, begin in ways.items():
        folders[way] = folder / way.replace(" ", "_").replace(",", "")
        for process in begin(folders[way]):
            if process.wait():
                sys.exit(f"{way}: the run failed")
    return folders


def found(folder, network):
    model = keras.models.load_model(folder / network / "last.keras")
    layers = mpt.masked_layers(model)
    masks = [np.ravel(layer.mask()) for layer in layers]
    scores = [np.ravel(layer.scores) for layer in layers]
    result = json.loads((folder / network / "result.json").read_text())
    return np.concatenate(masks), np.concatenate(scores), result


def main(_):
    with tempfile.TemporaryDirectory() as folder:
        folders = run_all(pathlib.Path(folder))
        print("| network | way | masks equal | scores differ by | accuracy |")
        print("|---|---|---|---|---|")
        for network in _NETWORKS:
            masks, scores, _ = found(folders["one device"], network)
            for way, path in folders.items():
                own_masks, own_scores, result = found(path, network)
                print(
                    f"| {network} | {way} "
                    f"| {np.mean(own_masks == masks):.4%} "
                    f"| {np.abs(own_scores - scores).max():.2g} "
                    f"| {result['test_accuracy']:.2%} |"
                )


if __name__ == "__main__":
    app.run(main)
