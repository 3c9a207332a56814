#!/usr/bin/env python3
"""Draws tests/session.svg, which the README shows, from a real session in tmux: the server in the upper pane, and in
the lower one a client with a bug. Whatever differs from run to run (times, ports) is replaced, so that the same program
always gives the same picture.

usage: python3 tests/session.py [--check] PROGRAM    needs tmux

With --check, nothing is drawn, and the exit status is 1 if the picture does not show what PROGRAM prints.
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
PROJECT = PICTURE.parent.parent
COLUMNS = 80
ROWS = 20, 4  # Of the upper and the lower pane.
WIDTH, HEIGHT, MARGIN = 8, 18, 12  # Of a character, a line and the edge, in pixels.
COLOURS = {" info ": "#7ec699", " debug ": "#6cb6ff", " warn ": "#e0a458", "$ ": "#d0a8ff", "7 of 20 bytes": "#f47067"}
DELAY = 100  # Between two pieces, in milliseconds: so long that the client never finds two of them.


class Tmux:
    def __init__(self, directory):
        self.socket = f"{directory}/tmux"

    def run(self, *arguments):
        return subprocess.run(["tmux", "-S", self.socket, *arguments], check=True, timeout=20,
                              stdout=subprocess.PIPE, text=True).stdout

    def lines(self, pane):
        """What the pane shows. A line that had to be wrapped is one line."""
        return self.run("capture-pane", "-J", "-p", "-t", f"session.{pane}").rstrip().split("\n")

    def wait(self, pane, condition):
        deadline = time.monotonic() + 20
        while not condition(self.lines(pane)):
            if time.monotonic() > deadline:
                sys.exit("\n".join(["after 20 s, there is only this:", *self.lines(pane)]))
            time.sleep(0.05)

    def type(self, pane, *keys):
        self.run("send-keys", "-t", f"session.{pane}", *keys)


def is_ready(lines):
    """The shell waits for a command."""
    return lines[-1].rstrip() == "$"


def free_port():
    """A free one, since another server may use port 10000. It also has five digits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def play(program):
    """Returns the lines that each pane shows in the end."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        tmux = Tmux(directory)
        shell = (f"cd '{PROJECT}' && exec env -i PS1='$ ' TERM=dumb PATH='{program.parent}':/usr/bin:/bin "
                 "bash --norc --noprofile --noediting")
        try:
            tmux.run("-f", "/dev/null", "new-session", "-d", "-s", "session", "-x", str(COLUMNS),
                     "-y", str(sum(ROWS) + 2), shell)  # One for the border, one for tmux's status line.
            tmux.run("split-window", "-v", "-t", "session", "-l", str(ROWS[1]), shell)
            for pane in (0, 1):
                tmux.wait(pane, is_ready)
            tmux.type(0, f"echo-server --port {port} -v -c 7 --delay {DELAY}ms", "Enter")
            tmux.wait(0, lambda lines: "waiting for a connection" in lines[-1])
            tmux.type(1, f"python3 tests/experiments/one_recv.py {port} once", "Enter")
            tmux.wait(1, lambda lines: len(lines) == 3 and is_ready(lines))
            tmux.wait(0, lambda lines: " failed" in lines[-1])
            panes = tmux.lines(0), tmux.lines(1)[:-1]  # Without the last prompt.
            tmux.type(0, "C-c")
            tmux.wait(0, is_ready)
            return [without_chance(lines, port) for lines in panes]
        finally:
            tmux.run("kill-server")


def without_chance(lines, port):
    """Replaces the times and ports of this run."""
    text = re.sub(rf"\b{port}\b", "10000", "\n".join(lines))
    text = re.sub(r"\b127\.0\.0\.1:\d+", "127.0.0.1:52440", text)
    text = re.sub(r"rtt \d+\.\d\d ms", "rtt 0.02 ms", re.sub(r"mss \d+", "mss 32768", text))
    milliseconds = 0
    rows = []
    for line in text.split("\n"):
        # The client comes a second after the start, and each piece is sent after the delay.
        if "accepted" in line:
            milliseconds = 1000
        elif "sending" in line:
            milliseconds += DELAY
        line = re.sub(r"^\d\d:\d\d:\d\d\.\d{3}", f"10:00:0{milliseconds / 1000:.3f}", line)
        line = re.sub(r"in \d+\.(\d+) s", lambda found: f"in {(milliseconds - 1000) / 1000:.{len(found[1])}f} s", line)
        rows += [line[start:start + COLUMNS] for start in range(0, len(line), COLUMNS)]  # As a terminal wraps it.
    return rows


def span(text):
    """The first word of the line that has a colour gets it."""
    for word, colour in COLOURS.items():
        if word in text and (word != "$ " or text.startswith(word)):
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
             '<g font-family="monospace" font-size="13" fill="#cdd9e5" xml:space="preserve">']
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
        sys.exit("tests/session.svg is out of date: draw it again with tests/session.py PROGRAM")


if __name__ == "__main__":
    main(sys.argv[1:])
