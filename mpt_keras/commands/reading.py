"""What commands read, and how they say what they found."""


def say(text):
    from mpt_keras.text_tables import print_text

    print_text(str(text))


def read(path, base=None):
    from mpt_keras.model_files import read_model

    return read_model(path, base)


def arrays_of(path, sources):
    """The arrays of a file, in the order of a model's inputs, or None."""
    if path is None:
        return None
    import numpy as np

    from mpt_keras.engines.inputs import given_arrays

    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.lib.npyio.NpzFile):
        with found:
            arrays = dict(found)
        names = [source.name for source in sources]
        if set(names) <= arrays.keys():
            found = {name: arrays[name] for name in names}
        elif len(names) == 1 or all(name.startswith("arr_") for name in arrays):
            found = list(arrays.values())  # as numpy.savez numbers them
        else:
            found = arrays  # whose names are none of the model's
    return given_arrays(found, sources)


def predictions(path, sources, arrays):
    """What a file of any kind predicts."""
    from mpt_keras.engines.inputs import model_inputs, predict
    from mpt_keras.ticket.packaged import as_path

    engine = engine_of(path)
    if engine is None:
        path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file '{path}'.")
    if engine is not None:
        engine.require()
        return engine.load(path, sources)(arrays)
    model = read(path)
    expected = [source.shape for source in sources]
    received = [source.shape for source in model_inputs(model)]
    if expected != received:
        raise ValueError(
            f"'{path}' takes other inputs. Expected the shapes {expected}. "
            f"Received: {received}"
        )
    return predict(model, arrays)


def engine_of(path):
    """The engine that reads an export; None of a model's file."""
    from mpt_keras.engines import ENGINES

    for engine in ENGINES.values():
        is_folder = not engine.ending and (path / engine.holds).exists()
        is_file = engine.ending and path.suffix == engine.ending
        if engine.ending != ".keras" and (is_folder or is_file):
            return engine()
    return None
