#!/usr/bin/env bash
# Starts echo-server on a free port, runs a client against it, and exits with a status that says what went wrong, if
# anything.
#
#   usage: timeout 60 ci.sh 'CLIENT' [SERVER-OPTION]...
#
# CLIENT is a shell command. It gets the port as "$1" and makes one connection; if it makes N, add --exit-after N. It
# must check what it receives, because a client such as nc exits with 0 even after a reset. For example:
#
#   timeout 60 ci.sh 'echo hello | nc -N 127.0.0.1 "$1" | grep -x hello' -c 1 --delay 20ms
#
# Some faults do not suit this script. With --max-connections 0, no connection is ever counted, so the server does not
# exit. During a --delay, the server does not notice that the client has given up. With --idle-timeout, a connection
# that times out counts as failed, even if the client handles that correctly.
#
# Exit status:
#   0    everything succeeded
#   1    the client failed, or the server could not start
#   2    usage error: CLIENT is missing, or a server option is wrong
#   3    the client reported success, but the server saw its connection fail or time out: for example, the client
#        closed the connection before it had received the whole reply
#   124  timeout ended the run after 60 s; the server itself waits for its client without a time limit
#   127  there is no echo-server in PATH
set -u
[ $# -gt 0 ] || { echo "usage: ci.sh 'CLIENT' [SERVER-OPTION]..." >&2; exit 2; }
client=$1
shift

# The server prints "Listening on ADDRESS:PORT" when clients can connect. It exits when all its connections have ended.
exec 3< <(exec echo-server --host 127.0.0.1 --port 0 --exit-after 1 "$@")
server=$!
read -r _ _ address <&3 || { wait "$server"; exit; }
bash -c "$client" client "${address##*:}" || { kill "$server" 2>/dev/null; wait "$server"; exit 1; }
wait "$server"
