"""How long engines take, side by side."""

import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping


def in_turn(
    functions: Mapping[str, Callable[[], object]],
    rounds: int = 50,
    warm_up: int = 5,
) -> dict[str, float]:
    """Times functions in turn (A B A B ...), so that all meet the same load.

    Args:
        functions: Name -> function without arguments.
        rounds: How often each is timed.
        warm_up: How often each is called before that.

    Returns:
        Name -> median of its times, in seconds.

    Raises:
        ValueError: If there are no rounds.

    Example:

    >>> list(in_turn({"nothing": lambda: None}, rounds=3))
    ['nothing']
    """
    if rounds < 1 or warm_up < 0:
        raise ValueError(
            "Invalid value for argument `rounds` or `warm_up`. Expected at "
            f"least 1 and 0. Received: rounds={rounds!r}, warm_up={warm_up!r}"
        )
    for function in functions.values():
        for _ in range(warm_up):
            function()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def processor() -> str:
    """Names the processor, as the system does.

    Example:

    >>> bool(processor())
    True
    """
    path = pathlib.Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
