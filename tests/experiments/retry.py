"""Sends a line to an echo server, and tells whether it came back.

usage: retry.py PORT again|once    exit status: 0 if the line came back, 1 if not
"""

import socket
import sys
import time

LINE = b"The quick brown fox\n"


def ask(port):
    """One connection: sends the line and returns what came back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(LINE)
        return connection.recv(len(LINE), socket.MSG_WAITALL)


def served(port, tries):
    """Asks until the line comes back, with a longer pause after each failure."""
    for number in range(1, tries + 1):
        try:
            if ask(port) == LINE:
                print(f"served at try {number}")
                return True
            failure = "the server closed the connection"
        except OSError as error:
            failure = error.strerror or str(error)
        if number < tries:
            time.sleep(0.05 * 2**number)
    print(f"failed: {failure}")
    return False


port, tries = int(sys.argv[1]), {"once": 1, "again": 5}[sys.argv[2]]
sys.exit(not served(port, tries))
