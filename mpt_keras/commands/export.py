"""`mpt-keras export`: a frozen network, written for an engine."""

import ast
import pathlib

from mpt_keras.commands.reading import arrays_of, read, say
from mpt_keras.commands.values import inputs_argument, tolerance

HELP = "Freeze, write for an engine, read there, compare, report."
# Names of `engines.ENGINES`.
FORMATS = ("saved_model", "litert", "onnx", "openvino", "larq", "hls4ml", "c")
_NAMED_OPTIONS = {
    *("model", "path", "format", "fold_batch_norm", "inputs", "tolerance"),
}


def add_arguments(parser):
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--output", metavar="PATH", required=True, help="file or folder"
    )
    parser.add_argument(
        "--fold-batch-norm",
        action="store_true",
        help="fold batch norms into the kernels in front of them",
    )
    parser.add_argument("--inputs", **inputs_argument("compare on as well"))
    parser.add_argument(
        "--tolerance",
        type=tolerance,
        help="largest difference, as a fraction of the largest output "
        "(default: the format's)",
    )
    parser.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="of the format, such as weights=int8 of litert; may be repeated",
    )


def run(options):
    from mpt_keras.engines import export
    from mpt_keras.engines.inputs import model_inputs
    from mpt_keras.ticket.packaged import as_path

    output = pathlib.Path(options.output)
    for source in filter(None, (options.file, options.base)):
        if output.exists() and output.samefile(as_path(source)):
            raise ValueError(
                "Invalid value for argument `--output`. Expected another file "
                f"than the network's own. Received: {options.output}"
            )
    model = read(options.file, options.base)
    report = export(
        model,
        options.output,
        format=options.format,
        fold_batch_norm=options.fold_batch_norm,
        inputs=arrays_of(options.inputs, model_inputs(model)),
        tolerance=options.tolerance,
        **dict(map(_option, options.option)),
    )
    say(report)


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
