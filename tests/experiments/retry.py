"""Sends a line to an echo server and prints whether it came back, and on which attempt.

usage: retry.py PORT once|connect|again    exit status: 0 if the line came back, 1 if not

once     makes a single attempt
connect  wrong: retries only if connect fails, but a connection can also break later, after data has been sent
again    right: starts over with a new connection, whichever step failed
"""

import socket
import sys
import time

ATTEMPTS = 5
LINE = b"The quick brown fox\n"


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def exchange(connection):
    with connection, connection.makefile("rb") as replies:
        connection.sendall(LINE)
        if replies.readline() != LINE:
            raise ConnectionError("the server closed the connection")


def attempts(action, limit):
    """Calls `action` until it succeeds, at most `limit` times, waiting longer after each failure.
    Returns the number of calls and what the last one returned."""
    for number in range(1, limit + 1):
        try:
            return number, action()
        except OSError:
            if number == limit:
                raise
        time.sleep(0.05 * 2**number)


port, mode = int(sys.argv[1]), sys.argv[2]
try:
    if mode == "connect":
        number, connection = attempts(lambda: connect(port), ATTEMPTS)
        exchange(connection)
    else:
        number, _ = attempts(lambda: exchange(connect(port)), {"once": 1, "again": ATTEMPTS}[mode])
except OSError as error:
    print(f"failed: {error.strerror or error}")
    sys.exit(1)
print(f"served on attempt {number}")
