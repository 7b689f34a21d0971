"""Kernels are compiled once, kept, and loaded only if they are whole."""

import ctypes
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
from conftest import ROOT

from mpt_keras.runtime import compiling, library, processor, structures

KERNELS = ROOT / "mpt_keras/runtime/kernels"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
WIDTHS = (64, 32, 16, 8, 4)

pytestmark = pytest.mark.skipif(
    not COMPILERS or sys.platform == "win32", reason="needs a C compiler"
)


@pytest.fixture(scope="module")
def compiled():
    """The kernels at the least level, as bytes of a library."""
    return library.load("plain").origin.read_bytes()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a process that has loaded nothing yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(library.VARIABLE, str(folder))
    monkeypatch.delenv(processor.VARIABLE, raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(library, "_loaded", {})
    monkeypatch.setattr(library, "_warned", set())
    return folder


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "ziglang", None)


@pytest.fixture
def counted(monkeypatch, compiled):
    """Compiles at once what was compiled before; how often it did."""
    calls = []

    def compile_kernels(level):
        calls.append(level)
        return compiled

    monkeypatch.setattr(compiling, "compile_kernels", compile_kernels)
    return calls


@pytest.fixture
def kept(cache, compiled):
    """The file that a process before left in the cache."""
    cache.mkdir(mode=0o700)
    begin = compiling.library_name("plain")
    path = cache / compiling.file_name(begin, compiled)
    path.write_bytes(compiled)
    path.chmod(0o644)
    return path


def compiler_that(folder, line, name="compiler"):
    """A compiler that is a shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def quickly():
    """The line of one that compiles quickly, because nobody measures it."""
    found = shutil.which(COMPILERS[0])
    return f"PATH='{os.environ['PATH']}' exec {found} \"$@\" -O1"


def copies(loaded):
    """Whether it takes images to planes and back, between two orders."""
    kinds = structures.structures()
    images = np.arange(30, dtype="float32").reshape(3, 2, 5)
    results = np.zeros_like(images)
    arena = np.zeros(30, "float32")
    loaded.run(
        (library.Step * 0)(),
        0,
        kinds["images_to_planes"](0, channels=5, pixels=2, images=3),
        images.ctypes.data,
        kinds["planes_to_images"](0, channels=5, pixels=2, images=3),
        results.ctypes.data,
        arena.ctypes.data,
    )
    np.testing.assert_array_equal(results, images)
    planes = arena.reshape(5, 2, 3)
    np.testing.assert_array_equal(planes, images.transpose(2, 1, 0))
    return True


# Structures and sources.


def test_structures_are_those_of_the_compiler(tmp_path):
    kinds = structures.structures()
    lines = [
        f'{{"{name}", "", sizeof(struct {name}), 0}},\n'
        + "".join(
            f'{{"{name}", "{field}", offsetof(struct {name}, {field}), '
            f"sizeof(((struct {name} *)0)->{field})}},\n"
            for field, _ in kind._fields_
        )
        for name, kind in kinds.items()
    ]
    program = tmp_path / "program.c"
    program.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        + structures.source_of(kinds)
        + "struct row { const char *name, *field; size_t at, size; };\n"
        f"static const struct row rows[] = {{\n{''.join(lines)}}};\n"
        "int main(void) {\n"
        "for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)\n"
        'printf("%s.%s %d %d\\n", rows[i].name, rows[i].field,'
        " (int)rows[i].at, (int)rows[i].size);\n"
        "return 0; }\n"
    )
    subprocess.run(
        [COMPILERS[0], *STRICT, program, "-o", tmp_path / "a"], check=True
    )
    printed = subprocess.check_output([tmp_path / "a"], text=True)
    expected = []
    for name, kind in kinds.items():
        expected.append(f"{name}. {ctypes.sizeof(kind)} 0")
        for field, _ in kind._fields_:
            place = getattr(kind, field)
            expected.append(f"{name}.{field} {place.offset} {place.size}")
    assert printed.splitlines() == expected


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Writes sources, instead of those of the package."""
    monkeypatch.setattr(structures, "_KERNELS", tmp_path)
    monkeypatch.setattr(
        structures, "kernel_files", structures.kernel_files.__wrapped__
    )

    def write(**texts):
        for name, text in texts.items():
            path = tmp_path / name.replace("_", ".")
            path.write_text(textwrap.dedent(text))

    return write


