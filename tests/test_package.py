"""What holds for the whole package: names, docstrings, environment."""

import doctest
import importlib
import importlib.util
import os
import pathlib
import pkgutil
import subprocess
import sys

import backend
import keras
import numpy as np
import pytest

import mpt_keras as mpt
from mpt_keras import _environment

PUBLIC_NAMES = [
    "MPTConv1D",
    "MPTConv2D",
    "MPTConv3D",
    "MPTDepthwiseConv1D",
    "MPTDepthwiseConv2D",
    "MPTSeparableConv1D",
    "MPTSeparableConv2D",
    "MPTConv1DTranspose",
    "MPTConv2DTranspose",
    "MPTConv3DTranspose",
    "MPTDense",
    "MPTEmbedding",
    "MPTEinsumDense",
    "MPTGroupedQueryAttention",
    "MPTMultiHeadAttention",
    "masked_layers",
    "convert",
    "conversion_report",
    "register_conversion",
    "sparsity_rules.ByPattern",
    "sparsity_rules.EqualPerLayer",
    "sparsity_rules.ERK",
    "sparsity_rules.Global",
    "sparsity_rules.Uniform",
    "freeze",
    "conversion.fold_batch_norms",
    "save_ticket",
    "load_ticket",
    "ticket.read_ticket",
    "pretrained.PretrainedTicket",
    "pretrained.find",
    "pretrained.list",
    "pretrained.load",
    "runtime.load",
    "runtime.Network",
    "runtime.levels",
    "summary",
    "TaskMasks",
    "export",
    "engines.benchmark",
    "quantizers.ApproxSign",
    "quantizers.SteSign",
    "quantizers.SwishSign",
    "quantizers.get",
    "initializers.KaimingNormal",
    "initializers.KaimingUniform",
    "initializers.SignedConstant",
    "analysis.compare_all",
    "analysis.compare_masks",
    "analysis.dark_background",
    "analysis.draw_agreement",
    "analysis.draw_churn",
    "analysis.draw_inputs",
    "analysis.draw_jaccard",
    "analysis.draw_kernels",
    "analysis.draw_layers",
    "analysis.draw_masks",
    "analysis.ensemble",
    "analysis.kernels_of",
    "analysis.mask_churn",
    "analysis.masks_of",
    "analysis.read_masks",
    "analysis.save_masks",
    "callbacks.AtomicBackup",
    "callbacks.AtomicCheckpoint",
    "callbacks.CheckFinite",
    "callbacks.GlobalSparsity",
    "callbacks.MaskChurn",
    "callbacks.SparsitySchedule",
    "checkpoints.load_biprop",
    "losses.SmoothedCrossentropy",
    "schedules.Constant",
    "schedules.Polynomial",
    "schedules.Piecewise",
    "models.conv2",
    "models.conv4",
    "models.conv6",
    "models.conv8",
    "models.conv_net",
    "models.dense_net",
    "models.lenet_300_100",
    "models.vgg_small",
    "models.residual_net",
    "models.resnet18",
    "models.resnet34",
    "models.resnet50",
    "models.resnet101",
    "models.resnet20",
    "models.resnet32",
    "models.resnet44",
    "models.resnet56",
    "models.resnet110",
    "models.wide_resnet18_2",
    "models.wide_resnet18_3",
    "models.imagenet_resnet18",
    "models.imagenet_resnet34",
    "models.imagenet_resnet50",
    "models.imagenet_resnet101",
    "models.imagenet_wide_resnet18_2",
    "models.imagenet_wide_resnet18_3",
    "models.imagenet_wide_resnet34_2",
    "models.imagenet_wide_resnet34_3",
    "models.imagenet_wide_resnet50_2",
    "models.imagenet_wide_resnet101_2",
    "callbacks.WeightRecycling",
    "weight_recycling.recycled",
    "weight_recycling.redrawn",
    "lottery.Magnitude",
    "lottery.magnitude_masks",
    "lottery.random_masks",
    "lottery.Pruned",
    "lottery.prunable_kernels",
    "lottery.apply_masks",
    "lottery.remove_masks",
    "lottery.PrunedAverages",
    "lottery.kernel_values",
    "lottery.reinitialize",
    "lottery.load_state",
    "lottery.TicketSearch",
    "lottery.Advanced",
    "lottery.distiller",
    "analysis.load_masks",
    "selection.select",
    "transfer_weights",
    "masking.masked_kernel",
    "masking.gain",
    "experiments.Search",
    "experiments.WinningTicket",
    "experiments.Distilled",
    "experiments.published",
    "experiments.Place",
    "experiments.Result",
    "experiments.RunError",
    "experiments.sweep",
    "experiments.report",
    "experiments.compare",
]


def resolve(name):
    found = mpt
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_names_are_documented(name):
    text = resolve(name).__doc__
    assert text
    short_form = "; the other arguments are its" in text
    if not short_form:
        assert ">>>" in text, "no example"


def _source(info):
    spec = info.module_finder.find_spec(info.name)
    return pathlib.Path(spec.origin).read_text(encoding="utf-8")


def modules_with_examples():
    """Those alone are imported: others may need what is not installed."""
    package = pathlib.Path(mpt.__file__).parent
    names = pkgutil.walk_packages([str(package)], "mpt_keras.")
    return [
        importlib.import_module(info.name)
        for info in names
        if ">>>" in _source(info)
    ]


