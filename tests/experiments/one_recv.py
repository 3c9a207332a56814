"""A client that takes what one recv gives it for the whole reply, as many do. Shows the shortest of
100 replies to 20,000 bytes. usage: one_recv.py PORT"""

import socket
import sys


def reply():
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.sendall(bytes(20000))
        return connection.recv(20000)


print(min(len(reply()) for _ in range(100)), "of 20000 bytes")
