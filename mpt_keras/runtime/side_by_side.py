"""Many images a run, if that is faster than one after another."""

import math
import sys
import threading
import time

from mpt_keras.runtime.compiled_program import CompiledProgram
from mpt_keras.runtime.errors import UnsupportedLayerError
from mpt_keras.runtime.packing import pack

# So many images a run, where that is faster than one after another.
SIDE_BY_SIDE = 64
LARGEST = 2**28  # bytes of memory for them
# Both ways are timed in turn, so often unless it is clear before, or takes
# more seconds; and one after another only a few images.
_TRIES = 5
_CLEAR = 1.25
_PATIENCE = 0.5
_FEW = 8


class SideBySide:
    """Many images a run, if that is faster than one after another."""

    def __init__(self, one, compiled, plan_again):
        self._one = one
        self._compiled = compiled
        self._plan_again = plan_again
        self._lock = threading.Lock()
        self._is_faster: bool | None = None if plan_again else False
        self._many: CompiledProgram | None = None

    def run(self, images, results) -> int:
        """Computes some of the images; returns how many, from the first."""
        with self._lock:
            if self._is_faster is None:
                self._decide(images[:SIDE_BY_SIDE], results[:SIDE_BY_SIDE])
        if not self._is_faster:
            return 0
        end = len(images) // SIDE_BY_SIDE * SIDE_BY_SIDE
        for begin in range(0, end, SIDE_BY_SIDE):
            part = slice(begin, begin + SIDE_BY_SIDE)
            self._many.run(images[part], results[part])
        return end

    def _decide(self, images, results):
        counts_bits = self._compiled.counts_bits
        try:
            program = pack(self._plan_again(), SIDE_BY_SIDE, counts_bits)
        except UnsupportedLayerError:  # of 64 images; of one it is not
            self._is_faster = False
            return
        many = CompiledProgram(program, self._compiled)

        def one_after_another():
            for image, result in zip(
                images[:_FEW], results[:_FEW], strict=True
            ):
                self._one.run(image, result)

        def side_by_side():
            many.run(images, results)

        self._is_faster = _is_faster(side_by_side, one_after_another)
        if self._is_faster:
            self._many = many


def _is_faster(side_by_side, one_after_another):
    """Whether many images take less time than as many times a few."""
    began = time.perf_counter()
    many = few = math.inf
    for number in range(_TRIES):
        few = min(few, _seconds(one_after_another) * SIDE_BY_SIDE / _FEW)
        many = min(many, _seconds(side_by_side))
        # The first time, either may have had to fetch memory.
        is_clear = number and max(few, many) > _CLEAR * min(few, many)
        if is_clear or time.perf_counter() - began > _PATIENCE:
            break
    return many < few


def _seconds(run):
    """Of this thread alone: others may keep a processor busy."""
    # Windows counts them in ticks of 16 ms.
    is_coarse = sys.platform == "win32"
    clock = time.perf_counter if is_coarse else time.thread_time
    begin = clock()
    run()
    return clock() - begin
