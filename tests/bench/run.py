#!/usr/bin/env python3
"""Measures echo-server and its peers. Writes a page, a chart and the raw numbers to the output
folder. The build's target `bench` calls it."""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
OURS = "echo-server"
BURSTS = "bare C, recvmmsg"
NOTES = "Python notes"
ANY_CORE = "any core"
ONE_CORE = "client and server on one core"
TWO_CORES = "client and server on a core each"

# How each server is started. {bin} is the folder of the programs, {chunk} the most bytes that one
# receive takes.
COMMANDS = {
    OURS: "{server} --host 127.0.0.1 --port {port} {flags}",
    "bare C": "{bin}/bare {port} {chunk} {threads}",
    BURSTS: "{bin}/bare {port} {chunk} {threads} 256",
    "asio, threads": "{bin}/asio_threads {port} {chunk}",
    "asio, asynchronous": "{bin}/asio_async {port} {chunk}",
    "Python, threads": "{python} {here}/peers/threading_server.py {port} {chunk}",
    NOTES: "{python} {here}/peers/notes.py {port} {quiet}",
    "tcpserver cat": "tcpserver -HRl0 -c 1000 127.0.0.1 {port} cat",
    "socat": "socat TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay PIPE",
    "ncat": "ncat -l -k --exec /bin/cat 127.0.0.1 {port}",
}
# These can be told how much to take by one receive.
TOLD = [OURS, "bare C", "asio, threads", "asio, asynchronous", "Python, threads"]
# These cannot. They are left out where messages are longer than the chunk, unless that is large.
NOT_TOLD = ["tcpserver cat", "socat", "ncat"]
# Why a server fails, where its failure does not say so itself.
REASONS = {
    ("ncat", "bulk-64k"): "it waits to write to cat while cat waits to write to it",
    ("ncat", "churn"): "it drops what comes back after the client's half-close",
}


@dataclasses.dataclass
class Workload:
    key: str
    title: str
    load: str  # The arguments of load.
    unit: str  # Of load's numbers, the one that counts.
    servers: list
    flags: str = ""  # Those of echo-server.
    chunk: int = 16  # What the flags mean, for the peers.
    placement: str = ONE_CORE
    threads: str = "spawn"  # Of bare.
    less_is_better: bool = False

    @property
    def heading(self):
        return f"{self.title}, {self.unit}" + (" (less is better)" if self.less_is_better else "")


def ping_pong(key, title, connections, size, servers, **more):
    load = f"ping-pong {{port}} {connections} {size} {{seconds}}"
    return Workload(key, title, load, "round trips/s", servers, **more)


def bulk(key, title, servers, **more):
    return Workload(key, title, "bulk {port} {seconds}", "MB/s", servers, placement=ANY_CORE,
                    **more)


WORKLOADS = [
    ping_pong("ping-pong-16", "16-byte ping-pong", 1, 16, [*TOLD, NOTES, *NOT_TOLD]),
    ping_pong("ping-pong-100", "100 bytes by 16-byte chunks", 1, 100, [*TOLD, BURSTS, NOTES]),
    bulk("bulk-16", "16-byte chunks in bulk", [*TOLD, BURSTS, NOTES]),
    bulk("bulk-64k", "64 KiB chunks in bulk", [*TOLD, *NOT_TOLD], flags="--chunk-size 64k",
         chunk=65536),
    ping_pong("ping-pong-50", "50 connections", 50, 512, [*TOLD, *NOT_TOLD],
              flags="--chunk-size 4k", chunk=4096),
    Workload("churn", "short connections", "churn {port} 4 {seconds}", "per s",
             [*TOLD, *NOT_TOLD], threads="reuse", placement=ANY_CORE),
    *(Workload(f"idle-{count}", f"{count:,} idle connections", f"idle {{port}} {count} {{pid}}",
               "KiB each", TOLD[:4], flags="--max-connections 20000", less_is_better=True)
      for count in (1000, 5000, 10000)),
    Workload("start", "start and stop", "start 20 {port} {command}", "ms to the first echo",
             [OURS, "bare C"], placement=ANY_CORE, less_is_better=True),
    bulk("verbose-bulk", "16-byte chunks in bulk, shown", [OURS, NOTES], flags="-v"),
    ping_pong("verbose-2-cores", "16-byte ping-pong, shown, two cores", 1, 16, [OURS, NOTES],
              flags="-v", placement=TWO_CORES),
    ping_pong("verbose-1-core", "16-byte ping-pong, shown, one core", 1, 16, [OURS, NOTES],
              flags="-v"),
]
# The columns of the summary, and the panels of the chart.
SUMMARY = ["ping-pong-16", "bulk-16", "bulk-64k", "ping-pong-50", "churn", "idle-10000"]


