"""Which exports a masked layer refuses."""

import sys

# These lack operations that selection needs, or their types. Some exporters
# say so, others write a file that cannot run.
_CANNOT_SELECT = {
    f"keras.src.export.{name}": name for name in ("litert", "onnx", "openvino")
}


def check_exportable(layer):
    """Raises `ValueError` in an export to a format that cannot select.

    Keras gives a layer no say in an export, and traces in it what `predict`
    traces: only the functions that are running tell them apart.
    """
    frame = sys._getframe()
    while frame is not None:
        name = _CANNOT_SELECT.get(frame.f_globals.get("__name__"))
        if name:
            raise ValueError(
                f"Layer '{layer.name}' selects its weights anew in every call, "
                f"which a file of format={name!r} cannot. Freeze the model "
                f"first: mpt_keras.freeze(model).export(..., format={name!r})."
            )
        frame = frame.f_back
