"""Tickets in files: a seed, a mask, and what else makes the network."""
