"""Shows how long a line of 100 bytes takes to come back, when others did before it.
usage: stall.py PORT"""

import socket
import sys
import time


def connect(tries=100):
    """The server may be about to start."""
    try:
        return socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    except ConnectionRefusedError:
        if tries == 0:
            raise
        time.sleep(0.1)
        return connect(tries - 1)


with connect() as connection:
    for _ in range(20):
        start = time.monotonic()
        connection.sendall(bytes(100))
        connection.recv(100, socket.MSG_WAITALL)
    print(f"{1000 * (time.monotonic() - start):.2f} ms")
