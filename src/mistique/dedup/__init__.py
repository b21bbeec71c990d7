"""Finding what the store already holds, so that it is stored once."""
