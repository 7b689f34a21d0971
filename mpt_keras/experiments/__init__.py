"""Experiments: runs of every method, from a notebook or the command line.

In Python::

    from mpt_keras.experiments import Search

    search = Search(dataset="cifar10", model="conv4", sparsity=0.8)
    result = search.run("runs/a", data_dir="data")

The extra `experiments` has what they need.
"""

import importlib.util

import lazy_loader

if importlib.util.find_spec("filelock") is None:
    raise ImportError(
        "mpt_keras.experiments needs packages that are not installed. Install "
        'them: pip install "mpt_keras[experiments]"'
    )

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
