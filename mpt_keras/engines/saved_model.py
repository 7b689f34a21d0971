"""TensorFlow's SavedModel."""

import contextlib
import dataclasses
import functools

import keras
import numpy as np

from mpt_keras.engines import requirements
from mpt_keras.engines.engine import Engine, by_name, in_order
from mpt_keras.engines.inputs import signature
from mpt_keras.engines.report import layer_reports


@dataclasses.dataclass(frozen=True)
class SavedModel(Engine):
    """A folder that TensorFlow serves; reloaded by `tf.saved_model.load`."""

    name = "saved_model"
    holds = "saved_model.pb"
    patterns = "[*?\\"
    contents = (
        *("saved_model.pb", "fingerprint.pb", "keras_metadata.pb"),
        *("variables", "variables/variables.*", "assets", "assets/*"),
    )

    def require(self):
        requirements.load("tensorflow", "tensorflow", "tensorflow")

    def write(self, model, path):
        # Keras' `export` stores every weight twice: as its own variable and as
        # TensorFlow's in it.
        archive = keras.export.ExportArchive()
        archive.add_endpoint(
            "serve",
            functools.partial(model.__call__, training=False),
            input_signature=signature(model, batch_size=None),
        )
        try:
            archive.write_out(str(path), verbose=False)
        except AssertionError:  # it has tables, which must be tracked
            model.export(str(path), format="tf_saved_model", verbose=False)

    def load(self, path, sources, threads=None):
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        serve = loaded.signatures["serving_default"]
        names = list(serve.structured_input_signature[1])

        def run(arrays, _alive=loaded):
            named = by_name(arrays, sources, names)
            outputs = serve(
                **{name: tf.constant(array) for name, array in named.items()}
            )
            return [output.numpy() for output in in_order(outputs)]

        return run

    def layers(self, model, path):
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        arrays = {
            name: reader.get_tensor(name)
            for name, shape in reader.get_variable_to_shape_map().items()
            if shape
        }
        floats = {
            name: array
            for name, array in arrays.items()
            if np.issubdtype(array.dtype, np.floating)
        }

        def describe(match):
            stored = f"{floats[match.tensor].dtype}, {match}"
            return stored, "TensorFlow, as Keras does"

        return layer_reports(model, floats, describe)


def limit_threads(threads: int) -> bool:
    """Sets with how many threads TensorFlow computes, before it begins to.

    Returns:
        Whether it computes with so many; not, where it began with others.
    """
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf.config.threading.get_intra_op_parallelism_threads() == threads
