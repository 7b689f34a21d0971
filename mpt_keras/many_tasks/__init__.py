"""Many tasks over one random network: a mask for each of them."""
