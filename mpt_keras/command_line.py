"""The console command `mpt-keras`: what a saved ticket is, does and becomes.

Nothing is imported until a command needs it, so that `--help` answers at once.
"""

import argparse
import ast
import contextlib
import os
import pathlib
import sys
import tempfile
import warnings

# Names of `engines.ENGINES` and of `engines.benchmarking.VARIANTS`.
FORMATS = ("saved_model", "litert", "onnx", "openvino", "larq", "hls4ml", "c")
VARIANTS = (
    *("saved_model", "litert", "litert-int8", "onnx", "openvino", "larq"),
    *("hls4ml", "c", "runtime"),
)
# Those of `experiments.commands`, which need the extra.
EXPERIMENTS = {
    "search": "Search a random network for a ticket.",
    "tickets": "Winning tickets of an ordinary network.",
    "distil": "Tickets trained on the dense network's outputs.",
    "sweep": "Many methods at the same settings, in one table.",
    "report": "Table and pictures of finished runs.",
    "compare": "How much the masks of runs agree.",
}
_NARROWEST = 40  # lines of a summary
_NAMED_OPTIONS = {
    *("model", "path", "format", "fold_batch_norm", "inputs", "tolerance"),
}
_LONGEST_ERROR = 1000
_INPUTS = 8
_TOLERANCE = 1e-4
# On other copies of the images, and by another engine's rounding.
_ACCURACY_LOST = 0.01


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: What follows the command's name; by default that of the
            process.

    Returns:
        0; 1 after an error, which is one line on the standard error; 130 if
        it was interrupted. (2 for arguments that are none, by `SystemExit`.)

    Example:

    >>> model.save("network.keras")
    >>> main(["verify", "network.keras"])
    network.keras: the masked network and its frozen form predict the same \
bits for 8 random inputs
    0
    """
    _open_closed_streams()
    try:
        run = _parse(sys.argv[1:] if arguments is None else arguments)
        with _without_chatter(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            run()
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        return _failed(_stopped(error), 130)
    except BrokenPipeError:
        # Whoever read what is printed has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _start_again_if_alone(error)
        return _failed(f"error: {_one_line(error)}")
    return 0


def _parse(arguments):
    """The function that does what the arguments ask for."""
    if arguments[:1] and arguments[0] in EXPERIMENTS:
        try:
            from mpt_keras.experiments import commands
        except ImportError as error:
            raise SystemExit(f"mpt-keras: error: {error}") from error
        return commands.parse(arguments)
    options = _parser().parse_args(arguments)
    return lambda: options.run(options)


def _stopped(error):
    if not hasattr(error, "folder"):
        return "interrupted"
    from mpt_keras.experiments.command import stopped

    return stopped(error)


def _start_again_if_alone(error):
    """Does not return if a run has lost another worker."""
    # Without the extra, nothing can have imported them.
    errors = sys.modules.get("mpt_keras.experiments.errors")
    if errors and isinstance(error, errors.WorkerLost):
        from mpt_keras.experiments.command import start_again

        start_again("mpt-keras", error)


def _failed(text, status=1):
    print(f"mpt-keras: {text}", file=sys.stderr)
    return status


def _one_line(error):
    text = " ".join(str(error).split())
    known = isinstance(error, (ValueError, OSError, ImportError))
    if not known and type(error).__name__ != "RunError":
        text = f"{type(error).__name__}: {text}"
    if len(text) <= _LONGEST_ERROR:
        return text or type(error).__name__
    # Keras quotes whole configurations, and says the cause at the end.
    half = _LONGEST_ERROR // 2
    return f"{text[:half]} ... {text[-half:]}"


def _open_closed_streams():
    """Lets nothing else take the place of standard streams that are closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:  # the least number that is free is this one
                os.open(os.devnull, os.O_RDWR)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, pathlib.Path(os.devnull).open(mode))  # noqa: SIM115


