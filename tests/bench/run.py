#!/usr/bin/env python3
"""Measures echo-server beside other echo servers, and writes a page of figures. The build's target
`bench` calls it. With --check it only tells whether the figures that are kept in results/ are
older than the sources they are about."""

import argparse
import dataclasses
import hashlib
import json
import math
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

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
KEPT = HERE / "results" / "results.md"
OURS = "echo-server"
ANY_CORE = "any core"
ONE_CORE = "client and server on one core"

# How each server is started, and what to install for it. {bin} is the folder of the programs,
# {chunk} the most bytes that one receive takes.
SERVERS = {
    OURS: ("{server} --host 127.0.0.1 --port {port} {flags}", ""),
    "bare C": ("{bin}/bare {port} {chunk} {threads}", ""),
    "asio, threads": ("{bin}/asio_threads {port} {chunk}", "libasio-dev, then build again"),
    "asio, asynchronous": ("{bin}/asio_async {port} {chunk}", "libasio-dev, then build again"),
    "Python notes": ("{python} {here}/peers/notes.py {port} {quiet}", ""),
    "socat": ("socat TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay PIPE", "socat"),
    "ncat": ("ncat -l -k --exec /bin/cat 127.0.0.1 {port}", "ncat"),
}
# These can be told how much to take by one receive. The others are left out where messages are
# longer than the chunk, unless that is large.
TOLD = [OURS, "bare C", "asio, threads", "asio, asynchronous"]
NOT_TOLD = ["socat", "ncat"]


@dataclasses.dataclass
class Workload:
    key: str
    title: str
    unit: str  # Of the numbers, the one that counts.
    servers: list
    load: str = ""  # The arguments of the program load; without them Python is the client.
    flags: str = ""  # Those of echo-server.
    chunk: int = 16  # What the flags mean, for the others.
    placement: str = ONE_CORE
    threads: str = "spawn"  # Of bare.
    connections: int = 0
    seconds: float = 1  # As many times as long as --seconds.

    @property
    def heading(self):
        less = self.unit.startswith(("KiB", "ms"))
        return f"{self.title}, {self.unit}" + (" (less is better)" if less else "")


