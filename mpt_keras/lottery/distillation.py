"""Training a ticket on the soft labels of the dense network."""

import keras
from keras import ops

REDUCTIONS = ("batchmean", "mean")


def distiller(
    teacher: keras.Model,
    student: keras.Model,
    temperature: float = 5.0,
    alpha: float = 0.9,
    kl_reduction: str = "mean",
) -> keras.Model:
    """Returns a model that trains a student on labels and a teacher.

    With the teacher's logits `t`, the student's `s` and `C` classes::

        loss = (1 - alpha) * loss(labels, s)
               + alpha * temperature**2 * KL(softmax(t / temperature),
                                             softmax(s / temperature))
               + regularization losses of the student

    averaged over the batch; with `kl_reduction="mean"` the KL term is divided
    by `C` as well, as the authors' code for CIFAR does (so that it weighs ten
    times less). The student is trained in place. The teacher is not trained,
    runs in inference mode, and is no longer trainable afterwards.

    Args:
        teacher: Built Keras model from inputs to logits, trained.
        student: Built Keras model of the same inputs and outputs. Both may be
            subclassed; their shapes are then compared when training begins.
        temperature: Positive number. Published: 5 for CIFAR, 4 for ImageNet.
        alpha: Number in [0, 1], the weight of the teacher. Published: 0.9.
        kl_reduction: `"mean"` (the authors' for CIFAR) or `"batchmean"` (the
            textbook's, and the authors' for ImageNet).

    Returns:
        A `keras.distillation.Distiller`; compile it with a loss from logits
        and fit it as any model. Its metrics are the student's.

    Raises:
        ValueError: If an argument is out of range, or teacher and student
            differ in their inputs or outputs.

    Example:

    >>> teacher = mpt_keras.models.lenet_300_100(masked=False, seed=0)
    >>> student = mpt_keras.models.lenet_300_100(masked=False, seed=1)
    >>> model = mpt_keras.lottery.distiller(teacher, student)
    >>> model.compile(
    ...     "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ... )
    >>> history = model.fit(digits, digit_labels, verbose=0)

    Reference:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015;
        Ma et al., "Good Students Play Big Lottery Better", 2021 (the KD
        ticket).
    """
    if kl_reduction not in REDUCTIONS:
        raise ValueError(
            "Invalid value for argument `kl_reduction`. Expected 'batchmean' "
            f"or 'mean'. Received: kl_reduction={kl_reduction!r}"
        )
    _check_number("temperature", temperature, "a positive number", low=0.0)
    _check_number("alpha", alpha, "a number in [0, 1]", high=1.0)
    _check_models(teacher, student)
    return _Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=[
            # An object: by its name Keras finds the function, which it then
            # applies to the logits as if they were probabilities.
            _SoftLabels(
                float(temperature),
                keras.losses.KLDivergence(),
                per_class=kl_reduction == "mean",
            )
        ],
        student_loss_weight=1.0 - float(alpha),
    )


@keras.saving.register_keras_serializable(package="mpt_keras")
class _Distiller(keras.distillation.Distiller):
    """Keras' `Distiller`, which forgets the regularization losses."""

    def get_compile_config(self):
        # What is saved is its parts, to be compiled again by hand.
        return None

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        for regularization in self.student.losses:
            # Keras' own, which counts it once under `tf.distribute`.
            regularization = self._aggregate_additional_loss(regularization)
            loss = ops.add(loss, ops.cast(regularization, loss.dtype))
        return loss


@keras.saving.register_keras_serializable(package="mpt_keras")
class _SoftLabels(keras.distillation.LogitsDistillation):
    """Keras' loss of logits, divided by the classes where that is asked."""

    def __init__(self, temperature, loss, per_class):
        super().__init__(temperature, loss)
        self.per_class = per_class

    def validate_outputs(self, teacher_outputs, student_outputs):
        outputs = (teacher_outputs, student_outputs)
        _check_logits(
            *keras.tree.map_structure(lambda one: tuple(one.shape), outputs)
        )

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        loss = super().compute_loss(teacher_outputs, student_outputs, **kwargs)
        return loss / student_outputs.shape[-1] if self.per_class else loss

    def get_config(self):
        return {**super().get_config(), "per_class": self.per_class}


def _check_number(name, value, expected, low=None, high=None):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    above = is_number and (value > low if low is not None else value >= 0)
    below = is_number and (value <= high if high is not None else True)
    if not above or not below or value == float("inf"):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {expected}. "
            f"Received: {name}={value!r}"
        )


def _check_models(teacher, student):
    for name, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, keras.Model) or not model.built:
            raise ValueError(
                f"Expected a built Keras model as {name}. Received: {model!r}"
            )
    # Subclassed models have no shapes of their own.
    inputs = [getattr(m, "input_shape", None) for m in (teacher, student)]
    if None not in inputs and inputs[0] != inputs[1]:
        raise ValueError(
            "Teacher and student must take the same inputs. Received: teacher "
            f"'{teacher.name}' of {inputs[0]}, student '{student.name}' of "
            f"{inputs[1]}"
        )
    outputs = [getattr(m, "output_shape", None) for m in (teacher, student)]
    if None not in outputs:
        _check_logits(*outputs)


def _check_logits(*shapes):
    """Raises `ValueError` unless teacher and student give as many."""
    are_logits = all(
        isinstance(shape, tuple) and len(shape) == 2 for shape in shapes
    )
    if not are_logits or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "Teacher and student must give as many logits, one output of the "
            f"shape (batch, classes). Received: {shapes[0]} of the teacher, "
            f"{shapes[1]} of the student"
        )