@contextlib.contextmanager
def _without_chatter():
    """Shuts off what TensorFlow's C++ code says on the standard error.

    Not with `TF_CPP_MIN_LOG_LEVEL=0`, and not what Python says.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    before = sys.stderr
    before.flush()
    with contextlib.ExitStack() as stack:
        real = os.dup(2)
        stack.callback(os.close, real)
        stack.callback(os.dup2, real, 2)
        if _is_standard_error(before):
            sys.stderr = stack.enter_context(
                open(real, "w", buffering=1, closefd=False)
            )
            stack.callback(setattr, sys, "stderr", before)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield


def _is_standard_error(stream):
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError):
        return False


def _parser():
    parser = argparse.ArgumentParser(
        prog="mpt-keras",
        description="Lottery tickets: found, compared, and what a saved one "
        "weighs, predicts and becomes.",
        epilog="FILE is a .keras file, a ticket of mpt_keras.save_ticket, or "
        "the name of a ticket that comes with the package: `mpt-keras "
        "pretrained` lists them. TF_CPP_MIN_LOG_LEVEL=0 shows what TensorFlow "
        "says.",
    )
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", title="commands"
    )
    for name, text in EXPERIMENTS.items():
        commands.add_parser(name, help=text)  # parsed by `experiments`

    found = commands.add_parser(
        "pretrained",
        help="The tickets that come with the package.",
        description="The tickets that come with the package, in a table; or "
        "all that is known of one. Their names stand for FILE in the other "
        "commands.",
    )
    found.set_defaults(run=_pretrained)
    found.add_argument("name", metavar="NAME", nargs="?", help="of a ticket")

    def command(run, text, **more):
        name = run.__name__.strip("_")
        found = commands.add_parser(name, help=text, description=text, **more)
        found.set_defaults(run=run)
        found.add_argument("file", metavar="FILE", type=pathlib.Path)
        found.add_argument(
            "--base",
            metavar="TICKET",
            help="ticket that FILE was saved against, where it is an update",
        )
        return found

    found = command(
        _summary,
        "Sparsity, bytes and multiply-accumulates of every kernel.",
    )
    found.add_argument(
        "--width",
        type=_width,
        help=f"most characters of a line, at least {_NARROWEST} (default: any)",
    )

    found = command(
        _export,
        "Freeze, write for an engine, read there, compare, report.",
    )
    found.add_argument("--format", choices=FORMATS, required=True)
    found.add_argument(
        "--output", metavar="PATH", required=True, help="file or folder"
    )
    found.add_argument(
        "--fold-batch-norm",
        action="store_true",
        help="fold batch norms into the kernels in front of them",
    )
    found.add_argument("--inputs", **_inputs_argument("compare on as well"))
    found.add_argument(
        "--tolerance",
        type=_tolerance,
        help="largest difference, as a fraction of the largest output "
        "(default: the format's)",
    )
    found.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="of the format, such as weights=int8 of litert; may be repeated",
    )

    found = command(
        _verify,
        "Read a ticket, check it, and compare what it predicts: masked with "
        "frozen, frozen with mpt_keras.runtime, and FILE with OTHER. A C file "
        "alone is compiled in two ways, which are compared.",
    )
    found.add_argument(
        "--against",
        metavar="OTHER",
        type=pathlib.Path,
        help="ticket, .keras file or export, compared with FILE",
    )
    found.add_argument(
        "--inputs", **_inputs_argument("predict, instead of random ones")
    )
    found.add_argument(
        "--tolerance",
        type=_tolerance,
        default=_TOLERANCE,
        help="of OTHER: largest difference, as a fraction of the largest "
        "output (default: %(default)s)",
    )
    found.add_argument(
        "--seed", type=int, default=0, help="of random inputs (default: 0)"
    )
    found.add_argument(
        "--accuracy",
        action="store_true",
        help="of a ticket that comes with the package: classify its test "
        "images, and compare with its accuracy in the table (needs the extra "
        "experiments)",
    )
    found.add_argument(
        "--data_dir", help="folder of TensorFlow Datasets with these images"
    )
    found.add_argument(
        "--images", help="or a .npz file of them, as `mpt-keras search` takes"
    )
    found.add_argument(
        "--download", action="store_true", help="fetch them if they are missing"
    )

    found = command(
        _bench,
        "Time Keras, mpt_keras.runtime and exports, one example at a time, in "
        "turn.",
    )
    found.add_argument(
        "--formats",
        type=_variants,
        metavar="FORMAT,...",
        help=f"of {', '.join(VARIANTS)} (default: all that are installed)",
    )
    found.add_argument(
        "--threads", type=int, default=1, help="of each engine (default: 1)"
    )
    found.add_argument(
        "--rounds", type=int, default=50, help="default: %(default)s"
    )
    found.add_argument(
        "--first-answer",
        action="store_true",
        help="time new processes, from their start to their first answer, too",
    )
    found.add_argument(
        "--output", metavar="FOLDER", help="keep the exports there"
    )
    return parser


def _inputs_argument(purpose):
    return {
        "metavar": "DATA",
        "type": pathlib.Path,
        "help": f".npy or .npz file of inputs to {purpose}",
    }


def _width(text):
    if not (text.isdecimal() and int(text) >= _NARROWEST):
        raise argparse.ArgumentTypeError(
            f"expected an integer of {_NARROWEST} or more, received {text!r}"
        )
    return int(text)


def _tolerance(text):
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = -1.0
    if not tolerance >= 0:
        raise argparse.ArgumentTypeError(
            f"expected a number that is not negative, received {text!r}"
        )
    return tolerance


def _variants(text):
    names = text.split(",")
    for name in names:
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(
                f"expected some of {','.join(VARIANTS)}, received {name!r}"
            )
    return names


# --- Commands -------------------------------------------------------------


def _pretrained(options):
    from mpt_keras import pretrained

    name = options.name
    _say(pretrained.list() if name is None else pretrained.find(name))


def _summary(options):
    from mpt_keras.summaries import summary

    summary(options.file, base=options.base, line_length=options.width)


def _export(options):
    from mpt_keras.engines import export
    from mpt_keras.ticket.packaged import as_path

    output = pathlib.Path(options.output)
    for source in filter(None, (options.file, options.base)):
        if output.exists() and output.samefile(as_path(source)):
            raise ValueError(
                "Invalid value for argument `--output`. Expected another file "
                f"than the network's own. Received: {options.output}"
            )
    model = _model(options.file, options.base)
    report = export(
        model,
        options.output,
        format=options.format,
        fold_batch_norm=options.fold_batch_norm,
        inputs=_given(options.inputs, model),
        tolerance=options.tolerance,
        **dict(map(_option, options.option)),
    )
    _say(report)


def _verify(options):
    file, other = options.file, options.against
    expected = _expected_accuracy(options)
    if _engine_of(file) is not None:
        if other is None and file.suffix == ".c":
            _verify_builds(options)
            return
        file, other = (file, other) if other is None else (other, file)
    _verify_model(file, other, options)
    if expected is not None:
        _verify_accuracy(expected, options)


def _expected_accuracy(options):
    """The row of a packaged ticket, if its accuracy is to be checked."""
    from mpt_keras.ticket.packaged import as_path, find

    place = (options.data_dir, options.images, options.download)
    if not options.accuracy and not any(place):
        return None
    name = str(options.file)
    path = as_path(name)
    try:
        ticket = find(name)
    except ValueError as error:
        raise ValueError(
            "`--accuracy` and the places of its images are for tickets that "
            f"come with the package. {error}"
        ) from error
    if path != ticket.path:
        raise ValueError(
            f"There is a file '{name}' here, which comes first. `--accuracy` "
            "is for the ticket of that name that comes with the package: "
            "change to another folder."
        )
    return ticket


def _verify_accuracy(ticket, options):
    """Raises `ValueError` if much less is right than the table says."""
    from mpt_keras.experiments.classifying import right
    from mpt_keras.experiments.place import Place

    place = Place(
        data_dir=options.data_dir,
        images=options.images,
        download=options.download,
    )
    found, count = right(_model(ticket.path), ticket.dataset, place)
    accuracy = found / count
    said = (
        f"{ticket.name}: {found:,} of {count:,} test images are right, "
        f"{accuracy:.2%}; the table says {ticket.accuracy:.2%} ({ticket.data})"
    )
    if accuracy < ticket.accuracy - _ACCURACY_LOST:
        raise ValueError(
            f"{said}. Expected at most {100 * _ACCURACY_LOST:g} points less."
        )
    _say(said)


def _verify_model(file, other, options):
    from mpt_keras.conversion import freeze
    from mpt_keras.engines.comparison import Comparison
    from mpt_keras.engines.inputs import model_inputs, predict, random_arrays
    from mpt_keras.layers.traversal import masked_layers

    model = _model(file, options.base)
    if file.suffix != ".keras":
        _say(f"{file}: whole, and its kernels are those that were saved")
    sources = model_inputs(model)
    arrays = _given(options.inputs, model)
    if arrays is None:
        arrays = random_arrays(sources, _INPUTS, options.seed)
    inputs = _described(arrays, options)
    frozen = freeze(model) if masked_layers(model) else model
    comparison = Comparison(frozen, sources, arrays)
    if frozen is not model:
        _check_same_bits(predict(model, arrays), comparison.reference, file)
        _say(
            f"{file}: the masked network and its frozen form predict "
            f"the same bits for {inputs}"
        )
    elif other is None:
        _check_numbers(comparison.reference, file)
        _say(f"{file}: predicts numbers for {inputs}")
    if file.suffix != ".keras":
        _verify_runtime(file, options.base, comparison, arrays)
    if other is None:
        return
    outputs = _predictions(other, sources, arrays)
    found, left_out, is_accepted = comparison.compared(
        outputs, options.tolerance
    )
    _say_differences(found, file, other, inputs)
    if is_accepted and left_out.any():
        _say(
            f"{left_out.sum()} of them were left out: an activation lies so "
            "near zero in them that rounding decides its sign"
        )
    if other.suffix == ".c":
        _say(_origin(other, frozen, file))
    if not is_accepted:
        raise ValueError(
            f"'{other}' and '{file}' do not predict the "
            f"same. Expected a difference of at most {options.tolerance:.2g} "
            f"of the largest output. Received: {found.relative:.2g}. "
            "`--tolerance` sets what is accepted (exports of 8 bits: 0.05)."
        )


def _verify_builds(options):
    """Compares builds of a C file with each other."""
    from mpt_keras.engines.c_file import BUILDS, Heading, build
    from mpt_keras.engines.differences import differences
    from mpt_keras.engines.inputs import ModelInput, random_arrays

    shape = Heading(options.file).input_shape
    source = ModelInput("input", shape, "float32")
    arrays = _arrays(options.inputs, [source])
    if arrays is None:
        arrays = random_arrays([source], _INPUTS, options.seed)
    outputs = {
        label: build(options.file, flags)(arrays)
        for label, flags in BUILDS.items()
    }
    (label, others), (base, reference) = outputs.items()
    _check_numbers(reference, options.file)
    _say(
        f"{options.file}: compiled in two ways, and compared with no model "
        "(--against MODEL)"
    )
    found = differences(others, reference)
    _say_differences(found, base, label, _described(arrays, options))
    if not found.relative <= options.tolerance:
        raise ValueError(
            f"'{options.file}' computes otherwise with another compiler's "
            f"flags. Expected a difference of at most {options.tolerance:.2g} "
            f"of the largest output. Received: {found.relative:.2g}"
        )


def _described(arrays, options):
    kind = "random" if options.inputs is None else "given"
    return f"{len(arrays[0])} {kind} inputs"


def _say_differences(found, one, other, inputs):
    _say(
        f"{other}: differs from {one} by up to "
        f"{found.absolute:.3g} for {inputs}, {found.relative:.2g} of the "
        f"largest output ({found.ulp:.0f} ULP of it)"
    )
    if found.same_class is not None:
        _say(f"same predicted class: {found.same_class:.1%}")


def _origin(path, frozen, file):
    """Whether a C file says that it was made of a model."""
    from mpt_keras.engines.c_file import Heading, weights_checksum

    if Heading(path).checksum == weights_checksum(frozen):
        return f"{path}: made of the weights of {file}"
    return (
        f"{path}: made of other weights than those of {file}, or batch norms "
        "were folded into them"
    )


def _verify_runtime(file, base, comparison, arrays):
    from mpt_keras.engines.differences import differences
    from mpt_keras.runtime import UnsupportedLayerError, load

    if base is not None:
        _say(f"{file}: an update, which mpt_keras.runtime does not run")
        return
    try:
        network = load(file)
    except UnsupportedLayerError as error:
        _say(f"{file}: mpt_keras.runtime does not run it. {error}")
        return
    outputs = network(*arrays)
    found, left_out, is_accepted = comparison.compared([outputs], _TOLERANCE)
    if left_out.any():
        _say(
            f"{file}: in {left_out.sum()} of the inputs an activation lies so "
            "near zero that rounding decides its sign, in each engine in "
            "another way"
        )
    if left_out.all():
        return
    if not is_accepted:
        others = ~left_out
        (reference,) = comparison.reference
        found = differences([outputs[others]], [reference[others]])
    if not found.relative <= _TOLERANCE:
        raise ValueError(
            f"mpt_keras.runtime and the frozen network of '{file}' do not "
            f"predict the same. Expected a difference of at most "
            f"{_TOLERANCE:.2g} of the largest output. Received: "
            f"{found.relative:.2g}"
        )
    _say(
        f"{file}: mpt_keras.runtime ({network.level}) predicts the same as the "
        f"frozen network for {found.inputs} inputs, to {found.relative:.2g} of "
        "the largest output"
    )


def _bench(options):
    for name in ("OMP_NUM", "TF_NUM_INTRAOP"):
        # Read when TensorFlow is imported.
        os.environ[f"{name}_THREADS"] = str(options.threads)
    from mpt_keras.engines.benchmarking import benchmark

    if options.threads < 1 or options.rounds < 1:
        raise ValueError(
            "Expected at least one thread and one round. Received: threads="
            f"{options.threads}, rounds={options.rounds}"
        )
    labels = options.formats and [
        name.replace("-", " ") for name in options.formats
    ]
    model = _model(options.file, options.base)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.output or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = benchmark(
            model,
            folder,
            labels,
            options.threads,
            options.rounds,
            options.first_answer,
        )
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    _say(f"{found.processor}, {threads}, medians of {options.rounds}")
    _print_table(found.table())
    for label, reason in found.left_out.items():
        _say(f"without {label}: {' '.join(reason.split())}")


# --- Their parts ----------------------------------------------------------


def _say(text):
    from mpt_keras.text_tables import print_text

    print_text(str(text))


def _model(path, base=None):
    from mpt_keras.model_files import read_model

    return read_model(path, base)


def _given(path, model):
    """The arrays of a file, in the order of a model's inputs, or None."""
    from mpt_keras.engines.inputs import model_inputs

    return _arrays(path, model_inputs(model))


