"""Training on several machines, where Keras' `fit` cannot.

`keras.Model.fit` fails under `MultiWorkerMirroredStrategy` (Keras 3.15), so
this is the loop itself, on public interfaces. Every worker holds the same
variables, computes its part of every batch, and applies the sum of all
gradients.

When a worker disappears, TensorFlow can neither go on without it nor take it
back into processes that have begun. The others then have to start again (see
`restart`) and wait until the missing one has been started too; all continue
after the last whole epoch.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from mpt_keras.experiments.errors import RunError, WorkerLost

# What TensorFlow raises in a worker when another one is gone.
_WORKER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


@contextlib.contextmanager
def noticing_lost_workers(devices):
    """The context of all that workers do together.

    Raises:
        WorkerLost: If another worker is gone.
    """
    try:
        yield
    except _WORKER_LOST as error:
        raise WorkerLost(
            f"Worker {devices.index} has lost another one "
            f"({type(error).__name__}), and this process cannot go on without "
            "it. Start both again, and let them resume the run."
        ) from error


def fit(
    model,
    batches,
    first_epoch,
    epochs,
    callbacks,
    devices,
    evaluation_batch=500,
    verbose="auto",
):
    """Trains a compiled classifier (images to logits) on all workers.

    The log of an epoch is the same on every worker: loss (with
    regularization) and accuracy over the whole epoch, `test_loss` and
    `test_accuracy` of the test images after it and, if images are held out,
    `val_loss` and `val_accuracy` of these.

    Args:
        model: Built in the strategy's scope and compiled there, with a
            `keras.losses.Loss`.
        batches: `Batches`, a part for each replica, those of this worker.
        first_epoch: Number of epochs that were completed before.
        epochs: Number of epochs in all.
        callbacks: Keras callbacks of this worker.
        devices: `Devices` of a `MultiWorkerMirroredStrategy`.
        evaluation_batch: Images per step of the evaluation, over all workers.
        verbose: As for `keras.Model.fit`; only worker 0 shows anything.

    Raises:
        RunError: If the workers know different numbers of epochs.
    """
    strategy = devices.strategy
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    callbacks = keras.callbacks.CallbackList(
        callbacks,
        add_progbar=devices.writes_files and verbose != 0,
        model=model,
        epochs=epochs,
        steps=batches.per_epoch,
        verbose=verbose,
    )
    train_step, test_step = _steps(model, batches.size, devices)
    agree_on(first_epoch, devices)
    data = iter(
        strategy.distribute_datasets_from_function(
            lambda _: batches.from_epoch(first_epoch)
        )
    )
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(first_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        sums = np.zeros(2)
        for step in range(batches.per_epoch):
            callbacks.on_train_batch_begin(step)
            sums += _numbers(train_step(next(data)))
            loss, accuracy = sums / (step + 1)
            logs = {"loss": loss, "accuracy": accuracy}
            callbacks.on_train_batch_end(step, logs)
        callbacks.on_test_begin()
        for prefix, parts, count in _evaluations(batches, evaluation_batch):
            found = _evaluate(model, test_step, parts, count, devices)
            logs |= {f"{prefix}_{name}": found[name] for name in found}
        callbacks.on_test_end()
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end()


def agree_on(number, devices):
    """Raises `RunError` unless all workers know the same number of epochs."""
    if _sum_over_workers(number, devices) != number * devices.workers:
        raise RunError(
            f"Worker {devices.index} found a backup of {number} epochs in the "
            "run's folder, others found another. Expected one folder that all "
            "workers see. Nothing was changed."
        )


def wait_for_all(devices):
    """Returns when every worker has come here."""
    _sum_over_workers(0, devices)


def _sum_over_workers(number, devices):
    strategy = devices.strategy

    @tf.function
    def total():
        own = strategy.run(lambda: tf.constant(float(number)))
        return strategy.reduce("SUM", own, axis=None)

    return float(total()) * devices.workers / devices.replicas


def _steps(model, batch_size, devices):
    """The compiled steps of training and of evaluation, over all replicas."""
    strategy = devices.strategy
    optimizer = model.optimizer

    def results(images, labels, training):
        logits = model(images, training=training)
        losses = model.loss.call(labels, logits)
        guesses = tf.argmax(logits, axis=-1, output_type=labels.dtype)
        return losses, tf.cast(guesses == labels, "float32")

    def train_replica(images, labels):
        with tf.GradientTape() as tape:
            losses, right = results(images, labels, training=True)
            loss = tf.reduce_sum(losses) / batch_size
            if model.losses:
                loss += tf.add_n(model.losses) / devices.replicas
            scaled = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(scaled, variables), variables)
        return loss, tf.reduce_sum(right) / batch_size

    def test_replica(images, labels, weights):
        losses, right = results(images, labels, training=False)
        return tf.reduce_sum(weights * losses), tf.reduce_sum(weights * right)

    def over_replicas(replica_step):
        @tf.function
        def step(data):
            return [
                strategy.reduce("SUM", value, axis=None)
                for value in strategy.run(replica_step, args=data)
            ]

        return step

    return over_replicas(train_replica), over_replicas(test_replica)


def _evaluations(batches, evaluation_batch):
    """Of all images that are evaluated: prefix of the log, parts, number."""
    data = batches.data
    largest = max(evaluation_batch // batches.parts, 1)
    cut = (largest, batches.parts, batches.own_parts)
    yield "test", data.test_parts(*cut), data.test_count
    if data.validation_count:
        yield "val", data.validation_parts(*cut), data.validation_count


def _evaluate(model, test_step, parts, count, devices):
    """Every replica takes as many images; those too many weigh nothing."""
    totals = np.zeros(2)
    for of_replicas in parts:
        totals += _numbers(test_step(_per_replica(of_replicas, devices)))
    loss, accuracy = totals / count
    loss += sum(float(loss) for loss in model.losses)
    return {"loss": loss, "accuracy": accuracy}


def _per_replica(parts, devices):
    """One of the parts for each replica of this worker."""

    def spread(arrays):
        queue = iter(arrays)
        return devices.strategy.experimental_distribute_values_from_function(
            lambda _: tf.convert_to_tensor(next(queue))
        )

    return tuple(map(spread, zip(*parts, strict=True)))


def _numbers(tensors):
    return np.array([float(tensor) for tensor in tensors])
