"""Slow, obvious oracles in pure Python and NumPy. They import nothing of mistique, so they cannot share its mistakes."""
