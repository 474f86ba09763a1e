"""The applications that the broker is measured against; each is started as a process of its own."""
