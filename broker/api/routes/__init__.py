"""The routes; each one calls one verb."""
