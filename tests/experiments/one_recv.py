"""Sends a message of 20 bytes to an echo server, and tells how much of it the client took back.
TCP carries bytes, not messages: one recv returns what has arrived, be it a part of the reply.

usage: one_recv.py PORT once|loop    exit status: 0 if the reply was whole, 1 if not
"""

import socket
import sys

MESSAGE = b"The quick brown fox\n"


def once(connection):
    """Wrong: takes one recv for the whole reply."""
    return connection.recv(len(MESSAGE))


def loop(connection):
    """Right: receives until the reply is whole, or the server has ended it."""
    reply = b""
    while len(reply) < len(MESSAGE):
        part = connection.recv(len(MESSAGE) - len(reply))
        if not part:
            break
        reply += part
    return reply


def bytes_taken(receive, port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(MESSAGE)
        return len(receive(connection))


port, receive = int(sys.argv[1]), {"once": once, "loop": loop}[sys.argv[2]]
# While the machine is busy, several pieces can arrive before recv is called. So try five times.
shortest = min(bytes_taken(receive, port) for _ in range(5))
print(f"{shortest} of {len(MESSAGE)} bytes")
sys.exit(shortest < len(MESSAGE))
