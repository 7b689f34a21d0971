"""A stranger's first minute with the installed package, outside the checkout.

Run by the interpreter of a fresh environment, in any other folder.
"""

import pathlib
import subprocess
import sys
import time

CHECKOUT = pathlib.Path(__file__).parents[1]
# A three, as scikit-learn's digits have it: 8 x 8 pixels, 0 to 16.
THREE = """
0 0 7 15 13 1 0 0
0 8 13 6 15 4 0 0
0 2 1 13 13 0 0 0
0 0 2 15 11 1 0 0
0 0 0 1 12 12 1 0
0 0 0 0 1 10 8 0
0 0 8 4 5 14 9 0
0 0 7 13 13 9 0 0
"""


def main():
    start = time.perf_counter()
    import numpy as np

    import mpt_keras as mpt

    assert CHECKOUT not in pathlib.Path(mpt.__file__).parents, mpt.__file__
    images = np.array(THREE.split(), "uint8").reshape(1, 8, 8, 1)
    ticket = mpt.pretrained.load("digits_mpt_1_32")
    assert ticket.predict_on_batch(images).argmax() == 3
    print(f"A packaged ticket has answered after {_since(start)} s")

    assert mpt.runtime.load("digits_mpt_1_1")(images).argmax() == 3
    for arguments in (["pretrained"], ["summary", "digits_mpt_1_1"]):
        command = pathlib.Path(sys.executable).with_name("mpt-keras")
        subprocess.run([command, *arguments], check=True)
    print(f"The runtime and two commands after {_since(start)} s")


def _since(start):
    return round(time.perf_counter() - start, 1)


if __name__ == "__main__":
    main()
