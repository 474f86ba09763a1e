"""The application decides: the terms of an upload, the question to a host's function, and the hook that carries it."""
