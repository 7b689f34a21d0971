"""The page on which a ticket reads digits, built into the site.

`docs/browser/build.py` makes it, by a C compiler for WebAssembly. Where it
cannot, the site's build fails.
"""

import pathlib
import subprocess
import sys


def _build(app):
    program = pathlib.Path(app.srcdir, "browser", "build.py")
    if program.exists():
        folder = pathlib.Path(app.outdir, "browser")
        subprocess.run(
            [sys.executable, str(program), f"--output_dir={folder}"],
            check=True,
        )
    return ()


def setup(app):
    app.connect("html-collect-pages", _build)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
