"""Slow, obvious oracles in pure Python and NumPy. They import nothing of mistique: they share no mistake."""
