"""Where a run computes: one device, several, several machines, a TPU."""

import contextlib
import dataclasses
import faulthandler
import json
import os
import typing

import keras
import rendezvous
from absl import flags
from command import RunError

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "distribute",
    "none",
    ["none", "mirrored", "multiworker", "tpu"],
    "none: one device. mirrored: all devices of this machine "
    "(MirroredStrategy on TensorFlow, DataParallel on JAX). multiworker: "
    "several machines named by TF_CONFIG, started alike. tpu: the TPU named "
    "by --tpu. Batch norms then see the statistics of the whole batch.",
)
flags.DEFINE_string(
    "tpu", "local", "TPU: 'local' on a TPU virtual machine, a name, or grpc://."
)
flags.DEFINE_float(
    "worker_timeout",
    600.0,
    "Seconds to wait for the other workers or for the TPU.",
)
flags.DEFINE_integer(
    "cpu_devices",
    None,
    "Treat the processor as so many devices, to try --distribute without "
    "accelerators.",
)


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


def start(batch_size):
    """Sets up the devices that the flags name; call it before any other work.

    Raises:
        RunError: If they cannot be had, or cannot share a batch evenly.
    """
    _split_processor()
    devices = {
        "none": Devices,
        "mirrored": _mirrored,
        "multiworker": _multiworker,
        "tpu": _tpu,
    }[FLAGS.distribute]()
    if batch_size % devices.replicas:
        raise RunError(
            f"--batch_size={batch_size} does not divide by the "
            f"{devices.replicas} replicas of --distribute={FLAGS.distribute}. "
            "The nearest that does is "
            f"{max(batch_size // devices.replicas, 1) * devices.replicas}."
        )
    return devices


def _split_processor():
    if FLAGS.cpu_devices is None:
        return
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", FLAGS.cpu_devices)
        return
    tf = _tensorflow()
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * FLAGS.cpu_devices
    tf.config.set_logical_device_configuration(cpu, parts)


def _tensorflow():
    if keras.backend.backend() != "tensorflow":
        raise RunError(
            f"--distribute={FLAGS.distribute} needs the TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}. On JAX, "
            "--distribute=mirrored uses all devices of this machine."
        )
    import tensorflow as tf

    return tf


def _mirrored():
    if keras.backend.backend() == "jax":
        parallel = keras.distribution.DataParallel()
        keras.distribution.set_distribution(parallel)
        return Devices(replicas=len(keras.distribution.list_devices()))
    strategy = _tensorflow().distribute.MirroredStrategy()
    return Devices(strategy, strategy.num_replicas_in_sync)


def _multiworker():
    tf = _tensorflow()
    if not FLAGS.output_dir:
        raise RunError(
            "--distribute=multiworker needs --output_dir, a folder that all "
            "workers see: worker 0 writes it, the others read its backups."
        )
    addresses, index = _cluster(os.environ.get("TF_CONFIG"))
    rendezvous.meet(addresses, index, FLAGS.worker_timeout)
    # TensorFlow waits for an hour, deaf to everything, if one of those who
    # met is killed before it has connected.
    faulthandler.dump_traceback_later(FLAGS.worker_timeout, exit=True)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
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
            "--distribute=multiworker needs the environment variable "
            f"TF_CONFIG, such as {example}. Received: TF_CONFIG={text!r}"
        ) from error
    return addresses, index


def _tpu():
    tf = _tensorflow()
    name = FLAGS.tpu
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        address = resolver.master().removeprefix("grpc://")
        if address and ":" in address:
            rendezvous.reach(address, FLAGS.worker_timeout)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            f"No TPU found by --tpu={name}: {reason} Expected 'local' on a "
            "TPU virtual machine, the name of a TPU of this project, or its "
            "address, grpc://host:port."
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    return Devices(strategy, strategy.num_replicas_in_sync)
