"""Mistakes that mypy must find, each on a line that ends in a comment."""

import mpt_keras as mpt

mpt.MPTDense(10, sparsity="half")  # error: arg-type
mpt.MPTConv2D(10, 3, binarise=True)  # error: call-arg
mpt.MPTConv2D(10, 3).sparsity.half()  # error: attr-defined
mpt.callbacks.GlobalSparsity(minimum="one")  # error: arg-type
mpt.models.conv4(sparsity="0.5")  # error: arg-type
mpt.analysis.load_masks()  # error: call-arg
mpt.experiments.Search(sparsity="half")  # error: arg-type
mpt.experiments.Search(sparsty=0.5)  # error: call-arg
mpt.experiments.Place().run()  # error: attr-defined
mpt.freeeze()  # error: attr-defined
