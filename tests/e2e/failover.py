#!/usr/bin/env python3
"""By hand: kills the leader of three servers so many times (default 100), and prints how long no write was accepted, as figures
of bench/run.sh.

usage: failover.py [KILLS] [--FLAG=VALUE of the servers]..."""
import http.client
import json
import os
import statistics
import sys
import time
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster_lib import Cluster  # noqa: E402
from lib import call, exec_service, job  # noqa: E402


def write(ports, n):
    """One job, over whichever server takes it, with the key of one request; returns when it was acknowledged."""
    key = uuid.uuid4().hex
    turn = 0
    while True:
        try:
            answer = call(ports[turn % len(ports)], "POST", "/v1/jobs", job("load", exec_service("load", 0, env={"N": str(n)})),
                          {"Idempotency-Key": key, "X-Mentat-Timeout": "2s"}, timeout=3)
            if answer.status == 200:
                return time.monotonic()
        except (OSError, http.client.HTTPException):
            pass
        turn += 1
        time.sleep(0.002)


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    flags = dict(f.lstrip("-").replace("-", "_").split("=", 1) for f in sys.argv[2:])
    cluster = Cluster(3, **flags)
    gaps = []
    try:
        for n in range(kills):
            leader = cluster.leader()
            ports = [s.port for s in cluster.servers if s is not leader]
            write(ports, n)
            begin = time.monotonic()
            leader.kill()
            gaps.append(write(ports, -n - 1) - begin)
            leader.start(wait=False)
            cluster.wait_ready(3)
        cluster.wait_equal()
    finally:
        cluster.kill()
        cluster.remove_files()
    gaps.sort()
    for name, seconds in (("p50", statistics.median(gaps)), ("p90", gaps[int(len(gaps) * 0.9)]), ("worst", gaps[-1])):
        print(json.dumps({"name": f"failover_{name}_ms", "value": round(seconds * 1000), "unit": "ms", "kills": kills, **flags}))


if __name__ == "__main__":
    main()
