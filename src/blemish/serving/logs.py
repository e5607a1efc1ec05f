"""The server's log on stderr: its own failures, and nothing that a client can cause."""

import logging


def log_own_failures_only() -> None:
    """Sends the failures of this server to stderr and what libraries say of odd requests nowhere.

    Without a handler Python prints every library's warnings, such as the multipart parser's.
    """
    logging.getLogger().addHandler(logging.NullHandler())
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        handler = logging.StreamHandler()
        handler.setLevel(logging.ERROR)
        handler.addFilter(_not_of_clients)
        logger.addHandler(handler)
        logger.propagate = False


def _not_of_clients(record: logging.LogRecord) -> bool:
    """Too many connections are the clients' doing; the server goes on and accepts the next when one is closed."""
    return "socket.accept() out of system resource" not in record.getMessage()