HEADER = """\
    /* Steps. */
    #ifndef STEPS_H
    #define STEPS_H
    #include <stdint.h>
    #define MPT_STEPS              \\
      const float *scale, *offset; \\
      float low, high;
    #endif
"""
KERNEL = """\
    #include "steps.h"
    #include <stdint.h>

    struct sum { // sums; of { many }
      int32_t output, count; /* offset; struct other { int32_t a; }; */
      MPT_STEPS
      const uint64_t *words,
          *others;
    };

    MPT_KERNEL void sum(const struct sum *k, char *arena) {}
    #ifdef MPT_LIBRARY
    MPT_KERNEL void whole(const struct whole *k, char *arena) {}
    #else
    int without;
    #endif
    // MPT_KERNEL void old(const struct old *k, char *arena) {}
"""


def test_structures_are_read_in_spite_of_comments_and_macros(sources):
    sources(steps_h=HEADER, sum_c=KERNEL)
    (kind,) = structures.structures.__wrapped__().values()
    assert kind.__name__ == "sum"
    assert kind._fields_ == [
        ("output", ctypes.c_int32),
        ("count", ctypes.c_int32),
        ("scale", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
        ("words", ctypes.c_void_p),
        ("others", ctypes.c_void_p),
    ]
    assert structures.kernel_files() == {"sum": "sum.c"}


@pytest.mark.parametrize(
    "declaration", ["int count", "int32_t taps[3]", "struct sum *next", "char"]
)
def test_other_fields_are_an_error(sources, declaration):
    text = KERNEL.replace("int32_t output, count", declaration)
    sources(steps_h=HEADER, sum_c=text)
    with pytest.raises(ValueError, match="Expected numbers and pointers") as e:
        structures.structures.__wrapped__()
    assert declaration in str(e.value)


def test_a_source_has_every_file_once(sources):
    second = KERNEL.replace("sum", "mean").replace("without", "also_without")
    sources(steps_h=HEADER, sum_c=KERNEL, mean_c=second)
    text = structures.source_of(["sum", "mean"])
    assert text == structures.source_of({"mean", "sum"})
    assert text.startswith("#include <stdint.h>\n")
    for once in (
        "#include",
        "pop",
        "/* Steps. */",
        "struct sum {",
        "struct mean {",
    ):
        assert text.count(once) == 1
    assert text.index("MPT_STEPS") < text.index("struct mean {")
    assert "int without;" in text
    for never in ("STEPS_H", "MPT_LIBRARY", "whole", '"steps.h"'):
        assert never not in text
    assert "mean" not in structures.source_of(["sum"])


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_kernel_compiles_alone_and_all_do_together(compiler, tmp_path):
    kernels = structures.structures()
    for number, wanted in enumerate([*([name] for name in kernels), kernels]):
        text = structures.source_of(wanted)
        assert "MPT_LIBRARY" not in text
        (tmp_path / f"{number}.c").write_text(text)
    files = sorted(tmp_path.iterdir())
    compile_strictly(compiler, ["-Os", "-ffreestanding"], files, tmp_path)


def compile_strictly(compiler, flags, paths, folder):
    subprocess.run(
        [compiler, *STRICT, *flags, "-c", *paths], check=True, cwd=folder
    )


@pytest.mark.parametrize(
    "width",
    [
        pytest.param(width, marks=() if width in (64, 4) else pytest.mark.slow)
        for width in WIDTHS
    ],
)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_file_compiles_at_every_width(compiler, width, tmp_path):
    flags = [f"-DMPT_WIDTH={width}", "-Os", "-ffreestanding"]
    if compiler == "gcc":
        # Of static functions alone: that vectors are passed in memory.
        flags += ["-Wno-psabi"]
    files = sorted(KERNELS.glob("*.c"))
    compile_strictly(compiler, flags, files, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("level", compiling.LEVELS[compiling.architecture()])
@pytest.mark.parametrize("compiler", [*COMPILERS, "ziglang"])
def test_every_level_compiles_without_warnings(compiler, level):
    command = [compiler]
    if compiler == "ziglang":
        pytest.importorskip("ziglang")
        command = [sys.executable, "-m", "ziglang", "cc"]
        command += compiling._ZIG_FLAGS
    flags = compiling.LEVELS[compiling.architecture()][level]
    assert compiling._compiled([*command, *STRICT[1:]], flags)


# Finding, keeping, loading.


def test_a_library_runs():
    loaded = library.load()
    assert loaded.level == processor.levels()[0]
    assert library.load() is loaded
    assert copies(loaded)
    addresses = {loaded.function(name) for name in structures.structures()}
    assert len(addresses) == len(structures.structures())
    with pytest.raises(AttributeError, match="no_such_kernel"):
        loaded.function("no_such_kernel")


def test_what_is_kept_needs_no_compiler(kept, no_compiler, counted):
    def start(*arguments, **_):
        raise AssertionError(f"Started {arguments}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", start)
        loaded = library.load("plain")
    assert loaded.origin == kept
    assert copies(loaded)
    assert counted == []


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def corrupt(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_text(path):
    """By a file whose checksum is right."""
    path.unlink()
    name = compiling.file_name(compiling.library_name("plain"), b"text")
    path.with_name(name).write_bytes(b"text")


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def make_stale(path):
    path.rename(path.with_name(path.name.replace("plain-", "plain-0")))


DAMAGES = [truncate, empty, corrupt, replace_by_text, make_stale]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_ours_is_compiled_anew(kept, counted, damage):
    damage(kept)
    loaded = library.load("plain")
    assert counted == ["plain"]
    assert loaded.origin == kept
    assert copies(loaded)
    library._loaded.clear()
    assert library.load("plain").origin == kept
    assert counted == ["plain"]


def test_other_sources_are_another_library(kept, counted, monkeypatch):
    sources = [path for path in compiling._SOURCES if path.name != "run.c"]
    monkeypatch.setattr(compiling, "_SOURCES", sources)
    assert library.load("plain").origin != kept
    assert counted == ["plain"]


def test_a_folder_in_its_place_is_no_file(kept, counted):
    replace_by_folder(kept)
    with pytest.warns(UserWarning, match="cannot keep them"):
        loaded = library.load("plain")
    assert copies(loaded)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_everybody_may_write_is_not_loaded(kept, counted, what):
    path = kept.parent if what == "folder" else kept
    path.chmod(0o777)
    if what == "file":  # replaced by one that only we may write
        assert library.load("plain").origin == kept
        assert kept.stat().st_mode & 0o777 == 0o644
    else:
        with pytest.warns(UserWarning, match="everybody may write to it"):
            loaded = library.load("plain")
        assert copies(loaded)
        assert loaded.origin != kept
        assert not loaded.origin.exists()
    assert counted == ["plain"]


def test_what_others_own_is_not_loaded(kept, counted, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: kept.stat().st_uid + 1)
    with pytest.warns(UserWarning, match="belongs to another user"):
        loaded = library.load("plain")
    assert copies(loaded)
    assert counted == ["plain"]


def test_a_folder_that_cannot_be_written_is_named_once(
    cache, counted, monkeypatch
):
    cache.write_text("a file")
    monkeypatch.setenv(library.VARIABLE, str(cache / "below"))
    with pytest.warns(UserWarning, match=library.VARIABLE) as caught:
        loaded = library.load("plain")
    assert copies(loaded)
    assert len(caught) == 1
    assert str(cache) in str(caught[0].message)
    assert caught[0].filename == __file__
    library._loaded.clear()
    assert copies(library.load("plain"))  # warnings are errors


def test_processes_at_once_leave_one_file(
    cache, tmp_path, monkeypatch, quickly
):
    monkeypatch.setenv("CC", compiler_that(tmp_path, quickly))
    command = [
        sys.executable,
        "-c",
        "from mpt_keras.runtime import library\n"
        "assert library.load('plain').function('images_to_planes')",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in started:
        assert process.communicate() == (None, b"")
        assert process.returncode == 0
    assert len(list(cache.iterdir())) == 1


def test_without_a_compiler_there_is_one_warning(cache, no_compiler):
    with pytest.warns(UserWarning, match="found no C compiler") as caught:
        assert library.load("plain") is None
    assert len(caught) == 1
    assert library.load("plain") is None  # warnings are errors
    assert 'pip install "mpt_keras[runtime]"' in str(caught[0].message)
    assert caught[0].filename == __file__


def test_what_a_compiler_says_is_in_the_warning(
    cache, no_compiler, tmp_path, monkeypatch
):
    path = compiler_that(tmp_path, "echo sad news >&2; exit 3")
    monkeypatch.setenv("CC", f"{path} -flag")
    with pytest.warns(UserWarning, match="slowly") as caught:
        assert library.load("plain") is None
    assert len(caught) == 1
    expected = f"`{path} -flag`: ended with status 3\nsad news\n"
    assert expected in str(caught[0].message)
    with pytest.raises(compiling.CompilerError, match="sad news"):
        compiling.compile_kernels("plain")


def test_the_next_compiler_may_do(cache, tmp_path, monkeypatch, quickly):
    compiler_that(tmp_path, "exit 1", "cc")
    compiler_that(tmp_path, quickly, "clang")
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert copies(library.load("plain"))


def test_a_library_that_does_not_load_is_named(cache, monkeypatch):
    monkeypatch.setattr(compiling, "compile_kernels", lambda level: b"\x7fELF")
    with pytest.warns(UserWarning, match="could not load") as caught:
        assert library.load("plain") is None
    assert len(caught) == 1


def test_the_compiler_of_ziglang(cache, tmp_path, monkeypatch):
    log = tmp_path / "log"
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import subprocess, sys\n"
        "what, target, *arguments = sys.argv[1:]\n"
        f"open({str(log)!r}, 'a').write(f'{{what}} {{target}}\\n')\n"
        f"sys.exit(subprocess.call([{COMPILERS[0]!r}, "
        "*arguments, '-lgcc', '-O1']))"
    )
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    importlib.invalidate_caches()
    assert copies(library.load("plain"))
    assert set(log.read_text().splitlines()) == {"cc -mcpu=baseline"}


# Instruction sets.


def test_levels_by_argument_and_by_variable(cache, counted, monkeypatch):
    assert processor.levels()[-1] == "plain"
    assert library.load("plain").level == "plain"
    monkeypatch.setenv(processor.VARIABLE, "plain")
    assert library.load().level == "plain"
    assert library.load(processor.levels()[0]).level == processor.levels()[0]
    monkeypatch.setenv(processor.VARIABLE, "")
    assert processor.choose() == processor.levels()[0]


def test_levels_that_this_processor_lacks_are_an_error(monkeypatch):
    with pytest.raises(ValueError, match=r"`level`.*'plain'.*'altivec'"):
        library.load("altivec")
    monkeypatch.setenv(processor.VARIABLE, "altivec")
    with pytest.raises(ValueError, match=r"MPT_KERAS_RUNTIME_LEVEL.*'plain'"):
        library.load()
    monkeypatch.setattr(processor, "levels", lambda: ("sse2", "plain"))
    with pytest.raises(ValueError, match=r"'sse2', 'plain'.*'avx2'"):
        library.load("avx2")


AVX2 = "fpu sse2 popcnt fma avx2"
AVX512 = f"{AVX2} avx512f avx512bw avx512dq avx512vl"
EVERYTHING = f"{AVX512} avx512vbmi avx512_bitalg avx512_vpopcntdq"


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        ("fpu sse2", "sse2"),
        ("fpu sse2 avx2 popcnt", "sse2"),
        (AVX2, "avx2"),
        (f"{AVX2} avx512f", "avx2"),
        (AVX512, "avx512"),
        (f"{AVX512} avx512_vpopcntdq", "avx512"),
        (EVERYTHING, "avx512_popcnt"),
        (EVERYTHING.replace("avx2", ""), "sse2"),
    ],
)
def test_levels_are_what_linux_says_where_numpy_says_nothing(
    flags, best, tmp_path, monkeypatch
):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n")
    monkeypatch.setattr(processor, "_of_numpy", lambda: None)
    monkeypatch.setattr(processor.pathlib, "Path", lambda _: path)
    monkeypatch.setattr(processor, "architecture", lambda: "x86_64")
    levels = processor.levels.__wrapped__()
    assert levels[0] == best
    assert levels[-2:] == ("sse2", "plain")


def test_without_anything_known_the_least_is_taken(monkeypatch):
    def missing(path, **_):
        raise FileNotFoundError

    monkeypatch.setattr(processor, "_of_numpy", lambda: None)
    monkeypatch.setattr(pathlib.Path, "read_text", missing)
    for architecture, expected in (
        ("x86_64", ("sse2", "plain")),
        ("aarch64", ("neon", "plain")),
        ("other", ("plain",)),
    ):
        monkeypatch.setattr(
            processor, "architecture", lambda found=architecture: found
        )
        assert processor.levels.__wrapped__() == expected


@pytest.mark.skipif(
    compiling.architecture() != "x86_64" or sys.platform != "linux",
    reason="compares with Linux",
)
def test_numpy_and_linux_know_the_same():
    names = processor._NEEDED["avx512_popcnt"]
    assert processor._of_numpy() & names == processor._of_linux() & names


@pytest.mark.parametrize(
    ("machine", "bits", "expected"),
    [
        ("x86_64", 64, "x86_64"),
        ("AMD64", 64, "x86_64"),
        ("arm64", 64, "aarch64"),
        ("aarch64", 64, "aarch64"),
        ("x86_64", 32, "other"),
        ("riscv64", 64, "other"),
    ],
)
def test_architectures(machine, bits, expected, monkeypatch):
    monkeypatch.setattr(compiling.platform, "machine", lambda: machine)
    monkeypatch.setattr(compiling.struct, "calcsize", lambda _: bits // 8)
    assert compiling.architecture() == expected


# Places.


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {}, "/home/me/.cache/mpt_keras"),
        ("linux", {"XDG_CACHE_HOME": "/fast"}, "/fast/mpt_keras"),
        ("linux", {"XDG_CACHE_HOME": "here"}, "/home/me/.cache/mpt_keras"),
        ("linux", {"MPT_KERAS_CACHE": "/mine"}, "/mine"),
        ("darwin", {}, "/home/me/Library/Caches/mpt_keras"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/mpt_keras/Cache"),
    ],
)
def test_where_kernels_are_kept(system, variables, expected, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", library.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", system)
    assert library.cache_folder() == pathlib.Path(expected)


