"""What several suites share: servers, databases, processes and clients for tests."""
