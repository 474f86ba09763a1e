"""The routes: each is one call of a verb."""
