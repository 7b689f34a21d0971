import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from backend import needs_tensorflow

import mpt_keras as mpt
from mpt_keras import command_line, engines, runtime, summaries
from mpt_keras.command_line import main
from mpt_keras.commands import bench, export, summary


def network(seed=0):
    return mpt.models.conv2(
        width=0.1, classes=3, input_shape=(8, 8, 1), seed=seed
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network as a masked and a frozen model and as a ticket."""
    folder = tmp_path_factory.mktemp("files")
    model = network()
    model.save(folder / "masked.keras")
    mpt.freeze(model).save(folder / "frozen.keras")
    mpt.save_ticket(model, folder / "network.ticket")
    mpt.freeze(network(seed=1)).save(folder / "other.keras")
    return folder


def fails(capsys, *arguments, status=1):
    """Runs a command that fails; returns the one line that it says."""
    assert main([str(argument) for argument in arguments]) == status
    (line,) = capsys.readouterr().err.splitlines()
    return line


def prints(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def in_a_process(script):
    return subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
    )


def test_help_imports_nothing():
    script = (
        "import sys\n"
        "from mpt_keras.command_line import main\n"
        "commands = 'pretrained summary export verify bench'.split()\n"
        "for command in ([], *([name] for name in commands)):\n"
        "    try:\n"
        "        main([*command, '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0\n"
        "heavy = {'keras', 'numpy', 'rich', 'tensorflow', 'jax', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    found = in_a_process(script)
    assert found.stdout.count("usage: mpt-keras") == 6


def test_help_of_experiments_imports_no_backend():
    script = (
        "import sys\n"
        "from mpt_keras.command_line import EXPERIMENTS, main\n"
        "for name in EXPERIMENTS:\n"
        "    try:\n"
        "        main([name, '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0\n"
        "heavy = {'keras', 'numpy', 'tensorflow', 'jax', 'torch', 'sklearn'}\n"
        "heavy |= {'matplotlib', 'ray', 'tensorflow_datasets', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    found = in_a_process(script)
    for name in command_line.EXPERIMENTS:
        assert f"usage: mpt-keras {name} " in found.stdout
    words = " ".join(found.stdout.split())
    assert "Fraction of weights pruned, in [0, 1). Usual: 0.5." in words
    assert "--methods METHODS" in words
    assert "--output_dir OUTPUT_DIR" in words


def test_formats_are_the_engines():
    from mpt_keras.engines.benchmarking import VARIANTS

    assert set(export.FORMATS) == set(engines.ENGINES)
    names = [name.replace("-", " ") for name in bench.VARIANTS]
    assert set(names) == set(VARIANTS)
    assert summary._NARROWEST == summaries._NARROWEST


@pytest.mark.parametrize("name", ["masked.keras", "network.ticket"])
def test_summary(name, folder, capsys):
    printed = prints(capsys, "summary", folder / name)
    found = summaries.summary(folder / name, print_fn=None)
    assert printed == f"{found}\n"
    narrow = prints(capsys, "summary", folder / name, "--width", 90)
    assert max(map(len, narrow.splitlines())) <= 90


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "network.ticket",
            (
                "whole, and its kernels are those that were saved",
                "its frozen form predict the same bits for 8",
                "same as the frozen network for 8 inputs",
            ),
        ),
        ("masked.keras", ["its frozen form predict the same bits for 8"]),
        ("frozen.keras", ["predicts numbers for 8 random inputs"]),
    ],
)
def test_verify(name, says, folder, capsys):
    found = prints(capsys, "verify", folder / name)
    for sentence in says:
        assert sentence in found


def test_verify_says_what_the_runtime_does_not_run(capsys, tmp_path):
    layers = [keras.Input((4, 3)), keras.layers.LSTM(2), mpt.MPTDense(2)]
    mpt.save_ticket(keras.Sequential(layers), tmp_path / "network.ticket")
    found = prints(capsys, "verify", tmp_path / "network.ticket")
    assert "mpt_keras.runtime does not run it. Layer 'lstm' (LSTM)" in found


def test_verify_compares_the_runtime(folder, capsys, monkeypatch):
    path = folder / "network.ticket"

    def one_class(path):
        return lambda images: np.eye(3)[np.zeros(len(images), int)]

    monkeypatch.setattr(runtime, "load", one_class)
    line = fails(capsys, "verify", path)
    assert "mpt_keras.runtime and the frozen network" in line
    assert "do not predict the same" in line


def test_verify_where_rounding_decides(capsys, tmp_path):
    """Signs of sums of as many +1 as -1."""
    model = mpt.models.vgg_small(
        binary_activations=True, width=0.1, input_shape=(8, 8, 1), seed=0
    )
    mpt.save_ticket(model, tmp_path / "network.ticket")
    found = prints(capsys, "verify", tmp_path / "network.ticket")
    assert "rounding decides its sign" in found


def test_verify_compares_files(folder, capsys, tmp_path):
    ticket = folder / "network.ticket"
    found = prints(
        capsys, "verify", ticket, "--against", folder / "frozen.keras"
    )
    assert "by up to 0 for 8 random inputs" in found
    assert "same predicted class: 100.0%" in found
    other = folder / "other.keras"
    line = fails(capsys, "verify", ticket, "--against", other)
    assert "do not predict the same" in line
    assert "`--tolerance` sets" in line
    found = prints(
        capsys, "verify", ticket, "--against", other, "--tolerance", 9
    )
    assert "ULP" in found


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_given_inputs(kind, folder, capsys, tmp_path, rng):
    x = rng.standard_normal((5, 8, 8, 1))
    path = tmp_path / f"data.{kind}"
    if kind == "npy":
        np.save(path, x)
    else:
        np.savez(path, images=x)
    found = prints(capsys, "verify", folder / "masked.keras", "--inputs", path)
    assert "for 5 given inputs" in found
    np.save(tmp_path / "wrong.npy", x[..., 0])
    line = fails(
        capsys,
        *("verify", folder / "masked.keras"),
        *("--inputs", tmp_path / "wrong.npy"),
    )
    assert "Expected a batch as the model takes it" in line
    np.save(tmp_path / "code.npy", np.array([object()]), allow_pickle=True)
    line = fails(
        capsys,
        *("verify", folder / "masked.keras"),
        *("--inputs", tmp_path / "code.npy"),
    )
    assert "pickle" in line


def test_inputs_by_name(capsys, tmp_path, rng):
    one, two = keras.Input((2,), name="one"), keras.Input((3,), name="two")
    joined = keras.layers.Concatenate()([one, two])
    model = keras.Model([two, one], mpt.MPTDense(2)(joined))
    model.save(tmp_path / "two.keras")
    np.savez(tmp_path / "x.npz", one=np.ones((4, 2)), two=np.ones((4, 3)))
    found = prints(
        capsys,
        *("verify", tmp_path / "two.keras"),
        *("--inputs", tmp_path / "x.npz"),
    )
    assert "for 4 given inputs" in found
    np.savez(tmp_path / "y.npz", two=np.ones((4, 3)), three=np.ones((4, 2)))
    line = fails(
        capsys,
        *("verify", tmp_path / "two.keras"),
        *("--inputs", tmp_path / "y.npz"),
    )
    assert "with the keys ['two', 'one']" in line


@needs_tensorflow
def test_export_and_verify(folder, capsys, tmp_path):
    served = tmp_path / "served"
    found = prints(
        capsys,
        *("export", folder / "network.ticket", "--format", "saved_model"),
        *("--output", served),
    )
    assert "(saved_model)" in found
    ticket = folder / "network.ticket"
    assert "same predicted class: 100.0%" in prints(
        capsys, "verify", ticket, "--against", served
    )
    line = fails(
        capsys,
        *("export", ticket, "--format", "saved_model", "--output", served),
        *("--option", "weights=int8"),
    )
    assert "has no option 'weights'" in line
    line = fails(
        capsys,
        *("export", ticket, "--format", "saved_model", "--output", served),
        *("--option", "weights"),
    )
    assert "Expected NAME=VALUE" in line


@needs_tensorflow
def test_an_export_does_not_overwrite_its_network(folder, capsys, tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes((folder / "masked.keras").read_bytes())
    before = path.read_bytes()
    options = ("--format", "hls4ml", "--output", path)
    assert "`--output`" in fails(capsys, "export", path, *options)
    assert path.read_bytes() == before


@needs_tensorflow
def test_bench(folder, capsys, tmp_path, monkeypatch):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))  # and back again
    found = prints(
        capsys,
        *("bench", "--formats", "saved_model,runtime"),
        folder / "network.ticket",
        *("--rounds", 1, "--output", tmp_path / "exports"),
    )
    assert "1 thread, medians of 1" in found
    assert [line.split()[0] for line in found.splitlines()[1:]] == [
        *("format", "keras", "saved_model", "runtime")
    ]
    assert (tmp_path / "exports" / "saved_model").is_dir()


def test_updates(folder, capsys, tmp_path):
    model = network()
    update = tmp_path / "update.ticket"
    mpt.save_ticket(model, update, base=folder / "network.ticket")
    line = fails(capsys, "verify", update)
    assert "saved against another ticket" in line
    found = prints(
        capsys, "verify", update, "--base", folder / "network.ticket"
    )
    assert "whole" in found
    assert "an update, which mpt_keras.runtime does not run" in found


# --- Bad input ------------------------------------------------------------


def test_bad_files_are_one_line(folder, capsys, tmp_path):
    assert "nowhere" in fails(capsys, "verify", tmp_path / "nowhere")
    assert "nowhere" in fails(capsys, "summary", tmp_path / "nowhere.keras")
    data = bytearray((folder / "network.ticket").read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    assert "damaged" in fails(capsys, "verify", tmp_path / "damaged")
    (tmp_path / "text.keras").write_text("no archive")
    assert "text.keras" in fails(capsys, "verify", tmp_path / "text.keras")
    line = fails(
        capsys,
        *("verify", folder / "network.ticket"),
        *("--against", tmp_path / "nowhere.tflite"),
    )
    assert "There is no file" in line


@pytest.mark.parametrize("left", [0, 1, 0.5])
def test_damaged_keras_files(left, folder, capsys, tmp_path):
    data = (folder / "masked.keras").read_bytes()
    cut = len(data) // 2 if left == 0.5 else left
    (tmp_path / "cut.keras").write_bytes(data[:cut])
    for command in ("summary", "verify"):
        line = fails(capsys, command, tmp_path / "cut.keras")
        assert "cut.keras' is damaged" in line


@pytest.mark.parametrize(
    "data",
    [b"\x1c\0\0\0TFL3" + bytes(99), b"PK\3\4" + bytes(99), b"some text" * 9],
)
def test_files_of_other_tools(data, capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "other").write_bytes(data)
    (tmp_path / "folder.keras").mkdir()
    for path in (
        *(tmp_path, tmp_path / "folder.keras"),
        *(tmp_path / "x.npy", tmp_path / "other"),
    ):
        for command in ("summary", "verify"):
            line = fails(capsys, command, path)
            assert f"'{path}' is neither a .keras file nor a ticket" in line
            assert "verify MODEL --against EXPORT" in line


def test_what_a_model_may_not_predict(capsys, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.layers[0].bias.assign([0.0, np.nan])
    model.save(tmp_path / "sick.keras")
    assert "predicts NaN" in fails(capsys, "verify", tmp_path / "sick.keras")


@pytest.mark.parametrize(
    ("error", "says", "status"),
    [
        (KeyboardInterrupt(), "mpt-keras: interrupted", 130),
        (ValueError("one\n  two"), "mpt-keras: error: one two", 1),
        (KeyError("key"), "mpt-keras: error: KeyError: 'key'", 1),
        (ValueError(), "mpt-keras: error: ValueError", 1),
    ],
)
def test_errors_are_one_line(error, says, status, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(summaries, "summary", fail)
    assert fails(capsys, "summary", "file", status=status) == says


def test_long_errors_are_cut_in_their_middle(monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise ValueError("a" * 5000 + "cause")

    monkeypatch.setattr(summaries, "summary", fail)
    line = fails(capsys, "summary", "file")
    assert len(line) < 1100
    assert line.endswith("cause")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["summary"],
        ["export", "file", "--format", "gif", "--output", "x"],
        ["bench", "file", "--threads", "many"],
        ["bench", "--formats", "litert,gif", "file"],
        ["bench", "--formats", "litert", "onnx", "file"],
        ["verify", "file", "--tolerance", "nan"],
        ["verify", "file", "--tolerance=-1"],
        ["verify", "file", "--tolerance", "little"],
        ["summary", "file", "--width=-5"],
        ["summary", "file", "--width", "39"],
    ],
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: mpt-keras" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "--sparsity=1"], "`sparsity`. Expected a number in [0, 1)"),
        (["search", "--epochs=many"], "flag --epochs=many: invalid literal"),
        (["search", "--nothing=1"], "unrecognized arguments: --nothing=1"),
        (["search", "--method=mpt"], "value should be one of <biprop|"),
        (["search", "--model=conv5"], "`model`. Expected one of conv2, conv4"),
        (["search", "digits"], "unrecognized arguments: digits"),
        (
            ["tickets", "--sparsities=0.5,a"],
            "separated by commas. Received: 'a",
        ),
        (["distil", "--ways=kd"], "`ways`. Expected one of winning_ticket"),
        (["sweep"], "--output_dir is missing"),
        (["sweep", "--methods=mpt"], "`methods`. Expected one of dense"),
        (["sweep", "--sparsity=0.5"], "unrecognized arguments: --sparsity"),
        (["report"], "the following arguments are required: SOURCE"),
        (["compare", "a"], "are required: --output_dir"),
    ],
    ids=" ".join,
)
def test_usage_of_experiments(arguments, says, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    usage, *_, error = capsys.readouterr().err.splitlines()
    assert usage.startswith(f"usage: mpt-keras {arguments[0]} ")
    assert error.startswith(f"mpt-keras {arguments[0]}: error: ")
    assert says in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "--momentum=0.5", "--optimizer=adam"], "has no effect"),
        (["search", "--resume"], "To resume a run, name its folder."),
        (["search", "--data_dir=nowhere"], "No prepared cifar10 in"),
        (["search", "--images=nowhere.npz"], "nowhere.npz"),
        (["search", "--recipe=lottery_fc"], "for this kind of run"),
        (["distil", "--ways=retraining"], "Expected a step above 0"),
        (["sweep", "--output_dir=a", "--draws=2"], "draws=2 has no effect"),
        (["report", "nowhere"], "nowhere"),
        (["compare", "nowhere", "--output_dir=a"], "nowhere"),
    ],
    ids=" ".join,
)
def test_refused_experiments(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in fails(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_nobody_else_says_anything(folder):
    quiet = {k: v for k, v in os.environ.items() if "LOG_LEVEL" not in k}
    script = "import sys; from mpt_keras.command_line import main; "
    script += "sys.exit(main(sys.argv[1:]))"
    path = folder / "masked.keras"
    found = subprocess.run(
        [sys.executable, "-c", script, "verify", path],
        check=True,
        capture_output=True,
        text=True,
        env=quiet,
    )
    assert found.stderr == ""
    assert found.stdout.startswith(str(path))


@needs_tensorflow
def test_streams_that_encode_little(folder, tmp_path):
    path = tmp_path / "網.keras"
    path.write_bytes((folder / "masked.keras").read_bytes())
    export = ["export", path, "--format", "saved_model", "--output"]
    commands = (
        ["summary", path],
        ["verify", path],
        [*export, tmp_path / "網"],
    )
    arguments = ascii([list(map(str, command)) for command in commands])
    script = "import sys; from mpt_keras.command_line import main\n"
    script += "for command in eval(sys.argv[1]): assert not main(command)"
    found = subprocess.run(
        [sys.executable, "-c", script, arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    printed = found.stdout.decode("cp1252")
    assert "------" in printed
    assert printed.count("\\u7db2") >= 3
    assert "u2500" not in printed


def test_formats_are_separated_by_commas():
    arguments = ["bench", "--formats", "litert,litert-int8", "file"]
    options = command_line._parser().parse_args(arguments)
    assert options.formats == ["litert", "litert-int8"]
    assert str(options.file) == "file"


@pytest.mark.parametrize("option", ["format=onnx", "path=x", "model=1"])
def test_options_that_are_arguments(option, folder, capsys, tmp_path):
    line = fails(
        capsys,
        *("export", folder / "frozen.keras", "--format", "saved_model"),
        *("--output", tmp_path / "served", "--option", option),
    )
    assert f"Received: {option}, for which" in line


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    "closed",
    [
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("2>&-", ">&-")),
        "<&- >&- 2>&-",
    ],
)
def test_closed_streams(closed, folder):
    script = "import sys; from mpt_keras.command_line import main; "
    script += "sys.exit(main(['verify', sys.argv[1]]))"
    subprocess.run(
        [
            *("sh", "-c", f'exec "$@" {closed}', "sh"),
            *(sys.executable, "-c", script, folder / "frozen.keras"),
        ],
        check=True,
    )


def test_a_lost_worker_starts_the_command_again(monkeypatch, capsys):
    """That of an installed command, when its run has lost another worker."""
    from mpt_keras.experiments import commands, errors, restart

    def run():
        raise errors.WorkerLost("Worker 0 has lost another one.")

    def start_again():
        raise SystemExit("started again")

    monkeypatch.setattr(commands, "parse", lambda words: run)
    monkeypatch.setattr(restart, "start_again", start_again)
    with pytest.raises(SystemExit, match="started again"):
        command_line.main(["search"])
    expected = "mpt-keras: Worker 0 has lost another one. This one does so"
    assert expected in capsys.readouterr().err