class Failure(Exception):
    pass


class Bench:
    def __init__(self, arguments):
        self.programs = arguments.programs
        # Ours, and what is measured beside it: these are started in the same way.
        self.ours = {OURS: arguments.server, **dict(arguments.beside)}
        self.seconds = arguments.seconds
        self.cores = sorted(os.sched_getaffinity(0))
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("ECHO_SERVER_")}

    def servers(self, workload):
        """The names of those that are installed."""
        names = [*self.ours, *(name for name in workload.servers if name != OURS)]
        return [name for name in names if shutil.which(self.command(name, workload, 0)[0])]

    def command(self, name, workload, port):
        return COMMANDS[OURS if name in self.ours else name].format(
            server=self.ours.get(name), bin=self.programs, python=sys.executable, here=HERE,
            port=port, flags=workload.flags, chunk=workload.chunk, threads=workload.threads,
            quiet="" if workload.flags == "-v" else "quiet").split()

    def spawn(self, command, placement, is_client=False, stdout=subprocess.DEVNULL):
        """A process group lets all that the command starts be ended. It gets no session: then Linux
        would give client and server half of the processors each (autogroup in sched(7))."""
        core = self.cores[0] if is_client and placement == TWO_CORES else self.cores[-1]
        cores = self.cores if placement == ANY_CORE else {core}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout,
                                stderr=subprocess.DEVNULL, env=self.environment, process_group=0,
                                preexec_fn=lambda: os.sched_setaffinity(0, cores))

    def measure(self, name, workload):
        """Starts a server for this measurement alone. Returns load's numbers."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = self.command(name, workload, port)
        if workload.key == "start":
            return self.run_load(workload, port=port, command=" ".join(command))
        server = self.spawn(command, workload.placement)
        try:
            wait_for_port(server, port)
            return self.run_load(workload, port=port, pid=server.pid)
        finally:
            stop(server)

    def run_load(self, workload, **values):
        arguments = workload.load.format(seconds=self.seconds, **values).split()
        load = self.spawn([f"{self.programs}/load", *arguments], workload.placement, is_client=True,
                          stdout=subprocess.PIPE)
        try:
            numbers = json.loads(load.communicate(timeout=self.seconds + 30)[0])
        except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            raise Failure(f"load: {error}") from error
        finally:
            stop(load)
        if "error" in numbers:
            raise Failure(numbers["error"])
        return numbers


def wait_for_port(server, port):
    for _ in range(500):
        if server.poll() is not None:
            raise Failure(f"ended with status {server.returncode} at the start")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise Failure("did not listen within 5 s")


def stop(process):
    """Ends it and all that it started."""
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, wanted)
            process.wait(timeout=2)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def run_all(bench, workloads, rounds):
    """Returns {workload: {server: [numbers or {"error": reason}, one per round]}}."""
    results = {workload.key: {name: [] for name in bench.servers(workload)}
               for workload in workloads}
    # Each round has another order: a server that leaves the processors idle slows down the next.
    shuffle = random.Random(1)
    for turn in range(rounds):
        for workload in workloads:
            # Five rounds do for what hardly varies, and for what is slow to measure and far behind.
            names = [name for name in results[workload.key] if turn < 5 or not (
                workload.key.startswith("idle") or name in ("socat", "ncat"))]
            for name in shuffle.sample(names, len(names)):
                past = results[workload.key][name]
                if len(past) >= 2 and all("error" in numbers for numbers in past):
                    continue  # It cannot do this.
                try:
                    numbers = bench.measure(name, workload)
                    shown = f"{figure(numbers[workload.unit])} {workload.unit}"
                except Failure as failure:
                    numbers = {"error": str(failure)}
                    shown = f"failed: {failure}"
                past.append(numbers)
                print(f"[{turn + 1}/{rounds}] {workload.title}: {name}: {shown}", flush=True)
    return results


HOW_TO_READ = """\
- A figure is the median of the rounds. Each round measures every server once, in another order. A
  ratio is the median of the rounds' ratios: what slows down a whole round does not change it.
- The servers of a table take the same number of bytes by each receive. `cat`, socat and ncat cannot
  be told how many, and are only where that makes no difference. A blank was not measured.
