"""Authentication: bearer tokens and their keys, callers and permissions, and the states of plain forms."""