def test_where_kernels_are_kept_of_a_user_without_a_home(monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(library.VARIABLE)
    monkeypatch.setattr(pathlib.Path, "expanduser", no_home)
    assert library.cache_folder().name == f"mpt_keras-{os.getuid()}"


def build_wheel(folder):
    builders = pytest.importorskip("hatchling.builders.wheel")
    builder = builders.WheelBuilder(str(ROOT))
    (wheel,) = builder.build(directory=str(folder), versions=["standard"])
    return pathlib.Path(wheel)


def test_a_wheel_is_pure_and_has_the_sources(tmp_path, monkeypatch):
    monkeypatch.delenv("MPT_KERAS_COMPILE", raising=False)
    wheel = build_wheel(tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in KERNELS.iterdir():
        assert path.relative_to(ROOT).as_posix() in names
    assert not [name for name in names if "runtime/compiled/" in name]


def test_a_wheel_can_have_compiled_kernels(tmp_path, monkeypatch, quickly):
    monkeypatch.setenv("CC", compiler_that(tmp_path, quickly))
    monkeypatch.setenv("MPT_KERAS_COMPILE", "1")
    wheel = build_wheel(tmp_path)
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    folder = tmp_path / "site/mpt_keras/runtime/compiled"
    levels = {path.name.split("-")[1] for path in folder.iterdir()}
    assert levels == set(compiling.LEVELS[compiling.architecture()])
    program = (
        "from mpt_keras.runtime import library\n"
        "print(library.load().origin.parent)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "site"),
        "PATH": "",
        library.VARIABLE: str(tmp_path / "nothing"),
    }
    environment.pop("CC")
    printed = subprocess.check_output(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        text=True,
    )
    assert printed.strip() == str(folder)
