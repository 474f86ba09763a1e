"""The suite of the store, which every database must pass."""
