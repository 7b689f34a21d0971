"""Where a run computes: one device, several, several machines, a TPU."""

import contextlib
import dataclasses
import faulthandler
import functools
import json
import os
import typing

import keras

from mpt_keras.experiments import rendezvous
from mpt_keras.experiments.errors import RunError

_ON_JAX = "On JAX, distribute=mirrored uses all devices of this machine."


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a run computes on.

    Attributes:
        strategy: `tf.distribute.Strategy`, or None.
        replicas: Devices that share each batch, over all workers.
        workers: Processes that take part.
        index: Which of them this is; worker 0 writes the files.
    """

    strategy: typing.Any = None
    replicas: int = 1
    workers: int = 1
    index: int = 0

    @property
    def writes_files(self):
        return self.index == 0

    @property
    def own_replicas(self):
        """The numbers of this worker's replicas, a tuple."""
        share = self.replicas // self.workers
        return tuple(range(self.index * share, (self.index + 1) * share))

    def scope(self):
        """The context in which models are built."""
        if self.strategy is None:
            return contextlib.nullcontext()
        return self.strategy.scope()

    @contextlib.contextmanager
    def together(self):
        """The context of a whole run, which all workers leave together.

        Raises:
            WorkerLost: If another worker is gone.
        """
        if self.workers == 1:
            yield
            return
        from mpt_keras.experiments import multiworker  # imports TensorFlow

        with multiworker.noticing_lost_workers(self):
            yield
            multiworker.wait_for_all(self)

    def synchronize_batch_norms(self, network):
        """Every replica sees the batch norm statistics of the whole batch.

        On JAX it does so anyway.
        """
        if self.strategy is None:
            return
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
            elif isinstance(layer, keras.Model):
                self.synchronize_batch_norms(layer)

    def check_one_machine(self, doing):
        """Raises `RunError` if several workers would have to do something."""
        if self.workers > 1:
            raise RunError(
                f"distribute=multiworker cannot {doing}. Train on one machine, "
                "with distribute=mirrored."
            )

    def drops_remainder(self, asked=None):
        """Whether an epoch ends with its last whole batch.

        Args:
            asked: What the user wants; None for what suits the devices,
                several of which share every batch evenly.

        Raises:
            RunError: If the devices cannot do as the user wants.
        """
        if asked is None:
            return self.replicas > 1
        if self.replicas > 1 and not asked:
            raise RunError(
                f"drop_remainder=False needs one device: {self.replicas} "
                "replicas cannot share the last, smaller batch of an epoch "
                "evenly."
            )
        return asked

    def evaluation_batch(self, count, largest):
        """A batch size that leaves no replica without an image.

        Args:
            count: Number of images to evaluate.
            largest: Images per batch, which it does not exceed unless there
                are more replicas.

        Raises:
            RunError: If there is none.
        """
        # JAX spreads arrays over devices in equal parts only.
        unequal = self.strategy is not None or self.replicas == 1
        each = min(largest, count) // self.replicas
        # Keras adds up the replicas' parts of the first batch, to see their
        # kind.
        most = max(each, 1) * self.replicas
        for size in range(most, 0, -self.replicas):
            rest = count % size
            if rest == 0 or (rest >= self.replicas and unequal):
                return size
        raise RunError(
            f"{count} images cannot be evaluated by {self.replicas} replicas, "
            "which would not share them evenly. Use a number of devices that "
            "divides them."
        )


def start(batch_size, place, folder=None):
    """Sets up the devices of a place; call it before any other work.

    Args:
        batch_size: Images per step, over all devices.
        place: `Place`.
        folder: The run's folder, which several workers need.

    Raises:
        RunError: If they cannot be had, or cannot share a batch evenly.
    """
    _split_processor(place)
    devices = {
        "none": _one,
        "mirrored": _mirrored,
        "multiworker": lambda place: _multiworker(place, folder),
        "tpu": _tpu,
    }[place.distribute](place)
    if batch_size % devices.replicas:
        raise RunError(
            f"batch_size={batch_size} does not divide by the "
            f"{devices.replicas} replicas of distribute={place.distribute}. "
            "The nearest that does is "
            f"{max(batch_size // devices.replicas, 1) * devices.replicas}."
        )
    if place.deterministic:
        tf = _tensorflow("deterministic=True")
        tf.config.experimental.enable_op_determinism()
    return devices


