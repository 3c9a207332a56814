#!/usr/bin/env python3
"""Draws tests/session.svg, which the README shows, from a real session in tmux: the server in the
left pane, a client in the right one. usage: tests/session.py PROGRAM"""

import html
import pathlib
import subprocess
import sys
import tempfile
import time

COLUMNS, ROWS, LEFT = 166, 24, 106
WIDTH, HEIGHT, MARGIN = 7.25, 16, 12  # Of a character, a line and the edge, in pixels.
COLOURS = {"[info]": "#7ec699", "[debug]": "#6cb6ff", "$": "#d0a8ff"}


class Tmux:
    def __init__(self, directory):
        self.socket = f"{directory}/tmux"

    def run(self, *arguments):
        return subprocess.run(["tmux", "-S", self.socket, *arguments], check=True, timeout=20,
                              stdout=subprocess.PIPE, text=True).stdout

    def type(self, pane, *keys):
        self.run("send-keys", "-t", f"session.{pane}", *keys)
        time.sleep(1)  # As a person would wait to see what happens.


def play(program):
    """Returns the lines that each pane shows in the end."""
    with tempfile.TemporaryDirectory() as directory:
        tmux = Tmux(directory)
        shell = (f"env -i PS1='$ ' TERM=dumb PATH={program.parent}:/usr/bin:/bin "
                 "bash --norc --noprofile --noediting")
        try:
            tmux.run("-f", "/dev/null", "new-session", "-d", "-s", "session", "-x", str(COLUMNS),
                     "-y", str(ROWS + 1), shell)
            tmux.run("split-window", "-h", "-t", "session", "-l", str(COLUMNS - LEFT - 1), shell)
            tmux.type(0, "echo-server --port 10000 -v", "Enter")
            tmux.type(1, "printf 'hello\\n' | nc -N 127.0.0.1 10000", "Enter")
            tmux.type(1, "echo 'The quick brown fox' | nc -N 127.0.0.1 10000", "Enter")
            tmux.type(0, "C-c")
            return [tmux.run("capture-pane", "-p", "-t", f"session.{pane}").rstrip("\n").split("\n")
                    for pane in (0, 1)]
        finally:
            tmux.run("kill-server")


def span(text):
    """The first word that has a colour gets it; tmux has cut the lines at the pane's edge."""
    for word, colour in COLOURS.items():
        if word in text and (word != "$" or text.startswith(word)):
            before, after = text.split(word, 1)
            return (f'{html.escape(before)}<tspan fill="{colour}">{html.escape(word)}</tspan>'
                    f"{html.escape(after)}")
    return html.escape(text)


def draw(panes):
    rows = max(len(lines) for lines in panes)
    width, height = COLUMNS * WIDTH + 2 * MARGIN, rows * HEIGHT + 2 * MARGIN
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">',
             '<rect width="100%" height="100%" rx="8" fill="#1c2128"/>',
             f'<line x1="{MARGIN + (LEFT + 0.5) * WIDTH:.0f}" x2="{MARGIN + (LEFT + 0.5) * WIDTH:.0f}"'
             ' y1="0" y2="100%" stroke="#545d68"/>',
             '<g font-family="monospace" font-size="12" fill="#cdd9e5" xml:space="preserve">']
    for lines, column in zip(panes, (0, LEFT + 2)):
        for row, text in enumerate(lines):
            if text:
                parts.append(f'<text x="{MARGIN + column * WIDTH:.0f}" y="{MARGIN + (row + 0.8) * HEIGHT:.0f}"'
                             f' textLength="{len(text) * WIDTH:.0f}">{span(text)}</text>')
    return "\n".join(parts + ["</g>", "</svg>"]) + "\n"


if __name__ == "__main__":
    picture = draw(play(pathlib.Path(sys.argv[1]).resolve()))
    (pathlib.Path(__file__).parent / "session.svg").write_text(picture)
