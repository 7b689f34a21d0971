"""`mpt-keras verify`: a file is whole, and predicts what it should."""

import pathlib

from mpt_keras.commands.reading import (
    arrays_of,
    engine_of,
    predictions,
    read,
    say,
)
from mpt_keras.commands.values import inputs_argument, tolerance

HELP = (
    "Read a ticket, check it, and compare what it predicts: masked with "
    "frozen, frozen with mpt_keras.runtime, and FILE with OTHER. A C file "
    "alone is compiled in two ways, which are compared."
)
_TOLERANCE = 1e-4
_INPUTS = 8
# On other copies of the images, and by another engine's rounding.
_ACCURACY_LOST = 0.01


def add_arguments(parser):
    parser.add_argument(
        "--against",
        metavar="OTHER",
        type=pathlib.Path,
        help="ticket, .keras file or export, compared with FILE",
    )
    parser.add_argument(
        "--inputs", **inputs_argument("predict, instead of random ones")
    )
    parser.add_argument(
        "--tolerance",
        type=tolerance,
        default=_TOLERANCE,
        help="of OTHER: largest difference, as a fraction of the largest "
        "output (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of random inputs (default: 0)"
    )
    parser.add_argument(
        "--accuracy",
        action="store_true",
        help="of a ticket that comes with the package: classify its test "
        "images, and compare with its accuracy in the table (needs the extra "
        "experiments)",
    )
    parser.add_argument(
        "--data_dir", help="folder of TensorFlow Datasets with these images"
    )
    parser.add_argument(
        "--images", help="or a .npz file of them, as `mpt-keras search` takes"
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch them if they are missing"
    )


def run(options):
    file, other = options.file, options.against
    expected = _expected_accuracy(options)
    if engine_of(file) is not None:
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
    found, count = right(read(ticket.path), ticket.dataset, place)
    accuracy = found / count
    said = (
        f"{ticket.name}: {found:,} of {count:,} test images are right, "
        f"{accuracy:.2%}; the table says {ticket.accuracy:.2%} ({ticket.data})"
    )
    if accuracy < ticket.accuracy - _ACCURACY_LOST:
        raise ValueError(
            f"{said}. Expected at most {100 * _ACCURACY_LOST:g} points less."
        )
    say(said)


def _verify_model(file, other, options):
    from mpt_keras.conversion import freeze
    from mpt_keras.engines.comparison import Comparison
    from mpt_keras.engines.inputs import model_inputs, predict, random_arrays
    from mpt_keras.layers.traversal import masked_layers

    model = read(file, options.base)
    if file.suffix != ".keras":
        say(f"{file}: whole, and its kernels are those that were saved")
    sources = model_inputs(model)
    arrays = arrays_of(options.inputs, sources)
    if arrays is None:
        arrays = random_arrays(sources, _INPUTS, options.seed)
    inputs = _described(arrays, options)
    frozen = freeze(model) if masked_layers(model) else model
    comparison = Comparison(frozen, sources, arrays)
    if frozen is not model:
        _check_same_bits(predict(model, arrays), comparison.reference, file)
        say(
            f"{file}: the masked network and its frozen form predict "
            f"the same bits for {inputs}"
        )
    elif other is None:
        _check_numbers(comparison.reference, file)
        say(f"{file}: predicts numbers for {inputs}")
    if file.suffix != ".keras":
        _verify_runtime(file, options.base, comparison, arrays)
    if other is None:
        return
    outputs = predictions(other, sources, arrays)
    found, left_out, is_accepted = comparison.compared(
        outputs, options.tolerance
    )
    _say_differences(found, file, other, inputs)
    if is_accepted and left_out.any():
        say(
            f"{left_out.sum()} of them were left out: an activation lies so "
            "near zero in them that rounding decides its sign"
        )
    if other.suffix == ".c":
        say(_origin(other, frozen, file))
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
    arrays = arrays_of(options.inputs, [source])
    if arrays is None:
        arrays = random_arrays([source], _INPUTS, options.seed)
    outputs = {
        label: build(options.file, flags)(arrays)
        for label, flags in BUILDS.items()
    }
    (label, others), (base, reference) = outputs.items()
    _check_numbers(reference, options.file)
    say(
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
    say(
        f"{other}: differs from {one} by up to "
        f"{found.absolute:.3g} for {inputs}, {found.relative:.2g} of the "
        f"largest output ({found.ulp:.0f} ULP of it)"
    )
    if found.same_class is not None:
        say(f"same predicted class: {found.same_class:.1%}")


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
        say(f"{file}: an update, which mpt_keras.runtime does not run")
        return
    try:
        network = load(file)
    except UnsupportedLayerError as error:
        say(f"{file}: mpt_keras.runtime does not run it. {error}")
        return
    outputs = network(*arrays)
    found, left_out, is_accepted = comparison.compared([outputs], _TOLERANCE)
    if left_out.any():
        say(
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
    say(
        f"{file}: mpt_keras.runtime ({network.level}) predicts the same as the "
        f"frozen network for {found.inputs} inputs, to {found.relative:.2g} of "
        "the largest output"
    )


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
