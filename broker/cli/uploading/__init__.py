"""The client of `broker upload`: the broker's requests, one form, parts in parallel, and unfinished uploads."""
