"""The server: uvicorn with bounded connections, and the processes of `broker serve` and `broker worker`."""