- The 50 connections send 512 bytes at a time. Short connections send 16 bytes each, four at once.
- "bare C" is a loop of `recv` and `send` that handles no error. A blocking server could be as fast.
  "bare C, recvmmsg" takes up to 256 chunks by one system call, and sends them by one. Both start a
  thread for each connection; for the short connections 64 threads wait in `accept`.
- "Python notes" serves one client after another, and prints the chunks only where ours does (`-v`).
  It does not set `TCP_NODELAY`: in bulk that saves packets, but 100 bytes take 40 ms.
- On one core, client and server take turns: this shows what the server itself costs. On a core
  each, the time to wake the other core counts, too.
- The machine is shared. Two runs of one program can differ by several per cent, so compare within a
  run: `run.py --beside LABEL=PATH` measures another echo-server beside ours.
- `cmake --build build --target bench` writes this page to `build/bench`. To keep it:
  `cp build/bench/results.md build/bench/results.svg tests/bench/results/`
"""


def median(rounds, unit):
    found = [numbers[unit] for numbers in rounds if "error" not in numbers]
    return statistics.median(found) if found else None


def ratios(above, below, unit):
    """Round by round."""
    return [a[unit] / b[unit] for a, b in zip(above, below)
            if "error" not in a and "error" not in b]


def figure(value):
    if value is None:
        return "fails"
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 0.1 else 3}f}"


def table(heads, rows, texts):
    """The first columns are texts, the others numbers."""
    lines = [heads, ["---"] * texts + ["--:"] * (len(heads) - texts), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace(
        f"| {OURS} |", f"| **{OURS}** |") + "\n"


def names_in(results):
    """Ours, those beside it, then the others."""
    found = dict.fromkeys(name for servers in results.values() for name in servers)
    order = [OURS, *(name for name in found if name not in COMMANDS), *COMMANDS]
    return sorted(found, key=order.index)


def summary_table(workloads, results):
    columns = [workload for workload in workloads if workload.key in SUMMARY]
    rows = [[name] + [figure(median(results[column.key][name], column.unit))
                      if name in results[column.key] else "" for column in columns]
            for name in names_in(results)]
    return table(["server", *(column.heading for column in columns)],
                 [cells for cells in rows if any(cells[1:])], texts=1)


def ratio_table(workloads, results):
    """Ours divided by what it is to be held against, and the middle half of the rounds."""
    others = [name for name in names_in(results)
              if name in ("bare C", BURSTS, NOTES) or name not in COMMANDS]
    rows = []
    for workload in workloads:
        servers = results[workload.key]
        rows.append([workload.heading])
        for name in others:
            found = ratios(servers[OURS], servers.get(name, []), workload.unit)
            rows[-1].append(f"{statistics.median(found):.3f}" if found else "")
            if len(found) > 3:
                rows[-1][-1] += " ({0:.3f} to {2:.3f})".format(*statistics.quantiles(found, n=4))
    return table(["workload", *(f"ours / {name}" for name in others)], rows, texts=1)


def details(name, rounds, workload):
    good = [numbers for numbers in rounds if "error" not in numbers]
    failed = [numbers["error"] for numbers in rounds if "error" in numbers]
    parts = [f"{figure(median(good, unit))} {unit}" for unit in [*good, {}][0]
             if unit != workload.unit]
    if failed:
        parts.append(f"{len(failed)} of {len(rounds)} failed: {failed[0]}")
        parts += [reason for key, reason in REASONS.items() if key == (name, workload.key)]
    return ", ".join(parts)


def ranked(workload, results):
    """[(median or None, server)], the best first."""
    sign = 1 if workload.less_is_better else -1
    return sorted(((median(rounds, workload.unit), name) for name, rounds in results.items()),
                  key=lambda pair: (pair[0] is None, sign * (pair[0] or 0)))


def workload_table(workload, results):
    rows = []
    for middle, name in ranked(workload, results):
        good = [numbers[workload.unit] for numbers in results[name] if "error" not in numbers]
        ratio = ratios(results[OURS], results[name], workload.unit) or [0]  # Where ours fails.
        cells = [middle, min(good), max(good), statistics.median(ratio)] if good else [None]
        rows.append([name, details(name, results[name], workload), *map(figure, cells)])
    flags = f"`{workload.flags}`" if workload.flags else "default flags"
    return (f"### {workload.title}\n\n{flags}; {workload.placement}; {workload.unit}.\n\n" +
            table(["server", "more", "median", "min", "max", "ours / this"], rows, texts=2))


def chart(workloads, results):
    """SVG: a panel for each column of the summary, two side by side."""
    charted = [workload for workload in workloads if workload.key in SUMMARY]
    height = 60 + 20 * max((len(results[workload.key]) for workload in charted), default=0)
    shapes = []
    for number, workload in enumerate(charted):
        left, top = 140 + 500 * (number % 2), 30 + height * (number // 2)
        shapes.append(f'<text x="{left - 130}" y="{top}" font-size="15">{workload.heading}</text>')
        bars = ranked(workload, results[workload.key])
        most = max(value or 0 for value, _ in bars) or 1
        for row, (value, name) in enumerate(bars):
            y, width = top + 14 + 20 * row, 270 * (value or 0) / most
            colour = ("#d1495b" if name == OURS else "#e5a0aa" if name not in COMMANDS else
                      "#8d99ae" if name.startswith("bare") else "#c5cedb")
            shapes.append(
                f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{name}</text>'
                f'<rect x="{left}" y="{y}" width="{width:.1f}" height="15" fill="{colour}"/>'
                f'<text x="{left + width + 6:.1f}" y="{y + 12}">{figure(value)}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="1000" '
            f'height="{height * ((len(charted) + 1) // 2)}" font-family="sans-serif" '
            'font-size="12">\n<rect width="100%" height="100%" fill="#ffffff"/>\n' +
            "\n".join(shapes) + "\n</svg>\n")


def write(bench, workloads, rounds, results, output):
    output.mkdir(parents=True, exist_ok=True)
    model = re.search("model name.*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    git = subprocess.run("git describe --always --dirty", shell=True, cwd=HERE, text=True,
                         capture_output=True)
    made = (f"{model[1] if model else os.uname().machine}, {len(bench.cores)} cores, Linux "
            f"{os.uname().release}; {time.strftime('%Y-%m-%d', time.gmtime())} (UTC); commit "
            f"{git.stdout.strip() or 'unknown'}; {rounds} rounds (of socat, ncat and idle "
            f"connections at most five), {bench.seconds} s per measurement.")
    (output / "results.json").write_text(json.dumps({"made": made, "workloads": {
        workload.key: {**dataclasses.asdict(workload), "servers": results[workload.key]}
        for workload in workloads}}, indent=1) + "\n")
    (output / "results.md").write_text(
        f"# Figures\n\n{made}\n\n![A panel for each column of the summary](results.svg)\n\n"
        f"## Summary\n\n{summary_table(workloads, results)}"
        "## Ours beside others\n\nIn brackets: the middle half of the rounds.\n\n"
        f"{ratio_table(workloads, results)}## How to read the figures\n\n{HOW_TO_READ}\n"
        "## Every server\n\n" +
        "".join(workload_table(workload, results[workload.key]) for workload in workloads))
    (output / "results.svg").write_text(chart(workloads, results))


def beside(text):
    match = re.fullmatch(r"([\w. -]+)=(.+)", text)
    if match is None or match[1] in COMMANDS or not shutil.which(match[2]):
        raise argparse.ArgumentTypeError(f"not a new label and a program: {text}")
    return match.groups()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="the program echo-server")
    parser.add_argument("--programs", required=True, help="the folder of load and the peers")
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--beside", action="append", default=[], type=beside, metavar="LABEL=PATH",
                        help="another echo-server, measured wherever ours is; can be repeated")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.15, help="per measurement")
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD",
                        choices=[workload.key for workload in WORKLOADS], help="%(choices)s")
    parser.add_argument("--quick", action="store_true", default="BENCH_QUICK" in os.environ,
                        help="just try that it works (or set BENCH_QUICK)")
    arguments = parser.parse_args()

    # Ten thousand connections need as many descriptors, of the client and of each server.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    slow = ("idle-5000", "idle-10000") if arguments.quick else ()
    workloads = [workload for workload in WORKLOADS if workload.key not in slow and (
        arguments.only is None or workload.key in arguments.only)]
    rounds = 1 if arguments.quick else arguments.rounds
    bench = Bench(arguments)
    results = run_all(bench, workloads, rounds)
    write(bench, workloads, rounds, results, arguments.output)
    print((arguments.output / "results.md").read_text())
    failed = [workload.title for workload in workloads
              if any("error" in numbers for numbers in results[workload.key][OURS])]
    if failed:
        sys.exit(f"{OURS} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
