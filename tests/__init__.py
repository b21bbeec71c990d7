"""Tests, laid out as src/mistique is."""
