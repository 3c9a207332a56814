#!/usr/bin/env python3
"""Measures echo-server beside other echo servers and writes results.md, or compares it with another
build of echo-server (--against). `cmake --build build --target bench` does the former. With
BENCH_QUICK in the environment it only tries that everything works.

Before two builds are compared, both should be copied with cp: a file that the linker has just
written lies in other pages of the page cache, and its start takes a few per cent longer."""

import argparse
import dataclasses
import math
import os
import pathlib
import random
import re
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

OURS, OTHER = "echo-server", "other build"
LOOP, THREADS, EVENTS = "minimal C loop", "Asio threads", "Asio event loop"
TUTORIAL, SOCAT, NCAT = "tutorial server (Python)", "socat", "ncat"
COMPILED = [LOOP, THREADS, EVENTS]
SEVERAL = [*COMPILED, SOCAT, NCAT]  # They serve several clients at the same time.

# How each server is started. {chunk} is how many bytes it receives at a time.
COMMANDS = {
    OURS: "{ours} --host 127.0.0.1 --port {port} {options}",
    OTHER: "{other} --host 127.0.0.1 --port {port} {options}",
    LOOP: "{programs}/minimal {port} {chunk}",
    THREADS: "{programs}/asio_threads {port} {chunk}",
    EVENTS: "{programs}/asio_async {port} {chunk}",
    TUTORIAL: "{python} {here}/peers/notes.py {port} {quiet}",
    SOCAT: "socat TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay PIPE",
    NCAT: "ncat -l -k --exec /bin/cat 127.0.0.1 {port}",
}


@dataclasses.dataclass
class Workload:
    title: str
    unit: str
    what: str  # "start", "exit CONNECTIONS", "memory CONNECTIONS", or what the program load does.
    peers: list
    options: str = ""  # Those of echo-server.
    chunk: int = 16  # What these options mean for the other servers.


SUMMARY = [
    Workload("round trips, 1 connection", "per s", "ping-pong 1 16", [*SEVERAL, TUTORIAL]),
    Workload("round trips, 50 connections", "per s", "ping-pong 50 512", SEVERAL, "-c 4k", 4096),
    Workload("short connections", "per s", "short 4", SEVERAL),
    Workload("bulk transfer, 64 KiB chunks", "MB/s", "bulk", SEVERAL, "-c 64k", 65536),
]
SUMMARY_SERVERS = [SOCAT, NCAT, LOOP, EVENTS]
WORKLOADS = [
    *SUMMARY,
    Workload("round trips of 100 bytes", "per s", "ping-pong 1 100", [*COMPILED, TUTORIAL]),
    Workload("bulk transfer, 16-byte chunks", "MB/s", "bulk", [*COMPILED, TUTORIAL]),
    Workload("round trips, each chunk logged", "per s", "ping-pong 1 16", [TUTORIAL], "-v"),
    Workload("start to first echo", "ms", "start", SEVERAL),
    Workload("exit, no connection", "ms", "exit 0", [LOOP]),
    Workload("exit, 50 idle connections", "ms", "exit 50", [LOOP]),
    Workload("memory of an idle connection", "KiB", "memory 2000", [THREADS, EVENTS],
             "--max-connections 4096"),
]


class Failure(Exception):
    """What was seen when a server did not do what it should."""


def command_of(name, workload, arguments, port=0):
    return COMMANDS[name].format(
        ours=arguments.server, other=arguments.against, programs=arguments.programs,
        python=sys.executable, here=pathlib.Path(__file__).parent, port=port,
        options=workload.options, chunk=workload.chunk,
        quiet="" if workload.options == "-v" else "quiet").split()


def connect(port):
    """Connects as soon as somebody listens there."""
    end = time.perf_counter() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            if time.perf_counter() > end:
                raise
            time.sleep(0.00005)


def echo_once(client):
    client.sendall(b"sixteen bytes...")
    if client.recv(16, socket.MSG_WAITALL) != b"sixteen bytes...":
        raise Failure("wrong or missing bytes in a reply")


def ms_to_exit(server):
    with open(os.pidfd_open(server.pid)) as exited:
        began = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        if not select.select([exited], [], [], 10)[0]:
            raise Failure("still running 10 s after SIGTERM")
        return 1000 * (time.perf_counter() - began)