BULK = {"load": "bulk {port} {seconds}", "placement": ANY_CORE, "seconds": 4}
WORKLOADS = [
    Workload("ping-pong-16", "16-byte ping-pong", "round trips/s",
             [*TOLD, "Python notes", *NOT_TOLD], "ping-pong {port} 1 16 {seconds}"),
    Workload("ping-pong-100", "100 bytes by 16-byte chunks", "round trips/s",
             [*TOLD, "Python notes"], "ping-pong {port} 1 100 {seconds}"),
    Workload("bulk-16", "16-byte chunks in bulk", "MB/s", [*TOLD, "Python notes"], **BULK),
    Workload("bulk-64k", "64 KiB chunks in bulk", "MB/s", [*TOLD, *NOT_TOLD],
             flags="--chunk-size 64k", chunk=65536, **BULK),
    Workload("ping-pong-50", "50 connections", "round trips/s", [*TOLD, *NOT_TOLD],
             "ping-pong {port} 50 512 {seconds}", "--chunk-size 4k", 4096),
    Workload("churn", "short connections", "per s", [*TOLD, *NOT_TOLD],
             "churn {port} 4 {seconds}", placement=ANY_CORE, threads="reuse"),
    Workload("idle", "10,000 idle connections", "KiB each", TOLD,
             flags="--max-connections 20000", connections=10000),
    Workload("start", "start and stop", "ms to the first echo", TOLD[:2], placement=ANY_CORE),
    Workload("shown", "16-byte chunks in bulk, shown", "MB/s", [OURS, "Python notes"],
             flags="-v", **BULK),
]
# The columns of the summary.
SUMMARY = ["ping-pong-16", "bulk-16", "bulk-64k", "ping-pong-50", "churn", "idle"]


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

    def command(self, name, workload, port):
        return SERVERS[OURS if name in self.ours else name][0].format(
            server=self.ours.get(name), bin=self.programs, python=sys.executable, here=HERE,
            port=port, flags=workload.flags, chunk=workload.chunk, threads=workload.threads,
            quiet="" if workload.flags == "-v" else "quiet").split()

    def is_there(self, name, workload):
        return shutil.which(self.command(name, workload, 0)[0]) is not None

    def spawn(self, command, placement, stdout=subprocess.DEVNULL):
        """A process group lets all that the command starts be ended. It gets no session: then Linux
        would give client and server half of the processors each (autogroup in sched(7))."""
        cores = self.cores if placement == ANY_CORE else self.cores[-1:]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout,
                                stderr=subprocess.DEVNULL, env=self.environment, process_group=0,
                                preexec_fn=lambda: os.sched_setaffinity(0, cores))

    def measure(self, name, workload):
        """Starts a server for this measurement alone. Returns {unit: number}."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = self.command(name, workload, port)
        if workload.key == "start":
            return start_and_stop(command, port, self.environment)
        server = self.spawn(command, workload.placement)
        try:
            connect(port).close()
            if workload.connections:
                return idle(server.pid, port, workload.connections)
            return self.run_load(workload, port)
        finally:
            stop(server)

    def run_load(self, workload, port):
        seconds = self.seconds * workload.seconds
        arguments = workload.load.format(port=port, seconds=seconds).split()
        load = self.spawn([f"{self.programs}/load", *arguments], workload.placement,
                          subprocess.PIPE)
        try:
            numbers = json.loads(load.communicate(timeout=seconds + 30)[0])
        except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            raise Failure(f"load: {error}") from error
        finally:
            stop(load)
        if "error" in numbers:
            raise Failure(numbers["error"])
        return numbers


def connect(port):
    """As soon as somebody listens there."""
    end = time.perf_counter() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError as error:
            if time.perf_counter() > end:
                raise Failure("did not listen within 5 s") from error
            time.sleep(0.00005)


def stop(process):
    """Ends it and all that it started."""
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, wanted)
            process.wait(timeout=2)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def echo_once(client):
    client.sendall(b"sixteen bytes...")
    if client.recv(16, socket.MSG_WAITALL) != b"sixteen bytes...":
        raise Failure("wrong bytes came back, or too few")


def resident_kib(pid):
    """Once it has settled: threads that have just started may not have touched their stacks."""
    last = None
    for _ in range(50):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        now = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
        if now == last:
            break
        last = now
        time.sleep(0.05)
    return now


def idle(pid, port, connections):
    clients = []
    try:
        for number in range(connections + 1):
            client = socket.socket()
            clients.append(client)
            client.settimeout(5)
            # From many addresses: clients that close first keep their ports for a minute.
            client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            client.bind((f"127.0.{number % 64}.1", 0))
            client.connect(("127.0.0.1", port))
            if number == 0:
                echo_once(client)
                before, began = resident_kib(pid), time.perf_counter()
            elif number % 1000 == 0:
                echo_once(client)  # Else the kernel's queue could overflow.
        opening = time.perf_counter() - began
        for client in clients:
            echo_once(client)
        return {"KiB each": (resident_kib(pid) - before) / connections, "s to open": opening}
    except OSError as error:
        raise Failure(f"connection {len(clients)}: {error}") from error
    finally:
        for client in clients:
            client.close()


def start_and_stop(command, port, environment):
    null = os.open(os.devnull, os.O_RDWR)
    starts, stops = [], []
    for _ in range(20):
        began = time.perf_counter()
        pid = os.posix_spawn(
            command[0], command, environment,
            setsigdef=[signal.SIGINT],  # A background job of a script ignores it.
            file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)])
        try:
            with connect(port) as client:
                echo_once(client)
                starts.append(1000 * (time.perf_counter() - began))
        finally:
            began = time.perf_counter()
            os.kill(pid, signal.SIGINT)
            os.waitpid(pid, 0)
        stops.append(1000 * (time.perf_counter() - began))
    os.close(null)
    return {"ms to the first echo": statistics.median(starts),
            "ms from SIGINT to exit": statistics.median(stops)}


def rounds_of(name, workload, rounds):
    """A few do for what hardly varies, and for what is slow to measure and far behind."""
    return min(rounds, 5) if workload.connections or name in NOT_TOLD else rounds


def run_all(bench, plan, rounds):
    """Returns {workload: {server: [numbers or {"error": reason}, one per round]}}."""
    results = {workload.key: {name: [] for name in names} for workload, names in plan}
    # Each round has another order: a server that leaves the processors idle slows down the next.
    shuffle = random.Random(1)
    for turn in range(rounds):
        for workload, names in plan:
            names = [name for name in names if turn < rounds_of(name, workload, rounds)]
            for name in shuffle.sample(names, len(names)):
                past = results[workload.key][name]
                if len(past) >= 2 and all("error" in numbers for numbers in past):
                    continue  # It cannot do this.
                try:
                    numbers = bench.measure(name, workload)
                    said = f"{numbers[workload.unit]:.4g} {workload.unit}"
                except Failure as failure:
                    numbers = {"error": str(failure)}
                    said = f"failed: {failure}"
                past.append(numbers)
                print(f"[{turn + 1}/{rounds}] {workload.title}: {name}: {said}", flush=True)
    return results


HOW_TO_READ = """\
- A figure is the median of the rounds. Behind ± stands half the width of the middle half of the
  rounds. A figure has no more digits than this spread lets it know, and at most three. With fewer
  than four rounds there is no spread.
