"""The tickets that come with the package are what their table says."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import backend
import keras
import numpy as np
import pytest
from conftest import ROOT

import mpt_keras as mpt
from mpt_keras import command_line
from mpt_keras.commands import verify
from mpt_keras.ticket import packaged

TICKETS = mpt.pretrained.list()
DIGITS = [ticket for ticket in TICKETS if ticket.dataset == "digits"]
NAME = "digits_mpt_1_32"
MOST_BYTES = 3_000_000


def named(tickets):
    return pytest.mark.parametrize("ticket", tickets, ids=lambda t: t.name)


def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    from mpt_keras.experiments.data.digits import digits

    assert datasets
    _, (images, labels) = digits()
    return images, labels


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder without files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The package's folder of tickets, to damage."""
    folder = tmp_path / "package"
    shutil.copytree(packaged.FOLDER, folder)
    monkeypatch.setattr(packaged, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def fails(capsys, *arguments):
    assert command_line.main([*arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


# --- The files ------------------------------------------------------------


def test_the_table_has_every_file():
    names = {path.stem for path in packaged.FOLDER.glob("*.ticket")}
    assert names == {ticket.name for ticket in TICKETS}
    assert len(TICKETS) == len(names)
    assert {path.suffix for path in packaged.FOLDER.iterdir()} == {
        ".json",
        ".ticket",
    }


def test_all_files_are_small():
    assert sum(ticket.bytes for ticket in TICKETS) < MOST_BYTES


@named(TICKETS)
def test_a_file_is_what_the_table_says(ticket):
    data = ticket.path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == ticket.sha256
    assert len(data) == ticket.bytes
    ticket.check()
    stored = mpt.ticket.read_ticket(ticket.path)
    kernels = stored.kernels.values()
    assert sum(kernel.mask.size for kernel in kernels) == ticket.weights
    assert sum(kernel.mask.sum() for kernel in kernels) == ticket.weights_kept
    assert ticket.bits_per_weight == 8 * len(data) / ticket.weights
    pruned = sum(int(kernel.mask.size * ticket.sparsity) for kernel in kernels)
    assert ticket.weights - ticket.weights_kept == pytest.approx(pruned, abs=9)
    assert "\n" not in ticket.card
    assert 0.1 < ticket.accuracy < 1
    assert 0.1 < ticket.dense_accuracy < 1
    assert ticket.epochs > 0


@named(TICKETS)
def test_the_command_searches_with_these_settings(ticket, monkeypatch):
    commands = pytest.importorskip("mpt_keras.experiments.commands")
    from mpt_keras.experiments.search import Search

    ran = []
    monkeypatch.setattr(Search, "run", lambda *given: ran.append(given))
    for command in (ticket.command, ticket.dense_command):
        program, *words = command.split()
        assert program == "mpt-keras"
        commands.parse(words)()
    searches = [search.followed().settings for search, *_ in ran]
    assert all(search.dataset == ticket.dataset for search in searches)
    assert all(search.epochs == ticket.epochs for search in searches)
    search, dense = searches
    assert search.sparsity == ticket.sparsity
    assert search.binary_activations == ticket.binary_activations
    assert (search.model, search.width) == (dense.model, dense.width)
    assert (search.method, dense.method) == ("biprop", "dense")


@named([ticket for ticket in TICKETS if "small_networks:" in ticket.command])
def test_an_example_builds_the_network(ticket):
    pytest.importorskip("absl")
    import programs

    from mpt_keras.experiments import networks

    words = dict(
        word.removeprefix("--").split("=")
        for word in ticket.command.split()
        if "=" in word
    )
    with programs.modules_of(ROOT / "examples"):
        model = networks.builder(words["model"])(
            width=float(words["width"]),
            sparsity=float(words["sparsity"]),
            binary_activations=ticket.binary_activations,
            seed=0,
        )
    stored = mpt.ticket.read_ticket(ticket.path).kernels.values()
    kernels = [layer.kernel for layer in mpt.masked_layers(model)]
    for kernel, one in zip(kernels, stored, strict=True):
        assert tuple(kernel.shape) == one.shape
        # The recipe scales them otherwise.
        signs = np.sign(keras.ops.convert_to_numpy(kernel))
        assert np.array_equal(signs, np.sign(one.kernel))


@named([ticket for ticket in TICKETS if ticket not in DIGITS])
def test_one_takes_the_pixels_of_its_data(ticket):
    network = mpt.runtime.load(ticket.name)
    side, channels = {"mnist": (28, 1), "cifar10": (32, 3)}[ticket.dataset]
    assert network.input_shape == (side, side, channels)
    shape = ", ".join(map(str, network.input_shape))
    assert ticket.pixels == f"uint8 ({shape}), 0 to 255"
    assert network.output_shape == (len(ticket.classes),)
    with pytest.raises(ValueError, match="uint8"):
        network(np.zeros((1, side, side, channels), "float32"))


@named(DIGITS)
def test_digits_are_as_accurate_as_the_table_says(ticket):
    images, labels = digits()
    model = mpt.pretrained.load(ticket.name)
    assert model.input_shape == (None, *images.shape[1:])
    assert mpt.masked_layers(model)
    scores = model.predict_on_batch(images)
    right = scores.argmax(-1) == labels
    # Others round otherwise, and a sign in a hundred thousand turns.
    exact = backend.NAME == "tensorflow"
    lost = abs(right.sum() / len(labels) - ticket.accuracy)
    assert lost == 0 if exact else lost < 0.01
    assert len(labels) == ticket.test_images
    assert scores.shape[1:] == (len(ticket.classes),)
    answers = mpt.runtime.load(ticket.name)(images).argmax(-1)
    assert not exact or (answers == scores.argmax(-1)).all()


# --- Names ----------------------------------------------------------------


def test_list_is_one_of_dataclasses_and_a_table():
    assert isinstance(TICKETS, list)
    with pytest.raises(dataclasses.FrozenInstanceError):
        TICKETS[0].name = "other"
    lines = str(TICKETS).splitlines()
    assert lines[0].split()[:3] == ["name", "network", "data"]
    assert [line.split()[0] for line in lines[2:]] == [t.name for t in TICKETS]
    assert repr(TICKETS) == str(TICKETS)
    assert TICKETS[0] == mpt.pretrained.find(TICKETS[0].name)


def test_without_keras():
    script = (
        "import sys, mpt_keras as mpt\n"
        "print(mpt.pretrained.list())\n"
        f"ticket = mpt.pretrained.find({NAME!r})\n"
        "assert 'numpy' not in sys.modules\n"
        f"mpt.runtime.load({NAME!r})\n"
        f"mpt.ticket.read_ticket({NAME!r})\n"
        "from mpt_keras.command_line import main\n"
        "main(['pretrained'])\n"
        "assert 'keras' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{TICKETS}\n" * 2


@pytest.mark.parametrize("kind", [str, pathlib.Path, str.encode])
def test_a_name_stands_for_a_path(kind, elsewhere):
    name, path = kind(NAME), mpt.pretrained.find(NAME).path
    expected = mpt.ticket.read_ticket(path).checksum
    assert mpt.ticket.read_ticket(name).checksum == expected
    assert mpt.load_ticket(name).name == mpt.pretrained.load(NAME).name
    assert mpt.runtime.load(name).output_shape == (10,)
    if kind is not str.encode:
        found = mpt.summary(name, print_fn=None)
        assert found.totals.file == str(path)
        assert found.totals.ticket_bytes == path.stat().st_size


def test_a_name_stands_for_the_base(elsewhere):
    model = mpt.pretrained.load(NAME)
    mpt.save_ticket(model, "update.ticket", base=NAME)
    size = pathlib.Path("update.ticket").stat().st_size
    assert size < mpt.pretrained.find(NAME).bytes
    again = mpt.load_ticket("update.ticket", base=NAME)
    assert again.name == model.name


def test_a_file_of_the_name_comes_first(elsewhere):
    other = next(t for t in TICKETS if t.name != NAME)
    shutil.copy(other.path, NAME)
    expected = mpt.ticket.read_ticket(other.path).checksum
    assert mpt.ticket.read_ticket(NAME).checksum == expected
    assert (
        mpt.runtime.load(NAME).input_shape
        == mpt.load_ticket(other.path).input_shape[1:]
    )


def test_a_folder_of_the_name_gives_way(elsewhere, capsys):
    pathlib.Path(NAME).mkdir()  # as a run or an export is called
    assert mpt.runtime.load(NAME).output_shape == (10,)
    assert "23,568 in kernels" in prints(capsys, "summary", NAME)
    (pathlib.Path(NAME) / "saved_model.pb").touch()
    printed = prints(capsys, "verify", NAME)
    assert printed.startswith(f"{NAME}: whole")
    pathlib.Path("other").mkdir()
    with pytest.raises(OSError, match="other"):
        mpt.runtime.load("other")


def test_a_name_stands_for_the_ticket_of_a_task(elsewhere):
    tasks = mpt.TaskMasks(mpt.pretrained.load(NAME))
    tasks.add("digits", ticket=NAME)
    assert tasks.current == "digits"
    with pytest.raises(mpt.TicketError, match="Its weight"):
        tasks.add("other", ticket="digits_mpt_1_1")
    with pytest.raises(mpt.TicketError, match="Did you mean"):
        tasks.add("other", ticket="digits_mpt_1_33")


@pytest.mark.parametrize(
    "read", [mpt.load_ticket, mpt.runtime.load, mpt.summary]
)
def test_an_unknown_name_is_one_line(read, elsewhere):
    with pytest.raises(FileNotFoundError) as error:
        read("Digits-mpt-1-33")
    assert str(error.value).startswith(
        "There is no file 'Digits-mpt-1-33', and no ticket of that name comes "
        f"with the package. Did you mean '{NAME}'"
    )
    assert str(error.value).endswith("`mpt-keras pretrained`, lists them.")
    with pytest.raises(FileNotFoundError, match="folder/digits_mpt_1_32"):
        read(f"folder/{NAME}")
    with pytest.raises(FileNotFoundError, match=f"mean '{NAME}'"):
        read(f"{NAME}.ticket")
    with pytest.raises(FileNotFoundError, match=r"mine\.ticket'") as error:
        read("mine.ticket")
    assert "package" not in str(error.value)


@pytest.mark.parametrize("part", ["mnist", "conv-1", "Digits"])
def test_a_part_of_a_name_suggests_what_has_it(part):
    with pytest.raises(ValueError, match="Did you mean") as error:
        mpt.pretrained.find(part)
    written = part.lower().replace("-", "_")
    names = [ticket.name for ticket in TICKETS if written in ticket.name][:3]
    assert " or ".join(map(repr, names)) in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "none",
            f"../{NAME}",
            f"{NAME}.ticket",
            f"{NAME}\0",
            "x" * 999,
        ),
        *(None, 3, b"digits_mpt_1_32", pathlib.Path(NAME), [NAME]),
    ],
    ids=repr,
)
def test_load_takes_names_alone(name):
    with pytest.raises(ValueError, match="argument `name`") as error:
        mpt.pretrained.load(name)
    assert f"name={name!r}." in str(error.value)
    suggests = isinstance(name, (str, pathlib.Path)) and NAME in str(name)
    assert (f"Did you mean '{NAME}'" in str(error.value)) == suggests


# --- Damage ---------------------------------------------------------------


def test_a_damaged_file_is_one_line(copy, capsys):
    path = copy / f"{NAME}.ticket"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for read in (mpt.pretrained.load, mpt.load_ticket, mpt.runtime.load):
        with pytest.raises(mpt.TicketError) as error:
            read(NAME)
        assert f"The packaged ticket '{NAME}' is damaged." in str(error.value)
        assert "Install mpt_keras again: pip install" in str(error.value)
    assert "is damaged. Expected the SHA" in fails(capsys, "summary", NAME)
    path.unlink()
    with pytest.raises(mpt.TicketError, match="cannot be read: No such file"):
        mpt.pretrained.load(NAME)


@pytest.mark.parametrize(
    "text", ["", "[{}]", "{}", "[1]", "\x00", "[" * 100_000], ids=len
)
def test_a_damaged_table_is_one_line(text, copy, capsys):
    (copy / "table.json").write_text(text)
    with pytest.raises(mpt.TicketError, match="table of the packaged tickets"):
        mpt.pretrained.list()
    assert "Install mpt_keras again" in fails(capsys, "pretrained")
    (copy / "table.json").unlink()
    with pytest.raises(mpt.TicketError, match="Install mpt_keras again"):
        mpt.runtime.load(NAME)


# --- On the command line --------------------------------------------------


def prints(capsys, *arguments):
    assert command_line.main([*arguments]) == 0
    return capsys.readouterr().out


def test_commands_list_and_describe(capsys):
    assert prints(capsys, "pretrained") == f"{TICKETS}\n"
    found = prints(capsys, "pretrained", NAME)
    assert found == f"{mpt.pretrained.find(NAME)}\n"
    assert mpt.pretrained.find(NAME).command in found
    assert "Did you mean" in fails(capsys, "pretrained", "digits_mpt_1_3")
    with pytest.raises(SystemExit):
        command_line.main(["--help"])
    assert "`mpt-keras pretrained` lists them" in " ".join(
        capsys.readouterr().out.split()
    )


def test_commands_take_names(elsewhere, capsys):
    path = str(mpt.pretrained.find(NAME).path)
    assert f"({path})" in prints(capsys, "summary", NAME)
    found = prints(capsys, "verify", NAME, "--against", NAME)
    assert f"{NAME}: whole, and its kernels are those" in found
    assert "predicts the same as the frozen network" in found
    assert f"{NAME}: differs from {NAME} by up to 0 for 8 random" in found
    found = fails(capsys, "export", NAME, "--format=c", f"--output={path}")
    assert "Expected another file than the network's own" in found
    assert "Did you mean" in fails(capsys, "bench", "digits_mpt_1_33")


def test_verify_checks_the_accuracy(elsewhere, capsys, monkeypatch):
    digits()
    ticket = mpt.pretrained.find(NAME)
    # What comes before it is tested above.
    monkeypatch.setattr(verify, "_verify_model", lambda *_: None)
    found = prints(capsys, "verify", NAME, "--accuracy")
    assert (
        f"of 360 test images are right, {ticket.accuracy:.2%}; the table says "
        f"{ticket.accuracy:.2%}"
    ) in found
    better = dataclasses.replace(ticket, accuracy=ticket.accuracy + 0.02)
    with monkeypatch.context() as patch:
        patch.setattr(packaged, "tickets", lambda: (better,))
        found = fails(capsys, "verify", NAME, "--accuracy")
    assert "Expected at most 1 points less" in found
    found = fails(capsys, "verify", NAME, "--data_dir=data")
    assert "digits come with scikit-learn" in found
    shutil.copy(ticket.path, NAME)
    found = fails(capsys, "verify", NAME, "--accuracy")
    assert "which comes first" in found
    found = fails(capsys, "verify", f"{NAME}.ticket", "--accuracy")
    assert "Did you mean" in found
    found = fails(capsys, "verify", "mine.keras", "--accuracy")
    assert "are for tickets that come with the package" in found


# --- What is written of them ----------------------------------------------


def test_the_document_has_the_table():
    text = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
    assert f"\n{TICKETS.markdown()}\n" in text


def test_the_program_changes_nothing_without_runs(copy, tmp_path):
    pytest.importorskip("absl")
    import programs

    docs = tmp_path / "docs"
    docs.mkdir()
    names = ("pretrained.md", "pretrained_tickets.py")
    for name in names:
        shutil.copy(ROOT / "docs" / name, docs)
    printed = programs.succeed(docs / names[1], f"--runs={tmp_path}")
    assert printed.count("no finished runs of it") >= len(TICKETS)
    for name in names:
        assert (docs / name).read_text() == (ROOT / "docs" / name).read_text()
    table = packaged.TABLE
    here = pathlib.Path(packaged.__file__).parents[1] / "pretrained_tickets"
    assert (copy / table).read_text() == (here / table).read_text()


def test_the_program_packs_nothing_of_damaged_runs(copy, tmp_path):
    pytest.importorskip("absl")
    import programs

    from mpt_keras.experiments import Search
    from mpt_keras.experiments.following import in_force_of

    docs, runs = tmp_path / "docs", tmp_path / "runs"
    docs.mkdir()
    for name in ("pretrained.md", "pretrained_tickets.py"):
        shutil.copy(ROOT / "docs" / name, docs)
    program = docs / "pretrained_tickets.py"
    words = (f"--runs={runs}", f"--only={NAME}")
    shared = {"dataset": "digits", "model": "conv2", "width": 0.25}
    for name, method in (("found", "biprop"), ("dense", "dense")):
        (runs / name).mkdir(parents=True)
        search = Search(method=method, epochs=60, **shared)
        settings = in_force_of(search.followed().settings)
        text = json.dumps({"settings": settings}, default=str)
        (runs / name / "run.json").write_text(text)
        (runs / name / "result.json").write_text("{}")
    data = (copy / f"{NAME}.ticket").read_bytes()
    (runs / "found" / "network.ticket").write_bytes(data[:-1])
    assert "Cannot read the ticket" in programs.fail(program, *words)
    assert (copy / f"{NAME}.ticket").read_bytes() == data
    (runs / "found" / "run.json").write_text('{"settings"')
    printed = programs.succeed(program, *words)
    assert "left out, run.json" in printed
    assert f"{NAME}: no finished runs" in printed
    assert "Received: none" in programs.fail(program, "--only=none")


def test_the_wheel_has_the_files(tmp_path):
    builders = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = builders.WheelBuilder(str(ROOT)).build(
        directory=str(tmp_path), versions=["standard"]
    )
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        table = json.loads(file.read("mpt_keras/pretrained_tickets/table.json"))
    assert [row["name"] for row in table] == [t.name for t in TICKETS]
    for ticket in TICKETS:
        assert f"mpt_keras/pretrained_tickets/{ticket.name}.ticket" in names
