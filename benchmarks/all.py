"""The short form of every benchmark, and its rows in one file.

    python benchmarks/all.py
    python benchmarks/all.py --only=selection,inference --lines=figures.jsonl
    python benchmarks/all.py --only=training_step -- --rounds=25

Each runs in a process of its own. Each row becomes one line of JSON at the end
of the file, with the benchmark, its flags and the machine, so that figures of
several machines can stand in one file. What follows `--` goes to every
benchmark. One that fails is named, the others go on, and the exit status is 1.

Few rounds: for a first look at a machine, and no figures to publish. Without
`ticket_size.py`, which needs the files of searches, and `four_ways.py`,
`signs.py` and `converted.py`, which compare something else than a time with
another.
"""

import pathlib
import subprocess
import sys
import time

from absl import app, flags

_COMMANDS = [
    line.split()
    for line in """
    selection --rounds=3 --warmup=1
    scaling --rounds=5 --warmup=1
    training_step --network=resnet18 --batch_size=32 --rounds=9
    training_step --network=conv4 --batch_size=128 --rounds=9
    training_step --network=dense --batch_size=128 --rounds=9
    training_step --network=transformer_block --batch_size=32 --rounds=9
    inference --network=resnet18 --batch_size=32 --rounds=9
    inference --network=conv4 --batch_size=128 --rounds=9
    first_step --network=resnet18 --batch_size=32 --rounds=1 --warmup=0
    first_step --network=conv4 --batch_size=128 --rounds=1 --warmup=0
    first_step --network=dense --batch_size=128 --rounds=1 --warmup=0
    first_step --network=mobilenet_v2 --batch_size=32 --rounds=1 --warmup=0
    eager_call --network=resnet18 --rounds=5 --warmup=1
    eager_call --network=conv4 --rounds=5 --warmup=1
    drawing --rounds=1 --warmup=0
    memory --network=resnet18 --batch_size=32 --rounds=1
    memory --network=conv4 --batch_size=128 --rounds=1
    memory --network=dense --batch_size=128 --rounds=1
    input_pipeline --rounds=3 --warmup=1
    engines --network=conv4 --rounds=20
    runtime --networks=vgg_small:1/1:75,conv4:1/32:80 --rounds=5
    runtime_start --rounds=1 --warmup=1 --networks=conv4:1/32:80
    runtime_scaling --networks=conv4:1/32 --percents=0,90 --widths=0.5,1
    ticket_files --network=resnet18 --rounds=3 --warmup=1
    """.strip().splitlines()
]
_NAMES = sorted({name for name, *_ in _COMMANDS})

FLAGS = flags.FLAGS
flags.DEFINE_list("only", _NAMES, "Benchmarks, by the names of their files.")
flags.DEFINE_string("lines", "benchmarks.jsonl", "File of the rows.")
flags.register_validator(
    "only",
    lambda names: set(names) <= set(_NAMES),
    f"Expected some of {', '.join(_NAMES)}.",
)


def main(arguments):
    lines = f"--lines={pathlib.Path(FLAGS.lines).absolute()}"
    folder = pathlib.Path(__file__).parent
    commands = [words for words in _COMMANDS if words[0] in FLAGS.only]
    failed = []
    began = time.perf_counter()
    for number, (name, *options) in enumerate(commands, 1):
        command = " ".join([name, *options, *arguments[1:]])
        print(f"[{number}/{len(commands)}] {command}", flush=True)
        start = time.perf_counter()
        run = subprocess.run(
            [
                *(sys.executable, folder / f"{name}.py"),
                *(*options, lines, *arguments[1:]),
            ],
            capture_output=True,
            text=True,
        )
        print(run.stdout, end="")
        if run.returncode:
            failed.append(command)
            print(run.stderr, end="")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
    print(f"{time.perf_counter() - began:.0f} s in all, rows in {FLAGS.lines}")
    if failed:
        sys.exit("\n".join(["Failed:", *failed]))


if __name__ == "__main__":
    app.run(main)
