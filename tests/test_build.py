"""BUILD states the same graph as the imports, whose arrows point one way."""

import ast
import functools
import graphlib
import pathlib
import shutil
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From the bottom up: a module imports from its own row or from those above it
# in this list. The name of a package stands for all modules in it that have
# no row of their own.
ROWS = (
    ("_environment", "compiled", "config", "schedules", "seeds", "sparsity"),
    ("sparsity_rules",),
    ("drawing", "figures", "files", "sums", "text_tables"),
    ("figure_words", "frozen_part"),
    ("_import_order",),
    ("compilation", "larq", "losses", "model_checks", "optimizer_state"),
    ("threshold", "value_checks"),
    ("frozen_order", "global_selection", "initializers", "selection"),
    ("weight_recycling",),
    ("initial_values", "masking", "quantizers"),
    ("layers.constructor", "layers.exporting", "layers.masked_kernel"),
    ("layers.masked",),
    (
        "layers.convolutional",
        "layers.dense",
        "layers.embedding",
        "layers.traversal",
    ),
    ("layers.attention", "layers.ordinary"),
    ("layers",),
    ("callbacks.atomic", "callbacks.batch_count"),
    ("callbacks.masked_model_callback",),
    ("callbacks.backup", "callbacks.check_finite", "callbacks.checkpoint"),
    ("callbacks.churn", "callbacks.recycling", "callbacks.schedule"),
    ("callbacks.global_sparsity",),
    ("models.layer_factory",),
    ("models.families",),
    ("conversion.comparison", "conversion.copying", "conversion.swapping"),
    ("transfer",),
    ("conversion.plain_layers",),
    ("conversion.masked_layers", "conversion.rebuilding"),
    ("conversion.choosing_layers", "conversion.conversion_report"),
    ("conversion.masked_holders",),
    ("conversion.converting", "conversion.folding", "conversion.freezing"),
    ("callbacks", "conversion", "models"),
    ("ticket.errors", "ticket.logarithms", "ticket.range_coder"),
    ("ticket.packaged",),
    ("ticket.container", "ticket.mask_totals", "ticket.mask_weights"),
    ("ticket.mask_model", "ticket.records", "ticket.start"),
    ("ticket.compiled_masks", "ticket.mask_settings"),
    ("ticket.mask_codec",),
    ("ticket.kernels",),
    ("ticket.reading",),
    ("ticket.allowed", "ticket.deferred", "ticket.slots"),
    ("ticket.networks",),
    ("ticket.loading", "ticket.saving"),
    ("ticket",),
    ("runtime.compiling", "runtime.errors", "runtime.operations"),
    ("runtime.structures",),
    ("runtime.graph", "runtime.tensors"),
    ("runtime.processor", "runtime.program", "runtime.reference"),
    ("runtime.drawn_signs", "runtime.fusing", "runtime.library"),
    ("runtime.c_source",),
    ("runtime.weights",),
    ("runtime.calls",),
    ("runtime.rules",),
    ("runtime.lowering",),
    ("runtime",),
    ("analysis", "macs", "model_files"),
    ("pretrained", "summaries"),
    ("many_tasks.folder", "many_tasks.held", "many_tasks.summary"),
    ("many_tasks.variables",),
    ("many_tasks.task_masks",),
    ("many_tasks",),
    ("engines.differences", "engines.inputs", "engines.kernels"),
    ("engines.replacing", "engines.requirements", "engines.timing"),
    ("engines.report", "engines.signs", "engines.tflite_file"),
    ("engines.engine",),
    ("engines.hls4ml", "engines.litert", "engines.onnx", "engines.openvino"),
    ("engines.c_file", "engines.larq", "engines.saved_model"),
    ("engines.comparison",),
    ("engines.exporting", "engines.first_answer"),
    ("engines.benchmarking",),
    ("engines",),
    ("lottery.counts", "lottery.distillation", "lottery.kernels"),
    ("lottery.masks", "lottery.records", "lottery.rewinding"),
    ("lottery.dense", "lottery.enforcement", "lottery.magnitude"),
    ("lottery.training",),
    ("lottery.search",),
    ("lottery",),
    ("checkpoints.reading",),
    ("checkpoints.architectures", "checkpoints.placing"),
    ("checkpoints.biprop",),
    ("checkpoints",),
    ("experiments.data.batches", "experiments.data.digits"),
    ("experiments.data.windows", "experiments.errors", "experiments.history"),
    (
        "experiments.networks",
        "experiments.optimization",
        "experiments.pareto",
        "experiments.plot_style",
    ),
    ("experiments.recipes", "experiments.restart", "experiments.settings"),
    ("experiments.shipping", "experiments.spread", "experiments.tables"),
    ("experiments.versions", "experiments.ways"),
    (
        "experiments.accuracy_plots",
        "experiments.columns",
        "experiments.command",
    ),
    (
        "experiments.comparing",
        "experiments.data.held_out",
        "experiments.data.plain_file",
    ),
    (
        "experiments.data.prepared",
        "experiments.data.streamed",
        "experiments.flags",
    ),
    ("experiments.following", "experiments.groups", "experiments.lines"),
    ("experiments.locks", "experiments.multiworker", "experiments.place"),
    (
        "experiments.rendezvous",
        "experiments.result",
        "experiments.training_callbacks",
    ),
    ("experiments.data.in_memory", "experiments.devices", "experiments.folder"),
    (
        "experiments.learning_curves",
        "experiments.pivot",
        "experiments.training",
    ),
    ("experiments.data.datasets", "experiments.plots"),
    ("experiments.data", "experiments.reporting"),
    (
        "experiments.classifying",
        "experiments.document",
        "experiments.preparation",
    ),
    ("experiments.running",),
    ("experiments.experiment", "experiments.searching"),
    ("experiments.search", "experiments.ticketing"),
    ("experiments.tickets",),
    ("experiments.methods", "experiments.published"),
    ("experiments.worker",),
    ("experiments.task",),
    ("experiments.local_engine", "experiments.ray_engine"),
    ("experiments.many_runs",),
    ("experiments.sweeping",),
    ("experiments.commands",),
    ("experiments",),
    ("commands.reading", "commands.streams", "commands.values"),
    ("commands.bench", "commands.export", "commands.pretrained"),
    ("commands.summary", "commands.verify"),
    ("commands",),
    ("command_line",),
    ("mpt_keras",),
)
RANKS = {name: rank for rank, names in enumerate(ROWS) for name in names}

