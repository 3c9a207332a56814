"""Sends 20 messages of 100 bytes to an echo server, one after another, and prints how long the last one took to come
back. The others are only a warm-up.

usage: stall.py PORT
"""

import socket
import sys
import time


def connect(attempts=100):
    """Retries, because the server may only just have been started."""
    try:
        return socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
    except ConnectionRefusedError:
        if attempts == 0:
            raise
        time.sleep(0.1)
        return connect(attempts - 1)


with connect() as connection, connection.makefile("rb") as replies:
    for _ in range(20):
        start = time.monotonic()
        connection.sendall(bytes(100))
        replies.read(100)
    print(f"{1000 * (time.monotonic() - start):.2f} ms")
