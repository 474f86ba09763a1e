"""Authentication: bearer tokens and their keys, callers and permissions, and the state of plain forms."""
