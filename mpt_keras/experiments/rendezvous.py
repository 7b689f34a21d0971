"""Workers wait for each other before TensorFlow does, which waits silently."""

import socket
import threading
import time

from mpt_keras.experiments.errors import RunError

_HELLO = b"mpt_keras worker %d"
_PATIENCE = 1.0  # seconds for one answer, and between two attempts


def meet(addresses, index, timeout):
    """Returns when every worker has greeted every other.

    Args:
        addresses: `host:port` of all workers, in the same order everywhere.
            The own port is free again afterwards.
        index: Which of them this is.
        timeout: Seconds.

    Raises:
        RunError: If a worker does not appear; with its address.
    """
    others = set(range(len(addresses))) - {index}
    heard_from = set()
    with _listen(addresses[index]) as server:
        stop = threading.Event()
        greeter = threading.Thread(
            target=_answer, args=(server, index, heard_from, stop)
        )
        greeter.start()
        try:
            answered = _greet_all(addresses, index, others, timeout, heard_from)
        finally:
            stop.set()
            greeter.join()
    missing = others - (answered & heard_from)
    if missing:
        raise RunError(
            f"Worker {index} waited {timeout:g} s in vain for "
            + ", ".join(
                f"worker {i} at {addresses[i]}" for i in sorted(missing)
            )
            + ". Start it with the same command and its own TF_CONFIG, check "
            "that the address can be reached from here, or raise "
            "worker_timeout."
        )


def reach(address, timeout):
    """Raises `OSError` if nobody accepts connections at `host:port`."""
    try:
        socket.create_connection(_split(address), timeout).close()
    except OSError as error:
        raise OSError(f"{address} does not answer ({error}).") from error


def _split(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def _listen(address):
    try:
        _, port = _split(address)
        # All interfaces, as TensorFlow's own server.
        server = socket.create_server(("", port))
    except (OSError, ValueError, OverflowError) as error:
        raise RunError(
            f"Cannot listen at '{address}', this worker's address in "
            f"TF_CONFIG: {error}. Expected host:port with a free port."
        ) from error
    server.settimeout(_PATIENCE / 10)
    return server


def _answer(server, index, heard_from, stop):
    """Answers greetings until it is told to stop."""
    while not stop.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        with connection:
            try:
                connection.settimeout(_PATIENCE)
                greeting = connection.recv(64)
                connection.sendall(_HELLO % index)
            except OSError:
                continue
            name, _, number = greeting.rpartition(b" ")
            if name == _HELLO.rpartition(b" ")[0] and number.isdigit():
                heard_from.add(int(number))


def _greet_all(addresses, index, others, timeout, heard_from):
    """Greets until all have answered and been heard from, or time is up."""
    deadline = time.monotonic() + timeout
    answered = set()
    while not others <= answered & heard_from:
        if time.monotonic() > deadline:
            break
        for other in others - answered:
            if _greet(addresses[other], index, other):
                answered.add(other)
        time.sleep(_PATIENCE / 10)
    return answered


def _greet(address, index, other):
    """Whether the worker meant answers; a predecessor's server does not."""
    try:
        with socket.create_connection(_split(address), _PATIENCE) as connection:
            connection.settimeout(_PATIENCE)
            connection.sendall(_HELLO % index)
            return connection.recv(64) == _HELLO % other
    except (OSError, ValueError):
        return False
