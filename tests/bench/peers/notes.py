"""A server as many tutorials write it: one client after another, 16 bytes at a time, each printed.

usage: notes.py PORT [quiet]
"""

import socket
import sys

quiet = "quiet" in sys.argv
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(1)
while True:
    connection, peer = listener.accept()
    with connection:
        while data := connection.recv(16):
            if not quiet:
                print(f"received {data!r}")
                print("sending data back to the client")
            connection.sendall(data)
