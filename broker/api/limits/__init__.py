"""Rate limits: fixed windows, counted in this process or, for several processes, in Redis."""
