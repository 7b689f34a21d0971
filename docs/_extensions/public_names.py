"""Every public name of the package, for the reference to have each once."""

import inspect

import mpt_keras


def public_names():
    """Returns a dictionary: name after `mpt_keras.` -> object.

    Those of the package, and of its public modules those that they name in
    `__all__` or import on purpose (`X as X`). An object of several names has
    the first one, the shortest.
    """
    names = {name: getattr(mpt_keras, name) for name in mpt_keras.__all__}
    known = {id(found) for found in names.values()}
    for module_name in [n for n in names if inspect.ismodule(names[n])]:
        module = names[module_name]
        for name in _names_of(module):
            found = getattr(module, name)
            if id(found) not in known:
                known.add(id(found))
                names[f"{module_name}.{name}"] = found
    return names


def _names_of(module):
    if hasattr(module, "__all__"):
        return module.__all__
    imported = (
        name
        for name, found in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(found)
    )
    return imported if hasattr(module, "__path__") else ()


def _check(app, env):
    from sphinx.util import logging  # the tests read names without Sphinx

    logger = logging.getLogger(__name__)
    documented = env.domaindata["py"]["objects"]
    for name in public_names():
        if f"mpt_keras.{name}" not in documented:
            logger.warning("mpt_keras.%s has no place in docs/reference.", name)


def setup(app):
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
