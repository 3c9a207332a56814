"""Sends a message of 20 bytes to an echo server and prints how many bytes of the reply it received. If the reply was
complete, which may be luck, it tries again, up to five times in all, and prints only the last result. TCP has no
message boundaries: one recv call returns whatever has arrived, which may be only part of the reply.

usage: one_recv.py PORT once|loop    exit status: 0 if the reply was complete, 1 if not
"""

import socket
import sys

MESSAGE = b"The quick brown fox\n"


def once(connection):
    """Wrong: expects a single recv call to return the whole reply."""
    return connection.recv(len(MESSAGE))


def loop(connection):
    """Right: calls recv until the reply is complete or the server has closed the connection."""
    reply = b""
    while len(reply) < len(MESSAGE):
        part = connection.recv(len(MESSAGE) - len(reply))
        if not part:
            break
        reply += part
    return reply


def bytes_received(receive, port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(MESSAGE)
        return len(receive(connection))


port, receive = int(sys.argv[1]), {"once": once, "loop": loop}[sys.argv[2]]
# On a busy machine, the whole reply can arrive before recv is called. A client that succeeds by luck therefore gets
# five chances to fail.
for _ in range(5):
    received = bytes_received(receive, port)
    if received < len(MESSAGE):
        break
print(f"{received} of {len(MESSAGE)} bytes")
sys.exit(received < len(MESSAGE))