def _arrays(path, sources):
    """The same, with the model's inputs."""
    if path is None:
        return None
    import numpy as np

    from mpt_keras.engines.inputs import given_arrays

    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.lib.npyio.NpzFile):
        with found:
            arrays = dict(found)
        names = [source.name for source in sources]
        if set(names) <= arrays.keys():
            found = {name: arrays[name] for name in names}
        elif len(names) == 1 or all(name.startswith("arr_") for name in arrays):
            found = list(arrays.values())  # as numpy.savez numbers them
        else:
            found = arrays  # whose names are none of the model's
    return given_arrays(found, sources)


def _predictions(path, sources, arrays):
    """What a file of any kind predicts."""
    from mpt_keras.engines.inputs import model_inputs, predict
    from mpt_keras.ticket.packaged import as_path

    engine = _engine_of(path)
    if engine is None:
        path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file '{path}'.")
    if engine is not None:
        engine.require()
        return engine.load(path, sources)(arrays)
    model = _model(path)
    expected = [source.shape for source in sources]
    received = [source.shape for source in model_inputs(model)]
    if expected != received:
        raise ValueError(
            f"'{path}' takes other inputs. Expected the shapes {expected}. "
            f"Received: {received}"
        )
    return predict(model, arrays)


def _engine_of(path):
    """The engine that reads an export; None of a model's file."""
    from mpt_keras.engines import ENGINES

    for engine in ENGINES.values():
        is_folder = not engine.ending and (path / engine.holds).exists()
        is_file = engine.ending and path.suffix == engine.ending
        if engine.ending != ".keras" and (is_folder or is_file):
            return engine()
    return None


def _check_same_bits(masked, frozen, path):
    for one, other in zip(masked, frozen, strict=True):
        if one.tobytes() != other.tobytes():
            raise ValueError(
                f"The masked network of '{path}' and its frozen form do not "
                "predict the same."
            )


def _check_numbers(outputs, path):
    import numpy as np

    for output in outputs:
        if np.isnan(output).any():
            raise ValueError(f"'{path}' predicts NaN.")


def _option(text):
    """A pair of a name and a value, from `name=value`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(
            "Invalid value for argument `--option`. Expected NAME=VALUE. "
            f"Received: {text}"
        )
    if name in _NAMED_OPTIONS:
        raise ValueError(
            "Invalid value for argument `--option`. Expected an option of the "
            f"format. Received: {text}, for which the command has an argument."
        )
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _print_table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        _say("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