- Each round measures every server once, in another order. A ratio is the median of the rounds'
  ratios: what slows down a whole round does not change it.
- The servers of a table take the same number of bytes by each receive. socat and ncat cannot be
  told how many, and are only where that makes no difference. A blank was not measured.
- The 50 connections send 512 bytes at a time. Short connections send 16 bytes each, four at once.
- "bare C" is a loop of `recv` and `send` that handles no error. It starts a thread for each
  connection; for the short connections 64 threads wait in `accept`.
- "Python notes" serves one client after another, and prints the chunks only where ours does (`-v`).
  It does not set `TCP_NODELAY`: in bulk that saves packets, but 100 bytes take 40 ms.
- Compare within a run only: `run.py --beside LABEL=PATH` measures another echo-server beside ours.
- `cmake --build build --target bench` writes this page to `build/bench`. To keep it, copy it to
  `tests/bench/results/`, and its summary into the README.
"""


def with_spread(values):
    """The median and its spread, such as "67,800 ± 300"."""
    middle = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 3 else (0, 0, 0)
    spread = (high - low) / 2
    first = math.floor(math.log10(middle))  # The place of the first digit, and then of the last.
    last = first - (2 if len(values) > 3 else 1)
    if spread > 0:
        last = min(first, max(last, math.floor(math.log10(spread))))
    step, decimals = 10.0**last, max(0, -last)
    text = f"{round(middle / step) * step:,.{decimals}f}"
    return text + f" ± {math.ceil(spread / step) * step:,.{decimals}f}" if len(values) > 3 else text


def numbers_of(rounds, unit):
    return [numbers[unit] for numbers in rounds if "error" not in numbers]


def cell(rounds, unit):
    values = numbers_of(rounds, unit)
    return with_spread(values) if values else "fails"


def table(heads, rows, texts):
    """The first columns are texts, the others numbers."""
    lines = [heads, ["---"] * texts + ["--:"] * (len(heads) - texts), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace(
        f"| {OURS} |", f"| **{OURS}** |") + "\n"


def summary(plan, results, names):
    columns = [workload for workload, _ in plan if workload.key in SUMMARY]
    rows = [[name] + [cell(results[column.key][name], column.unit)
                      if name in results[column.key] else "" for column in columns]
            for name in names]
    return table(["server", *(column.heading for column in columns)],
                 [cells for cells in rows if any(cells[1:])], texts=1)


def workload_table(workload, servers):
    rows = []
    for name, rounds in servers.items():
        failed = [numbers["error"] for numbers in rounds if "error" in numbers]
        good = [numbers for numbers in rounds if "error" not in numbers]
        more = [f"{cell(rounds, unit)} {unit}" for unit in [*good, {}][0] if unit != workload.unit]
        if failed:
            more.append(f"{len(failed)} of {len(rounds)} failed: {failed[0]}")
        ratios = [ours[workload.unit] / this[workload.unit]
                  for ours, this in zip(servers[OURS], rounds)
                  if "error" not in ours and "error" not in this]
        rows.append([name, ", ".join(more), cell(rounds, workload.unit),
                     "" if name == OURS or not ratios else with_spread(ratios)])
    rows.sort(key=lambda row: -statistics.median(
        numbers_of(servers[row[0]], workload.unit) or [0]))
    if "less" in workload.heading:
        rows.reverse()
    flags = f"`{workload.flags}`" if workload.flags else "default flags"
    return (f"### {workload.title}\n\n{flags}; {workload.placement}.\n\n" +
            table(["server", "more", workload.unit, "ours / this"], rows, texts=2))


def fingerprint(*patterns):
    """Of the code in these files. Comments, spaces and includes do not count."""
    code = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in PROJECT.glob(pattern)):
        comment = r"(?m)^\s*#.*" if path.suffix == ".py" else r"(?m)(^|\s)//.*|^#include.*|(?s:/\*.*?\*/)"
        code.update(re.sub(r"\s", "", re.sub(comment, "", path.read_text())).encode())
    return code.hexdigest()[:12]


def sources():
    return {"program": fingerprint("src/*.cpp", "include/echo/*.hpp"),
            "benchmark": fingerprint("tests/bench/*.cpp", "tests/bench/peers/*", "tests/bench/run.py")}


def check():
    kept = dict(re.findall(r"code of the (\w+): (\w+)", KEPT.read_text()))
    old = [what for what, now in sources().items() if kept.get(what) != now]
    if old:
        sys.exit(f"{KEPT.relative_to(PROJECT)} is older than the {' and the '.join(old)}: "
                 "measure again with cmake --build build --target bench")
    print(f"{KEPT.relative_to(PROJECT)} is about the present sources")


def write(bench, plan, rounds, results, missing, output):
    output.mkdir(parents=True, exist_ok=True)
    model = re.search("model name.*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, text=True,
                         capture_output=True)
    of = "; ".join(f"code of the {what}: {hashed}" for what, hashed in sources().items())
    made = (f"{model[1] if model else os.uname().machine}, {len(bench.cores)} cores, Linux "
            f"{os.uname().release}; {time.strftime('%Y-%m-%d', time.gmtime())} (UTC); commit "
            f"{git.stdout.strip() or 'unknown'}; {rounds} rounds (of socat, ncat and idle "
            f"connections at most five); {bench.seconds:g} s per measurement, in bulk "
            f"{BULK['seconds'] * bench.seconds:g} s; {of}.")
    if missing:
        made += f"\n\nNot measured, since they are not there: {', '.join(missing)}."
    names = [*bench.ours, *(name for name in SERVERS if name != OURS)]
    (output / "results.json").write_text(json.dumps({"made": made, "workloads": results}, indent=1))
    (output / "results.md").write_text(
        f"# Figures\n\n{made}\n\n## Summary\n\n{summary(plan, results, names)}"
        f"## How to read the figures\n\n{HOW_TO_READ}\n## Every server\n\n" +
        "".join(workload_table(workload, results[workload.key]) for workload, _ in plan))


def beside(text):
    match = re.fullmatch(r"([\w. -]+)=(.+)", text)
    if match is None or match[1] in SERVERS or not shutil.which(match[2]):
        raise argparse.ArgumentTypeError(f"not a new label and a program: {text}")
    return match.groups()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit status 1: measure again")
    parser.add_argument("--server", help="the program echo-server")
    parser.add_argument("--programs", help="the folder of load and the peers")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--beside", action="append", default=[], type=beside, metavar="LABEL=PATH",
                        help="another echo-server, measured wherever ours is; can be repeated")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.25,
                        help="per measurement; in bulk four times as long")
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD",
                        choices=[workload.key for workload in WORKLOADS], help="%(choices)s")
    parser.add_argument("--quick", action="store_true", default="BENCH_QUICK" in os.environ,
                        help="just try that it works (or set BENCH_QUICK)")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    if not (arguments.server and arguments.programs and arguments.output):
        parser.error("--server, --programs and --output are needed, or --check alone")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.1
        for workload in WORKLOADS:
            workload.connections //= 10
            workload.title = workload.title.replace("10,000", "1,000")

    # Each connection takes a descriptor, of the client and of the server.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bench = Bench(arguments)
    plan, missing = [], {}
    for workload in WORKLOADS:
        if arguments.only and workload.key not in arguments.only:
            continue
        if workload.connections + 100 > hard:
            missing[f"{workload.title} (the hard limit of open files is {hard})"] = 1
            continue
        wanted = [*bench.ours, *(name for name in workload.servers if name != OURS)]
        there = [name for name in wanted if bench.is_there(name, workload)]
        missing |= {f"{name} (apt-get install {SERVERS[name][1]})": 1
                    for name in wanted if name not in there}
        plan.append((workload, there))
    seconds = sum(rounds_of(name, workload, arguments.rounds) * (
        0.2 + workload.connections / 2500 + arguments.seconds * workload.seconds)
                  for workload, names in plan for name in names)
    print(f"It needs {len(bench.cores)} cores that do nothing else (two or more), and takes about "
          f"{math.ceil(seconds / 60)} min: {arguments.rounds} rounds of {len(plan)} workloads.")
    for name in missing:
        print(f"Left out, since it is not there: {name}")

    results = run_all(bench, plan, arguments.rounds)
    write(bench, plan, arguments.rounds, results, missing, arguments.output)
    print((arguments.output / "results.md").read_text())
    failed = [workload.title for workload, _ in plan
              if any("error" in numbers for numbers in results[workload.key][OURS])]
    if failed:
        sys.exit(f"{OURS} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