# Distributions that are called otherwise than what is imported from them.
DISTRIBUTIONS = {
    "absl": "absl_py",
    "PIL": "pillow",
    "sklearn": "scikit_learn",
}
# Needed at run time by packages that do not declare them.
UNDECLARED = {"@pypi//importlib_resources", "@pypi//tensorboard"}
# Imported on its own backend alone, and not together with larq's numpy.
# PyTorch also reads its own files, whichever backend computes. Larq Compute
# Engine needs an environment of its own.
OPTIONAL = {"@pypi//jax", "@pypi//torch", "@pypi//larq_compute_engine"}
BACKENDS = {"tensorflow", "jax", "torch"}


def local_modules(root):
    """Dotted name -> file, of the package and the examples."""
    package = (root / "mpt_keras").rglob("*.py")
    examples = (root / "examples").glob("*.py")
    return {
        **{dotted_name(path.relative_to(root)): path for path in package},
        **{path.stem: path for path in examples},
    }


def dotted_name(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_modules(root):
    return {
        name: path
        for name, path in local_modules(root).items()
        if name.split(".")[0] == "mpt_keras"
    }


def imported_names(path):
    """Dotted names of what a file imports, also inside `if` and functions."""
    for name in names_in(path.read_text(encoding="utf-8")):
        assert name[0] != ".", f"{path}: relative import of {name}"
        yield name
    if path.parent.name == "mpt_keras" and path.stem == "__init__":
        yield from names_imported_lazily(path.with_suffix(".pyi"))


@functools.cache  # copies of the project are mostly the same
def names_in(source):
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            found += [f"{start}.{alias.name}" for alias in node.names]
    return found


def names_imported_lazily(stub):
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ("mpt_keras", node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def local_module(name, modules):
    """The local module that a name names or stands in, or an empty string."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def local_imports(path, modules):
    found = {local_module(name, modules) for name in imported_names(path)}
    return found - {""}


def third_party_imports(path, modules):
    found = {
        name.split(".")[0]
        for name in imported_names(path)
        if not local_module(name, modules)
    }
    return found - sys.stdlib_module_names


def target_name(module):
    return module.removeprefix("mpt_keras.").replace(".", "_")


def imported_labels(path, modules):
    """What a file imports, as BUILD should say it."""
    local = local_imports(path, modules)
    others = third_party_imports(path, modules)
    labels = {f"@pypi//{DISTRIBUTIONS.get(name, name)}" for name in others}
    targets = {f":{target_name(module)}" for module in local}
    return targets | labels - OPTIONAL


def targets(root):
    """Name, sources and dependencies of all libraries and programs in BUILD."""
    tree = ast.parse((root / "BUILD").read_text(encoding="utf-8"))
    calls = [node.value for node in tree.body if isinstance(node, ast.Expr)]
    return [
        {
            word.arg: ast.literal_eval(word.value)
            for word in call.keywords
            if word.arg in ("name", "srcs", "deps")
        }
        for call in calls
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("py_library", "py_binary")
    ]


def target_differences(root):
    """Modules without exactly one target of the right name, and the reverse."""
    expected = sorted(
        (target_name(module), [path.relative_to(root).as_posix()])
        for module, path in local_modules(root).items()
    )
    stated = sorted((rule["name"], rule["srcs"]) for rule in targets(root))
    missing = [f"add {target}" for target in expected if target not in stated]
    return missing + [
        f"drop {target}"
        for target in stated
        if target not in expected or stated.count(target) > 1
    ]


def dependency_differences(root):
    """What to change in BUILD, so that it says what the imports say."""
    modules = local_modules(root)
    stated = {rule["name"]: set(rule.get("deps", ())) for rule in targets(root)}
    differences = []
    for module, path in modules.items():
        name = target_name(module)
        listed = stated.get(name, set())
        actual = imported_labels(path, modules)
        differences += [f"{name}: add {dep}" for dep in actual - listed]
        unneeded = listed - actual - UNDECLARED
        differences += [f"{name}: drop {dep}" for dep in unneeded]
    return sorted(differences)


def rank(module):
    name = module.removeprefix("mpt_keras.")
    while name and name not in RANKS:
        name = name.rpartition(".")[0]
    assert name, f"{module} has no rank. Add it to ROWS in {__file__}"
    return RANKS[name]


def graph(root):
    """Module of the package -> the local modules that it imports."""
    modules = local_modules(root)
    return {
        module: local_imports(path, modules)
        for module, path in package_modules(root).items()
    }


def upward_imports(root):
    return [
        f"{module} imports {imported}"
        for module, imports in graph(root).items()
        for imported in imports
        if rank(imported) > rank(module)
    ]


def check_no_cycle(root):
    graphlib.TopologicalSorter(graph(root)).prepare()


def importers_of_backends(root):
    modules = local_modules(root)
    return {
        path.relative_to(root).as_posix()
        for path in package_modules(root).values()
        if BACKENDS & third_party_imports(path, modules)
    }


def test_every_module_has_exactly_one_target():
    assert target_differences(ROOT) == []


def test_dependencies_are_the_imports():
    assert dependency_differences(ROOT) == []


def test_imports_do_not_go_up():
    assert upward_imports(ROOT) == []


def test_imports_have_no_cycle():
    check_no_cycle(ROOT)


def test_only_one_module_imports_backends():
    assert importers_of_backends(ROOT) == {
        "mpt_keras/compilation.py",
        "mpt_keras/checkpoints/reading.py",  # PyTorch, to read its files
        # TensorFlow, as the engine that reads an export.
        "mpt_keras/engines/larq.py",
        "mpt_keras/engines/saved_model.py",
        # Several devices and several machines.
        "mpt_keras/experiments/devices.py",
        "mpt_keras/experiments/multiworker.py",
        # TensorFlow, to read images and to deliver them ahead of time.
        "mpt_keras/experiments/data/batches.py",
        "mpt_keras/experiments/data/prepared.py",
        "mpt_keras/experiments/data/streamed.py",
        "mpt_keras/experiments/data/windows.py",
    }


def test_no_module_imports_what_is_private():
    private = ("tensorflow.python", "jax._src", "keras.src")
    # What Keras keeps of variables without values has no public name.
    excepted = ("mpt_keras.ticket.deferred", "keras.src.backend.common")
    assert not [
        f"{module} imports {name}"
        for module, path in local_modules(ROOT).items()
        for name in imported_names(path)
        if name.startswith(private)
        and not (module == excepted[0] and name.startswith(excepted[1]))
    ]


@pytest.fixture
def copy(tmp_path):
    """A copy of the project, to break."""
    shutil.copy(ROOT / "BUILD", tmp_path)
    compiled = shutil.ignore_patterns("__pycache__")
    for folder in ("mpt_keras", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=compiled)
    return tmp_path


def add_line(path, line):
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def remove_from_target(root, name, line):
    path = root / "BUILD"
    before, start, target = path.read_text().partition(f'name = "{name}",')
    assert line in target
    path.write_text(before + start + target.replace(line, "", 1))


@pytest.mark.parametrize("label", [":masking", "@pypi//keras"])
def test_a_dependency_missing_from_build_is_found(copy, label):
    remove_from_target(copy, "layers_masked_kernel", f'"{label}",')
    expected = [f"layers_masked_kernel: add {label}"]
    assert dependency_differences(copy) == expected


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("import mpt_keras.schedules", ":schedules"),
        ("from mpt_keras import schedules", ":schedules"),
        ("from mpt_keras.schedules import Constant", ":schedules"),
        ("from mpt_keras.layers import MPTDense", ":layers"),
        ("from mpt_keras.layers.dense import MPTDense", ":layers_dense"),
        ("import mpt_keras as mpt", ":mpt_keras"),
        ("if True:\n    import scipy.stats", "@pypi//scipy"),
        ("def f():\n    from sklearn import svm", "@pypi//scikit_learn"),
    ],
)
def test_an_import_missing_from_build_is_found(copy, line, label):
    add_line(copy / "mpt_keras/selection.py", line)
    assert dependency_differences(copy) == [f"selection: add {label}"]


def test_a_dependency_that_is_not_imported_is_found(copy):
    (copy / "mpt_keras/masking.py").write_text("import math\n")
    assert dependency_differences(copy) == [
        "masking: drop :compilation",
        "masking: drop :frozen_order",
        "masking: drop :selection",
        "masking: drop :sums",
        "masking: drop @pypi//keras",
    ]


def test_a_module_without_a_target_is_found(copy):
    add_line(copy / "mpt_keras/models/other.py", "")
    assert target_differences(copy) == [
        "add ('models_other', ['mpt_keras/models/other.py'])"
    ]


def test_a_target_without_a_module_is_found(copy):
    (copy / "mpt_keras/schedules.py").unlink()
    assert target_differences(copy) == [
        "drop ('schedules', ['mpt_keras/schedules.py'])"
    ]


def test_a_second_target_is_found(copy):
    twin = 'py_library(name = "schedules", srcs = ["mpt_keras/schedules.py"])'
    add_line(copy / "BUILD", twin)
    assert len(target_differences(copy)) == 2


def test_an_upward_import_is_found(copy):
    add_line(copy / "mpt_keras/masking.py", "from mpt_keras import callbacks")
    assert upward_imports(copy) == [
        "mpt_keras.masking imports mpt_keras.callbacks"
    ]


def test_a_module_without_a_rank_is_found(copy):
    add_line(copy / "mpt_keras/other.py", "from mpt_keras import selection")
    with pytest.raises(AssertionError, match="other has no rank"):
        upward_imports(copy)


def test_a_cycle_is_found(copy):
    add_line(copy / "mpt_keras/schedules.py", "from mpt_keras import larq")
    add_line(copy / "mpt_keras/larq.py", "from mpt_keras import schedules")
    with pytest.raises(graphlib.CycleError):
        check_no_cycle(copy)


def test_a_relative_import_is_found(copy):
    add_line(copy / "mpt_keras/masking.py", "from . import selection")
    with pytest.raises(AssertionError, match="relative import"):
        dependency_differences(copy)


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_another_import_of_a_backend_is_found(copy, name):
    add_line(copy / "mpt_keras/masking.py", f"import {name}")
    assert "mpt_keras/masking.py" in importers_of_backends(copy)
