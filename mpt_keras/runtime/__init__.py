"""Runs tickets on the bits that they are, without Keras."""
