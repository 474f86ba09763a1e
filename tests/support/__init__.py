"""Code that several suites share: servers, databases, processes and clients."""
