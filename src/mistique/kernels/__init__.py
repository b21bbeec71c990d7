"""Numba kernels: arrays in, arrays out, one algorithm a file."""
