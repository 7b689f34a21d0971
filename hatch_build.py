"""Puts compiled kernels into a wheel, if `MPT_KERAS_COMPILE=1`.

Such a wheel is one for this system, with every instruction set of this
processor's architecture; any other wheel is pure Python, and its kernels are
compiled where they are first used.
"""

import os
import pathlib
import runpy
import tempfile

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging import tags

VARIABLE = "MPT_KERAS_COMPILE"


class CompiledKernels(BuildHookInterface):
    def initialize(self, version, build_data):
        if os.environ.get(VARIABLE, "0") in ("", "0") or version == "editable":
            return
        runtime = pathlib.Path(self.root) / "mpt_keras" / "runtime"
        compiling = runpy.run_path(str(runtime / "compiling.py"))
        self._folder = tempfile.TemporaryDirectory()
        for level in compiling["LEVELS"][compiling["architecture"]()]:
            data = compiling["compile_kernels"](level)
            name = compiling["file_name"](
                compiling["library_name"](level), data
            )
            path = pathlib.Path(self._folder.name) / name
            path.write_bytes(data)
            target = f"mpt_keras/runtime/compiled/{name}"
            build_data["force_include"][str(path)] = target
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(self, version, build_data, artifact_path):
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def _platform():
    """This system; auditwheel finds out on how old ones a wheel runs."""
    return next(
        tag
        for tag in tags.platform_tags()
        if not tag.startswith(("manylinux", "musllinux"))
    )