@pytest.mark.parametrize(
    "module", modules_with_examples(), ids=lambda m: m.__name__
)
def test_examples_in_docstrings_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if module is mpt.larq and importlib.util.find_spec("larq") is None:
        pytest.skip("needs the extra larq")
    if module.__name__.endswith(("pictures", "figures")):
        pytest.importorskip("matplotlib")
    model = keras.Sequential(
        [keras.Input((4,)), mpt.MPTDense(8), mpt.MPTDense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    provided = {
        "np": np,
        "keras": keras,
        "mpt_keras": mpt,
        "model": model,
        "images": np.ones((8, 4), "float32"),
        "labels": np.zeros(8, "int32"),
        "digits": np.ones((8, 28, 28, 1), "float32"),
        "digit_labels": np.zeros(8, "int32"),
        **vars(module),
    }
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    output = []
    for test in finder.find(module, module.__name__, globs=provided):
        exports = any("export" in one.source for one in test.examples)
        exports = exports or "saved_model" in test.docstring
        if backend.NAME != "tensorflow" and exports:
            continue  # others write no SavedModel
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def test_registered_names_are_ours():
    layer = mpt.MPTDense(3)
    name = keras.saving.get_registered_name(type(layer))
    assert name == "mpt_keras>MPTDense"


def test_version():
    assert mpt.__version__[0].isdigit()


def error_of_import(line="", **variables):
    """The last line of what a process says that cannot use the package."""
    done = subprocess.run(
        [sys.executable, "-c", f"{line}\nfrom mpt_keras import MPTDense"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


def test_legacy_keras_is_refused(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    with pytest.raises(ImportError, match="needs Keras 3") as error:
        _environment.check_keras.__wrapped__()
    assert "mpt_keras needs Keras 3.12 or later" in str(error.value)
    assert "Unset TF_USE_LEGACY_KERAS" in str(error.value)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("tensorflow", ("jax", "torch")),
        ("jax", ("tensorflow", "torch")),
        ("torch", ("tensorflow", "jax")),
    ],
)
def test_a_backend_that_is_not_installed_is_named(name, others):
    # None there makes Python say that the module does not exist.
    hide = f"import sys; sys.modules[{name!r}] = None"
    last = error_of_import(hide, KERAS_BACKEND=name)
    assert last == (
        f"ImportError: Keras is set to the backend '{name}', which is not "
        f'installed. Install it: pip install "mpt_keras[{name}]", or '
        "choose one that is installed before Python starts: "
        f"KERAS_BACKEND={others[0]} or KERAS_BACKEND={others[1]}."
    )


def test_a_backend_that_nobody_knows_is_named():
    last = error_of_import(KERAS_BACKEND="theano")
    assert last.startswith("ImportError: Keras does not know its backend.")
    assert "Received: KERAS_BACKEND='theano'" in last


@pytest.mark.parametrize("version", ["2.15.0", "3.3.3"])
def test_old_keras_is_refused(version):
    with pytest.raises(ImportError, match=f"Received: keras {version}"):
        _environment.check_keras_3(version, {})


def run(script):
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_needs_neither_larq_nor_matplotlib():
    # Keras itself imports matplotlib where it is there.
    run(
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "import mpt_keras\n"
        "mpt_keras.MPTDense\n"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'larq']\n"
    )


def test_experiments_name_the_extra_that_they_need():
    run(
        "import sys\n"
        "sys.modules['filelock'] = None\n"
        "import mpt_keras\n"
        "from mpt_keras import command_line\n"
        "try:\n"
        "    mpt_keras.experiments\n"
        "except ImportError as error:\n"
        "    message = str(error)\n"
        "assert 'pip install \"mpt_keras[experiments]\"' in message\n"
        "assert '\\n' not in message\n"
        "try:\n"
        "    command_line.main(['sweep', '--help'])\n"
        "except SystemExit as error:\n"
        "    assert error.code == f'mpt-keras: error: {message}'\n"
        "command_line._start_again_if_alone(ValueError())\n"
    )


def test_importing_does_not_import_keras():
    run(
        "import sys\n"
        "import mpt_keras\n"
        "assert mpt_keras.schedules.Constant(0.5)(0) == 0.5\n"
        "assert 'MPTDense' in dir(mpt_keras)\n"
        "assert mpt_keras.experiments.Search(sparsity=0.5)\n"
        "assert not {'keras', 'tensorflow', 'numpy'} & sys.modules.keys()\n"
    )


@pytest.mark.parametrize(
    "first", [pytest.param("keras", marks=pytest.mark.slow), "mpt_keras"]
)
def test_importing_lets_keras_load_our_models(first, tmp_path):
    model = keras.Sequential([keras.Input((2,)), mpt.MPTDense(2)])
    model.save(tmp_path / "model.keras")
    path = str(tmp_path / "model.keras")
    run(
        f"import {first}\n"
        "import mpt_keras, keras\n"
        f"keras.models.load_model({path!r})\n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        # Importing Keras takes long.
        pytest.param(
            "from mpt_keras.initializers import KaimingNormal",
            marks=pytest.mark.slow,
        ),
        pytest.param("import mpt_keras.callbacks", marks=pytest.mark.slow),
        "from mpt_keras.analysis import compare_masks",
    ],
)
def test_modules_can_be_imported_first(statement):
    run(
        f"{statement}\n"
        "import sys, mpt_keras\n"
        "for name, module in list(sys.modules.items()):\n"
        "    if name.startswith('mpt_keras.'):\n"
        "        assert module.__spec__.name == name\n"
        "assert mpt_keras.initializers is sys.modules['mpt_keras.initializers']"
    )


def test_threads_may_import_at_once():
    run(
        "import threading, mpt_keras\n"
        "def first(): import keras\n"
        "def second(): from mpt_keras.layers import MPTDense\n"
        "threads = [threading.Thread(target=f) for f in (first, second)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "from mpt_keras.layers import MPTDense"
    )


def test_every_public_name_can_be_imported():
    for name in mpt.__all__:
        assert getattr(mpt, name)