def _split_processor(place):
    if place.cpu_devices is None:
        return
    try:
        if keras.backend.backend() == "jax":
            import jax

            jax.config.update("jax_num_cpu_devices", place.cpu_devices)
            return
        tf = _tensorflow(f"cpu_devices={place.cpu_devices}", "Or use JAX.")
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * place.cpu_devices
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError as error:
        raise RunError(
            f"cpu_devices={place.cpu_devices} comes too late: this process "
            "has computed already. Begin in a new one."
        ) from error


def _tensorflow(setting, instead=""):
    """TensorFlow, or a `RunError` about the setting that needs it."""
    if keras.backend.backend() != "tensorflow":
        raise RunError(
            f"{setting} needs the TensorFlow backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}. {instead}".rstrip()
        )
    import tensorflow as tf

    return tf


def _one(place):
    if keras.backend.backend() == "jax":
        # An earlier run of this process may have spread its own.
        keras.distribution.set_distribution(None)
    return Devices()


def _mirrored(place):
    if keras.backend.backend() == "jax":
        parallel = keras.distribution.DataParallel()
        keras.distribution.set_distribution(parallel)
        return Devices(replicas=len(keras.distribution.list_devices()))
    strategy = _mirrored_strategy()
    return Devices(strategy, strategy.num_replicas_in_sync)


@functools.cache
def _mirrored_strategy():
    # One for all runs of a process: each numbers its sums from the same
    # number on, by which processors then find those of another network.
    tf = _tensorflow("distribute=mirrored", _ON_JAX)
    return tf.distribute.MirroredStrategy()


def _multiworker(place, folder):
    tf = _tensorflow("distribute=multiworker", _ON_JAX)
    if folder is None:
        raise RunError(
            "distribute=multiworker needs the name of a folder that all "
            "workers see: worker 0 writes it, the others read its backups."
        )
    addresses, index = _cluster(os.environ.get("TF_CONFIG"))
    rendezvous.meet(addresses, index, place.worker_timeout)
    # TensorFlow waits for an hour, deaf to everything, if one of those who
    # met is killed before it has connected.
    faulthandler.dump_traceback_later(place.worker_timeout, exit=True)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:  # what it has set up is not set up again
        raise RunError(
            "distribute=multiworker comes too late: this process has computed "
            "already. Begin each run in a new one, as do the other workers."
        ) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
    return Devices(
        strategy, strategy.num_replicas_in_sync, len(addresses), index
    )


def _cluster(text):
    """The workers' addresses and the own index, from TF_CONFIG."""
    example = (
        '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text or "")
        addresses = list(config["cluster"]["worker"])
        index = int(config["task"]["index"])
        known = config["task"]["type"] == "worker"
        if not known or not 0 <= index < len(addresses):
            raise ValueError("the task is none of the workers")
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            "distribute=multiworker needs the environment variable "
            f"TF_CONFIG, such as {example}. Received: TF_CONFIG={text!r}"
        ) from error
    return addresses, index


def _tpu(place):
    tf = _tensorflow("distribute=tpu", _ON_JAX)
    name = place.tpu
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        address = resolver.master().removeprefix("grpc://")
        if address and ":" in address:
            rendezvous.reach(address, place.worker_timeout)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            f"No TPU found by tpu={name}: {reason} Expected 'local' on a "
            "TPU virtual machine, the name of a TPU of this project, or its "
            "address, grpc://host:port."
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    return Devices(strategy, strategy.num_replicas_in_sync)
