#!/usr/bin/env python3
"""Draws tests/session.svg, which the README shows, from a real session in tmux: the server in the
upper pane, a client in the lower one. What differs from run to run (times, ports) is replaced, so
that the same program always gives the same picture.

usage: tests/session.py [--check] PROGRAM    needs tmux and nc (netcat-openbsd)

With --check nothing is drawn: exit status 1 if the picture is older than what PROGRAM prints.
"""

import difflib
import html
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

PICTURE = pathlib.Path(__file__).parent / "session.svg"
COLUMNS = 108
ROWS = 24, 6  # Of the upper and the lower pane.
WIDTH, HEIGHT, MARGIN = 7.25, 16, 12  # Of a character, a line and the edge, in pixels.
COLOURS = {"[info]": "#7ec699", "[debug]": "#6cb6ff", "$": "#d0a8ff"}


class Tmux:
    def __init__(self, directory):
        self.socket = f"{directory}/tmux"

    def run(self, *arguments):
        return subprocess.run(["tmux", "-S", self.socket, *arguments], check=True, timeout=20,
                              stdout=subprocess.PIPE, text=True).stdout

    def lines(self, pane):
        return self.run("capture-pane", "-p", "-t", f"session.{pane}").rstrip("\n").split("\n")

    def wait(self, pane, condition):
        deadline = time.monotonic() + 20
        while not condition(self.lines(pane)):
            if time.monotonic() > deadline:
                sys.exit("\n".join(["this is all that came in 20 s:", *self.lines(pane)]))
            time.sleep(0.05)

    def type(self, pane, *keys):
        self.run("send-keys", "-t", f"session.{pane}", *keys)


def is_ready(lines):
    """The shell waits for a command."""
    return lines[-1].rstrip() == "$"


def free_port():
    """One that a client gets, too: a number of five digits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def play(program):
    """Returns the lines that each pane shows in the end. Port 10000 may be another server's."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        tmux = Tmux(directory)
        shell = (f"env -i PS1='$ ' TERM=dumb PATH={program.parent}:/usr/bin:/bin "
                 "bash --norc --noprofile --noediting")
        try:
            tmux.run("-f", "/dev/null", "new-session", "-d", "-s", "session", "-x", str(COLUMNS),
                     "-y", str(sum(ROWS) + 2), shell)  # One for the border, one for the status.
            tmux.run("split-window", "-v", "-t", "session", "-l", str(ROWS[1]), shell)
            for pane in (0, 1):
                tmux.wait(pane, is_ready)
            tmux.type(0, f"echo-server --port {port} -v", "Enter")
            tmux.wait(0, lambda lines: "waiting for a connection" in lines[-1])
            for served, command in enumerate((r"printf 'hello\n'", "echo 'The quick brown fox'"), 1):
                tmux.type(1, f"{command} | nc -N 127.0.0.1 {port}", "Enter")
                tmux.wait(0, lambda lines: sum("no more data" in line for line in lines) == served)
                tmux.wait(1, lambda lines: len(lines) == 2 * served + 1 and is_ready(lines))
            tmux.type(0, "C-c")
            tmux.wait(0, is_ready)
            panes = [tmux.lines(pane) for pane in (0, 1)]
            if max(len(line) for lines in panes for line in lines) >= COLUMNS:
                sys.exit(f"a line of the program has no room in {COLUMNS - 1} columns")
            return [without_chance(lines, port) for lines in panes]
        finally:
            tmux.run("kill-server")


def without_chance(lines, port):
    """Puts fixed times and ports into the places of those that this run had."""
    clients = {}

    def client(match):
        return clients.setdefault(match[0], f"127.0.0.1:{52440 + 2 * len(clients)}")

    text = re.sub(rf"\b{port}\b", "10000", "\n".join(lines))
    text = re.sub(r"\b127\.0\.0\.1:\d+", client, text)
    for pattern, fixed in ((r"in \d+\.\d{3} s", "in 0.000 s"), (r"rtt \d+\.\d\d ms", "rtt 0.02 ms"),
                           (r"mss \d+", "mss 32768"), (r"up \d+\.\d{3} s", "up 3.018 s")):
        text = re.sub(pattern, fixed, text)
    seconds = 0
    lines = text.split("\n")
    for row, line in enumerate(lines):
        # Each client, and the stop, comes a second after what was before it.
        seconds += "accepted" in line or "stopping" in line
        lines[row] = re.sub(r"\[\d\d:\d\d:\d\d\.\d{3}\]", f"[10:00:0{seconds}.000]", line)
    return lines


def span(text):
    """The first word that has a colour gets it."""
    for word, colour in COLOURS.items():
        if word in text and (word != "$" or text.startswith(word)):
            before, after = text.split(word, 1)
            return (f'{html.escape(before)}<tspan fill="{colour}">{html.escape(word)}</tspan>'
                    f"{html.escape(after)}")
    return html.escape(text)


def draw(panes):
    border = MARGIN + (len(panes[0]) + 0.5) * HEIGHT
    rows = len(panes[0]) + 1 + len(panes[1])
    width, height = COLUMNS * WIDTH + 2 * MARGIN, rows * HEIGHT + 2 * MARGIN
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">',
             '<rect width="100%" height="100%" rx="8" fill="#1c2128"/>',
             f'<line x1="0" x2="100%" y1="{border:.0f}" y2="{border:.0f}" stroke="#545d68"/>',
             '<g font-family="monospace" font-size="12" fill="#cdd9e5" xml:space="preserve">']
    for row, text in enumerate([*panes[0], "", *panes[1]]):
        if text:
            parts.append(f'<text x="{MARGIN}" y="{MARGIN + (row + 0.8) * HEIGHT:.0f}"'
                         f' textLength="{len(text) * WIDTH:.0f}">{span(text)}</text>')
    return "\n".join(parts + ["</g>", "</svg>"]) + "\n"


def main(arguments):
    if len(arguments) not in (1, 2) or arguments[:-1] not in ([], ["--check"]):
        sys.exit(__doc__)
    picture = draw(play(pathlib.Path(arguments[-1]).resolve()))
    if arguments[0] != "--check":
        PICTURE.write_text(picture)
        return
    before = PICTURE.read_text()
    if picture != before:
        sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), picture.splitlines(True),
                                                   "tests/session.svg", "the program"))
        sys.exit("tests/session.svg is older than the program: draw it by tests/session.py PROGRAM")


if __name__ == "__main__":
    main(sys.argv[1:])
