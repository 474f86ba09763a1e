"""One suite for the store, which every database must pass."""
