"""How much the tests try: less every day, all with MPT_KERAS_THOROUGH=1."""

import os

THOROUGH = os.environ.get("MPT_KERAS_THOROUGH", "0") != "0"


def examples(count):
    """How many of `count` examples Hypothesis tries."""
    return count if THOROUGH else max(count // 4, min(count, 10))