def resident_kib(server):
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


def with_idle_connections(server, port, what, count):
    before = resident_kib(server)
    clients = [connect(port) for _ in range(count)]
    try:
        for client in clients:
            echo_once(client)
        time.sleep(0.2)  # Only a connection on which nothing has happened for a while is idle.
        return ms_to_exit(server) if what == "exit" else (resident_kib(server) - before) / count
    finally:
        for client in clients:
            client.close()


def rate(port, what, arguments):
    command = [f"{arguments.programs}/load", str(port), str(arguments.seconds), *what.split()]
    done = subprocess.run(command, text=True, capture_output=True, timeout=30)
    if done.returncode != 0:
        raise Failure(done.stderr.strip())
    return float(done.stdout)


def stop(server):
    """Ends it, and with the second signal also what it started and left behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=2)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def measure_once(name, workload, arguments):
    """Starts a server for this measurement alone. What a process has by chance, such as where its
    memory lies, then belongs to the round and not to the server."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("ECHO_SERVER_")}
    began = time.perf_counter()
    # In a process group, so that what the server starts can be ended with it. A session would also
    # be a scheduling group (autogroup in sched(7)), which gets half of the processor for itself.
    server = subprocess.Popen(
        command_of(name, workload, arguments, port), process_group=0, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(port) as client:
            echo_once(client)
        if workload.what == "start":
            return 1000 * (time.perf_counter() - began)
        what, *numbers = workload.what.split()
        if what in ("exit", "memory"):
            return with_idle_connections(server, port, what, int(numbers[0]))
        return rate(port, workload.what, arguments)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(str(error)) from error
    finally:
        stop(server)


def measure(name, workload, arguments):
    # Of a few milliseconds, the fastest of several attempts: whatever disturbs only adds to them.
    attempts = 5 if workload.unit == "ms" else 1
    return min(measure_once(name, workload, arguments) for _ in range(attempts))


def measure_all(plan, arguments):
    """Returns {title: {server: [a number or a Failure for each round]}}."""
    results = {workload.title: {name: [] for name in names} for workload, names in plan}
    # Each round has another order, because a server that leaves the processor idle may slow down
    # the next one.
    shuffle = random.Random(1)
    for turn in range(1, arguments.rounds + 1):
        for workload, names in plan:
            for name in shuffle.sample(names, len(names)):
                past = results[workload.title][name]
                if len(past) == 2 and not numbers_of(past):
                    continue  # It cannot do this, and each further attempt would take seconds.
                try:
                    past.append(measure(name, workload, arguments))
                except Failure as failure:
                    if name in (OURS, OTHER):
                        sys.exit(f"{workload.title}: {name}: {failure}")
                    past.append(failure)
                print(f"[{turn}/{arguments.rounds}] {workload.title}: {name}: {cell(past[-1:])}",
                      file=sys.stderr)
    return results


def numbers_of(rounds):
    return [value for value in rounds if not isinstance(value, Failure)]


def cell(rounds):
    """The median and half the interquartile range, such as "67,800 ± 300"; or what was seen."""
    numbers = numbers_of(rounds)
    seen = " / ".join(sorted({str(value) for value in rounds if isinstance(value, Failure)}))
    if not numbers:
        return seen
    median = statistics.median(numbers)
    low, _, high = statistics.quantiles(numbers, n=4) if len(numbers) > 1 else (0, 0, 0)
    spread = (high - low) / 2
    last = math.floor(math.log10(median)) - 2  # The place of the last digit, at most the third one.
    if spread > 0:
        last = max(last, math.floor(math.log10(spread / 3)))
    text = " ± ".join(f"{round(number, -last):,.{max(0, -last)}f}"
                      for number in ([median, spread] if len(numbers) > 1 else [median]))
    return f"{text} ({seen}: {len(rounds) - len(numbers)} of {len(rounds)})" if seen else text


def ratio(workload, measured, name):
    """Above 1, echo-server is better."""
    less = workload.unit in ("ms", "KiB")
    return cell([theirs if isinstance(theirs, Failure) else theirs / ours if less else ours / theirs
                 for ours, theirs in zip(measured[OURS], measured[name])])


def table(plan, results, medians, ratios, heads):
    """A row for each workload: the medians of some servers, then echo-server's ratio to others."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)]]
    for workload, names in plan:
        measured = results[workload.title]
        unit = f" ({workload.unit})" if medians else ""
        lines.append([workload.title + unit, *(cell(measured[name]) for name in medians),
                      *(ratio(workload, measured, name) if name in names else ""
                        for name in ratios)])
    return "".join(f"| {' | '.join(cells)} |\n".replace("  |", " |") for cells in lines)


METHOD = """
## How to read the results

- A number is the median of the rounds, and ± is half the interquartile range. Both are rounded to
  the precision that the spread supports. A time is the fastest of five attempts in each round.
- In each round, every server is measured once, in a new order. A ratio is the median of the rounds'
  ratios, so that whatever slows down a whole round cancels out. It is echo-server / the other, and
  for milliseconds and KiB, of which less is better, the other / echo-server. So **above 1,
  echo-server is better; if 1 lies within the spread, there is no difference.**
- Client and server share one core, which makes the measurements repeatable. They compare how much
  work each message or connection is for a server.
- The servers receive the same number of bytes at a time (16, in the rows with 50 connections 4 KiB,
  and with 64 KiB chunks 64 KiB), except that socat and ncat have buffers of their own sizes.
- The minimal C loop calls `recv` and `send` and handles no errors: about the limit for a server
  that blocks.
- The [tutorial server](../peers/notes.py) serves one client after another and does not set
  `TCP_NODELAY`, so that 100 bytes take 40 ms (Nagle's algorithm and delayed acknowledgements).
- A round trip is 16 bytes, or 512 on each of 50 connections. Short connections send 16 bytes, close
  their sending side and wait for the end of file; four are open at any time.
- A blank was not measured. Where words stand instead of a ratio, they say what the client saw.
"""


def page_of(plan, results, missing, arguments):
    cpu = re.search("model name.*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    version = subprocess.run([arguments.server, "--version"], text=True, stdout=subprocess.PIPE)
    page = (f"# Benchmark results\n\n{version.stdout.strip()} on {time.strftime('%Y-%m-%d')}: "
            f"{cpu[1] if cpu else os.uname().machine}, {os.cpu_count()} cores, Linux "
            f"{os.uname().release}; {arguments.rounds} rounds, {arguments.seconds:g} s for each "
            "measurement of a rate.\n\n")
    if missing:
        page += f"Not measured, because not installed: {', '.join(sorted(missing))}.\n\n"
    page += "## Summary\n\nHow many times as fast as other servers echo-server is:\n\n"
    page += table(plan[:len(SUMMARY)], results, [], SUMMARY_SERVERS,
                  ["speed compared with", *SUMMARY_SERVERS])
    page += "\n## All results\n\nWhat echo-server does, and its ratio to each other server:\n\n"
    servers = [*SEVERAL, TUTORIAL]
    return page + table(plan, results, [OURS], servers, ["", OURS, *servers]) + METHOD


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="the program echo-server")
    parser.add_argument("--programs", required=True, help="the folder of load and other servers")
    parser.add_argument("--output", type=pathlib.Path, help="the folder for results.md")
    parser.add_argument("--against", metavar="PATH", help="only compare with this echo-server")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each measurement of a rate")
    arguments = parser.parse_args()
    if "BENCH_QUICK" in os.environ:
        arguments.rounds, arguments.seconds = 1, 0.02

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # For the many idle connections.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # Also for all that is started here.

    plan, missing = [], set()
    for workload in WORKLOADS:
        wanted = [OURS, *([OTHER] if arguments.against else workload.peers)]
        there = [name for name in wanted if shutil.which(command_of(name, workload, arguments)[0])]
        missing.update(set(wanted) - set(there))
        plan.append((workload, there))
    if missing & {OURS, OTHER}:
        sys.exit(f"No such program: {' and '.join(sorted(missing & {OURS, OTHER}))}")
    results = measure_all(plan, arguments)
    if arguments.against:
        print(table(plan, results, [OURS, OTHER], [OTHER],
                    ["", OURS, OTHER, "ratio (above 1: echo-server is better)"]))
        return
    page = page_of(plan, results, missing, arguments)
    print(page)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.md").write_text(page)


if __name__ == "__main__":
    main()
