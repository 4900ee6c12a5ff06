"""The server: the HTTP API over the storage engine, and the commands that run it."""
