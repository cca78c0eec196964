#!/usr/bin/env python3
"""The HTTP API of the real mentat-server, with a fake agent: every route, errors, waits, events, idempotency."""
import concurrent.futures
import contextlib
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import (EventStream, FakeAgent, PATIENCE, Server, Workdir, call, exec_service, free_port, job, program,  # noqa: E402
                 resident_kb, wait_for)


class ApiTest(unittest.TestCase):
    flags = {}

    def setUp(self):
        self.server = Server(**self.flags).start()
        self.addCleanup(self.server.workdir.remove)
        self.addCleanup(self.end)

    def end(self):
        """Whatever the test did, the server ends in good order."""
        if self.server.process.alive():
            self.assertEqual(self.server.stop(), 0, self.server.process.text()[-2000:])

    def agent(self, **kw):
        agent = FakeAgent(self.server, **kw).start()
        self.addCleanup(agent.stop)
        return agent

    def submit(self, body, **kw):
        answer = self.server.post("/v1/jobs", body, **kw)
        self.assertIn(answer.status, (200, 204), answer)
        return answer

    def assert_error(self, answer, status, code, *words):
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertEqual(answer.error["code"], code)
        for word in words:
            self.assertIn(word, answer.error["message"])

    def allocs(self, service, state=None):
        return [a for a in self.server.items(f"/v1/allocs?service={service}") if state is None or a["state"] == state]

    def wait_running(self, service, count):
        return wait_for(lambda: len(self.allocs(service, "running")) == count and self.allocs(service, "running"), 10,
                        f"{count} running of {service}")


class Basics(ApiTest):
    def test_public_routes(self):
        self.assertEqual(self.server.get("/v1/healthz").json, {"status": "ok"})
        self.assertEqual(self.server.get("/v1/readyz").json, {"status": "ok"})
        self.assertEqual(self.server.get("/v1/version").json["api"], "v1")
        document = self.server.get("/v1/openapi.json").json
        self.assertEqual(document["openapi"], "3.1.0")
        self.assertIn("/v1/services/{service}/scale", document["paths"])
        cluster = self.server.get("/v1/cluster").json
        self.assertEqual((cluster["role"], cluster["name"]), ("leader", "s1"))

    def test_lists_are_empty_at_first(self):
        for path in ("/v1/jobs", "/v1/services", "/v1/allocs", "/v1/nodes", "/v1/deployments"):
            page = self.server.get(path)
            self.assertEqual(page.status, 200, page)
            self.assertEqual(page.json["items"], [])
            self.assertEqual(page.json["next_cursor"], "")

    def test_metrics(self):
        self.submit(job("web"))
        text = self.server.get("/v1/metrics").body.decode()
        self.assertIn('mentat_http_requests_total{method="POST",route="/v1/jobs",status="2xx"} 1', text)
        self.assertIn("mentat_propose_seconds_count 1", text)
        self.assertGreater(self.server.metric("mentat_raft_applied_index"), 0)
        for line in text.splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) .*|[a-z_]+(\{[^}]*\})? [-+0-9.e]+)$')

    def test_unknown_routes_and_methods(self):
        self.assert_error(self.server.get("/"), 404, "not_found", "/v1/")
        self.assert_error(self.server.get("/v1/jobz"), 404, "not_found")
        answer = self.server.call("DELETE", "/v1/jobs")
        self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, POST"))
        for path in ("/v1/jobs/x", "/v1/services/x", "/v1/services/x/versions", "/v1/allocs/x", "/v1/nodes/x",
                     "/v1/deployments/x", "/v1/explain/x", "/v1/allocs/x/logs"):
            self.assert_error(self.server.get(path), 404, "not_found", " x")
        for path in ("/v1/services/x/restart", "/v1/services/x/rollback", "/v1/allocs/x/stop", "/v1/allocs/x/restart",
                     "/v1/nodes/x/drain", "/v1/nodes/x/enable", "/v1/nodes/x/disable",
                     "/v1/nodes/x/lost"):
            self.assert_error(self.server.post(path), 404, "not_found", "x")

    def test_bad_input(self):
        post = self.server.post
        self.assert_error(self.server.get("/v1/allocs?servce=x"), 400, "invalid", "servce", "service, node, namespace, prefix")
        self.assert_error(self.server.get("/v1/allocs?limit=many"), 400, "invalid", "limit")
        self.assert_error(self.server.get("/v1/allocs?limit=0"), 400, "invalid", "limit")
        self.assert_error(self.server.get("/v1/allocs?filter=state%3Dwalking"), 400, "invalid", "pending, starting")
        self.assert_error(self.server.get("/v1/allocs?wait=10s"), 400, "invalid", "index")
        self.assert_error(self.server.get("/v1/allocs?index=1&wait=soon"), 400, "invalid", "wait")
        self.assert_error(self.server.get("/v1/allocs?consistency=some"), 400, "invalid", "consistency")
        self.assert_error(post("/v1/jobs"), 400, "invalid", "body")
        self.assert_error(post("/v1/jobs", b"{"), 400, "invalid")
        self.assert_error(post("/v1/jobs", b"[1,2]"), 400, "invalid")
        self.assert_error(post("/v1/jobs", b'{"name":"a","services":[]} x'), 400, "invalid")
        self.assert_error(post("/v1/jobs", b"\xff\xfe\x00"), 400, "invalid")
        self.assert_error(post("/v1/services/x/scale", {"count": "three"}), 400, "invalid", "count")
        self.assert_error(post("/v1/services/x/scale", {"count": -1}), 400, "invalid", "count")
        self.assert_error(post("/v1/services/x/scale", {"cuont": 1}), 400, "invalid", "cuont")
        self.assert_error(post("/v1/services/x/scale", {}), 400, "invalid", "count: is required")
        self.assert_error(post("/v1/services/x/scale", {"count": None}), 400, "invalid", "count: is required")
        self.assert_error(post("/v1/services/x/restart", {"a": 1}), 400, "invalid", "no body")
        self.assert_error(post("/v1/jobs", job("web"), headers={"Idempotency-Key": "k" * 200}), 400, "invalid")
        bad = job("web", exec_service("web", count=-3, color="red"))
        answer = post("/v1/jobs", bad)
        self.assert_error(answer, 400, "invalid")
        self.assertTrue({d["path"] for d in answer.error["details"]} & {"services[0].color", "services[0].count"},
                        answer.error)
        self.assertEqual(self.server.get("/v1/jobs").json["items"], [])

    def test_what_this_release_does_not_do_is_refused(self):
        volumes = [{"name": "v", "target": "/v", "read_only": True}]
        for path in "/v1/jobs", "/v1/plan":
            self.assert_error(self.server.post(path, job("web", exec_service("web", volumes=volumes))), 400, "invalid",
                              "services[0].volumes[0].read_only", "this release")
        self.assertEqual(self.server.get("/v1/jobs").json["items"], [])
        self.assertIn(self.server.post("/v1/jobs", job("web")).status, (200, 204))
        self.assert_error(self.server.call("PATCH", "/v1/services/web", {"volumes": volumes}), 400, "invalid", "read_only",
                          "this release")

    def test_web_pages_cannot_use_it(self):
        own, path, body = f"127.0.0.1:{self.server.port}", "/v1/jobs", json.dumps(job("web", exec_service("web")))
        ask = lambda method="POST", path=path, body=body, **headers: self.server.call(  # noqa: E731
            method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        for type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", ""):
            self.assert_error(ask(Content_Type=type), 415, "invalid", "Content-Type: application/json")
        with socket.create_connection(("127.0.0.1", self.server.port)) as s:
            s.sendall(f"POST {path} HTTP/1.1\r\nHost: {own}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            self.assertIn(b" 415 ", s.makefile("rb").readline())       # no type at all
        for origin in ("http://evil.example", "null", "https://evil.example:4646", "http://localhost:1", f"http://{own}0"):
            self.assert_error(ask(Origin=origin), 403, "denied", "Origin")
            self.assert_error(ask(path="/v1/nodes/x/disable", body=None, Origin=origin), 403, "denied", "Origin")
            self.assert_error(ask("DELETE", "/v1/nodes/x", None, Origin=origin), 403, "denied", "Origin")
            self.assert_error(ask("PUT", "/v1/snapshot", b"x", Origin=origin), 403, "denied", "Origin")
            self.assert_error(ask("GET", "/v1/allocs/x/exec?command=%5B%22id%22%5D", None, Origin=origin, Connection="Upgrade",
                                  Upgrade="mentat-exec"), 403, "denied", "Origin")
        for host in ("evil.example", f"evil.example:{self.server.port}", "localhost.evil.example", "127.0.0.1.evil.example"):
            for method, content in (("GET", None), ("POST", body)):
                self.assert_error(ask(method, body=content, Host=host, Origin=f"http://{host}"), 403, "denied", "Host", host)
        self.assertEqual(self.server.get("/v1/jobs").json["items"], [])
        for host in (own, "localhost", f"LocalHost:{self.server.port}", f"[::1]:{self.server.port}"):
            self.assertEqual(ask(Host=host, Origin=f"http://{host}", Content_Type="application/json; charset=utf-8").status, 200)

    def test_names_that_are_configured_are_its_own(self):
        flags = {"tls": "off", "bind": "127.0.0.1", "advertise": "api.mentat.example", "servers": ["one.mentat.example:4646"], "expect": 1}
        server = Server(**flags).start(wait=False)
        self.addCleanup(server.workdir.remove)
        self.addCleanup(server.kill)
        ask = lambda host: server.get("/v1/healthz", headers={"Host": host}).status  # noqa: E731
        wait_for(lambda: ask("localhost") == 200, 20, "the server's answer")
        self.assertEqual([ask(h) for h in ("api.mentat.example", "one.mentat.example:80", "two.mentat.example")], [200, 200, 403])


class Services(ApiTest):
    def test_a_job_is_placed_and_runs(self):
        self.agent()
        self.submit(job("shop", exec_service("web", 3), exec_service("api", 1)))
        allocs = self.wait_running("web", 3)
        self.assertEqual(sorted(a["replica"] for a in allocs), [0, 1, 2])
        self.wait_running("api", 1)
        self.assertEqual([j["name"] for j in self.server.items("/v1/jobs")], ["shop"])
        self.assertEqual({s["name"] for s in self.server.get("/v1/jobs/shop").json["services"]}, {"web", "api"})
        detail = self.server.get("/v1/services/web").json
        self.assertEqual((detail["status"]["running"], detail["current"]["version"]), (3, 1))
        one = allocs[0]
        self.assertEqual(self.server.get(f"/v1/allocs/{one['id']}").json["id"], one["id"])
        self.assertEqual(self.server.get(f"/v1/allocs/{one['id'][:10]}").json["id"], one["id"])
        self.assertEqual(self.server.get("/v1/explain/web").status, 200)
        self.assertEqual(self.server.get(f"/v1/explain/{one['id']}").status, 200)
        few = self.server.get("/v1/explain/web?limit=1").json
        self.assertEqual((len(few["allocs"]), few["allocs_left_off"], len(few["nodes"]), few["nodes_left_off"]), (1, 2, 1, 0))
        self.assert_error(self.server.get("/v1/explain/web?limit=2000"), 400, "invalid", "limit", "1000")
        self.assertEqual(len(self.server.items("/v1/allocs?node=n1")), 4)
        self.assertEqual(len(self.server.items("/v1/allocs?filter=service%3Dapi,state%3Drunning")), 1)
        self.assertGreaterEqual(len(self.server.items("/v1/deployments?service=web")), 1)

    def test_scale_restart_patch_versions_rollback_stop(self):
        agent = self.agent()
        self.submit(job("web"))
        self.wait_running("web", 1)
        post = self.server.post
        self.assertIn(post("/v1/services/web/scale", {"count": 3}).status, (200, 204))
        self.wait_running("web", 3)
        generation = self.allocs("web")[0].get("generation", 0)
        self.assertIn(post("/v1/services/web/restart").status, (200, 204))
        wait_for(lambda: all(a.get("generation", 0) > generation for a in agent.allocs.values()), what="the restart at the agent")
        answer = self.server.call("PATCH", "/v1/services/web", {"env": {"COLOR": "blue"}, "meta": None})
        self.assertIn(answer.status, (200, 204), answer)
        versions = self.server.get("/v1/services/web/versions").json["items"]
        newest = max(versions, key=lambda v: v["version"])
        self.assertEqual(newest["spec"]["env"], {"COLOR": "blue"})
        self.assertEqual(newest["spec"]["count"], 3)
        self.assert_error(self.server.call("PATCH", "/v1/services/web", {"coutn": 1}), 400, "invalid", "coutn")
        self.assert_error(self.server.call("PATCH", "/v1/services/web", {"name": "x"}), 400, "invalid", "name")
        self.assert_error(self.server.call("PATCH", "/v1/services/web", b"{"), 400, "invalid", "JSON")
        self.assert_error(post("/v1/services/web/deploy", {"image": "x"}), 400, "invalid", "exec")
        self.assertIn(post("/v1/services/web/deploy", {"env": {"SIZE": "9"}}).status, (200, 204))
        self.assertEqual(self.server.get("/v1/services/web").json["current"]["spec"]["env"],
                         {"COLOR": "blue", "SIZE": "9"})
        self.assertIn(post("/v1/services/web/rollback").status, (200, 204))
        self.assertEqual(self.server.get("/v1/services/web").json["current"]["spec"]["env"], {"COLOR": "blue"})
        self.assertIn(self.server.call("DELETE", "/v1/services/web").status, (200, 204))
        wait_for(lambda: not [a for a in self.allocs("web") if a["state"] not in ("complete", "failed", "lost")],
                 what="the stop of all replicas")

    def test_jobs_put_delete_and_expected_index(self):
        put = lambda name, body, query="": self.server.call("PUT", f"/v1/jobs/{name}{query}", body)  # noqa: E731
        self.assert_error(put("other", job("web")), 400, "invalid", "other", "web")
        self.assertIn(put("web", job("web"), "?expected_index=0").status, (200, 204))
        self.assert_error(put("web", job("web", exec_service("web", 5)), "?expected_index=0"), 409, "conflict")
        index = [j for j in self.server.items("/v1/jobs") if j["name"] == "web"][0]["modify_index"]
        self.assertIn(put("web", job("web", exec_service("web", 5)), f"?expected_index={index}").status, (200, 204))
        self.assertIn(self.server.call("DELETE", "/v1/jobs/web?purge=true").status, (200, 204))
        wait_for(lambda: self.server.get("/v1/jobs/web").status == 404, what="the job's end")

    def test_plan_changes_nothing(self):
        self.agent()
        before = self.server.get("/v1/cluster").json["state_hash"]
        answer = self.server.post("/v1/plan", job("web", exec_service("web", 2)))
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual([s["action"] for s in answer.json["steps"]], ["start", "start"])
        self.assertEqual(self.server.get("/v1/services").json["items"], [])
        self.assertEqual(self.server.get("/v1/cluster").json["state_hash"], before)

    def test_allocations_stop_and_restart(self):
        agent = self.agent()
        self.submit(job("web"))
        first = self.wait_running("web", 1)[0]["id"]
        self.assertIn(self.server.post(f"/v1/allocs/{first}/restart", {"reason": "a test"}).status, (200, 204))
        wait_for(lambda: agent.allocs[first].get("generation", 0) > 0, what="the raised generation at the agent")
        self.assertIn(self.server.post(f"/v1/allocs/{first}/stop").status, (200, 204))
        wait_for(lambda: [a for a in self.allocs("web", "running") if a["id"] != first], what="the replacement")

    def test_pages_hold_all_items_once_in_order(self):
        self.submit(job("many", *[exec_service(f"s{i:03}", 0) for i in range(25)]))
        names = [s["name"] for s in self.server.items("/v1/services?limit=10")]
        self.assertEqual(names, [f"s{i:03}" for i in range(25)])
        page = self.server.get("/v1/services?limit=10").json
        self.assertEqual((len(page["items"]), page["next_cursor"]), (10, "s009"))
        self.assertEqual([s["name"] for s in self.server.items("/v1/services?prefix=s01&limit=3")],
                         [f"s{i:03}" for i in range(10, 20)])
        self.assertEqual(self.server.get("/v1/services?prefix=zz").json["items"], [])


class Nodes(ApiTest):
    flags = {"heartbeat": "200ms", "node_grace": "800ms"}

    def test_drain_disable_enable_and_names(self):
        self.agent()
        self.agent(node_id="bbbbbbbbbbbb", name="n2")
        self.assertEqual([n["name"] for n in self.server.items("/v1/nodes")], ["n1", "n2"])
        for text in ("aaaaaaaaaaaa", "aaa", "n1"):
            self.assertEqual(self.server.get(f"/v1/nodes/{text}").json["id"], "aaaaaaaaaaaa")
        self.submit(job("web", exec_service("web", 4)))
        self.wait_running("web", 4)
        self.assertIn(self.server.post("/v1/nodes/n1/drain", {"reason": "new disk"}).status, (200, 204))
        wait_for(lambda: {a["node_name"] for a in self.wait_running("web", 4)} == {"n2"}, what="the drain of n1")
        self.assertEqual(self.server.get("/v1/nodes/n1").json["state"], "draining")
        self.assertIn(self.server.post("/v1/nodes/n1/disable").status, (200, 204))
        self.assertEqual(self.server.get("/v1/nodes/n1").json["state"], "ineligible")
        self.assertIn(self.server.post("/v1/nodes/n1/enable").status, (200, 204))
        self.assertEqual(self.server.get("/v1/nodes/n1").json["state"], "ready")

    def test_a_silent_node_goes_down_and_its_replicas_move(self):
        quiet = FakeAgent(self.server)
        quiet.start()
        self.submit(job("web"))
        self.wait_running("web", 1)
        self.agent(node_id="bbbbbbbbbbbb", name="n2")
        quiet.stop()
        wait_for(lambda: self.server.get("/v1/nodes/n1").json["state"] == "down", what="n1 down")
        wait_for(lambda: self.wait_running("web", 1)[0]["node_name"] == "n2", what="the replacement on n2")
        self.assertEqual(quiet.heartbeat().status, 404)
        lost = [a for a in self.allocs("web") if a["node_name"] == "n1"][0]
        answer = self.server.get(f"/v1/allocs/{lost['id']}/logs")
        self.assert_error(answer, 503, "unavailable", "n1 is down")
        self.assertIn(self.server.call("DELETE", "/v1/nodes/n1").status, (200, 204))
        self.assertEqual(self.server.get("/v1/nodes/n1").status, 404)

    def test_unknown_agents_must_register(self):
        ghost = FakeAgent(self.server, node_id="cccccccccccc")
        self.assert_error(ghost.heartbeat(), 404, "not_found", "register")
        self.assert_error(self.server.get("/v1/agent/allocs?node=cccccccccccc&index=5&wait=60s"), 404, "not_found")
        self.assert_error(self.server.get("/v1/agent/allocs"), 400, "invalid", "node")

    def test_a_restarted_server_gives_nodes_a_fresh_grace(self):
        self.agent()
        self.server.stop()
        self.server.start()
        time.sleep(0.4)     # half of the grace: what is asserted is that nothing happens
        self.assertEqual(self.server.get("/v1/nodes/n1").json["state"], "ready")


class Waiting(ApiTest):
    def test_a_wait_returns_at_once_when_something_is_newer(self):
        index = self.submit(job("web")).index
        start = time.monotonic()
        answer = self.server.get(f"/v1/jobs?index={index - 1}&wait=30s")
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(len(answer.json["items"]), 1)
        self.assertGreaterEqual(answer.index, index)

    def test_a_wait_ends_with_the_change(self):
        index = self.server.get("/v1/jobs").index
        with concurrent.futures.ThreadPoolExecutor() as pool:
            waiting = pool.submit(self.server.get, f"/v1/jobs?index={index}&wait=30s")
            wait_for(lambda: self.server.metric("mentat_waiting_reads") == 1, what="the waiting read")
            self.submit(job("web"))
            answer = waiting.result(10)
        self.assertEqual([j["name"] for j in answer.json["items"]], ["web"])
        self.assertGreater(answer.index, index)

    def test_a_wait_ends_with_its_time(self):
        index = self.submit(job("web")).index
        start = time.monotonic()
        answer = self.server.get(f"/v1/jobs?index={index + 100}&wait=300ms")
        self.assertEqual(answer.status, 200)
        self.assertGreater(time.monotonic() - start, 0.29)

    def test_strong_reads_see_the_write_before(self):
        for n in range(20):
            self.submit(job(f"j{n}"))
            self.assertEqual(len(self.server.get("/v1/jobs?consistency=strong").json["items"]), n + 1)

    def test_an_agent_without_work_waits_for_it(self):
        agent = FakeAgent(self.server)
        agent.register()
        index = self.server.get("/v1/agent/allocs?node=aaaaaaaaaaaa").json["index"]
        path = f"/v1/agent/allocs?node=aaaaaaaaaaaa&index={index}&wait="
        start = time.monotonic()
        self.assertEqual(self.server.get(path + "300ms").json["allocs"], [])
        self.assertGreater(time.monotonic() - start, 0.29)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            waiting = pool.submit(self.server.get, path + "30s")
            wait_for(lambda: self.server.metric("mentat_waiting_reads") == 1, what="the waiting read")
            self.submit(job("web"))
            self.assertEqual(len(waiting.result(10).json["allocs"]), 1)

    def test_a_wait_for_what_does_not_exist_ends_at_once(self):
        self.submit(job("web"))
        for path in ("jobs/x", "allocs/x", "services/x/versions", "deployments/x"):
            self.assertEqual(self.server.get(f"/v1/{path}?index=1000&wait=60s", timeout=5).status, 404, path)

    def test_waits_end_when_the_server_stops(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            waiting = [pool.submit(self.server.get, "/v1/jobs?index=100000&wait=60s") for _ in range(4)]
            wait_for(lambda: self.server.metric("mentat_waiting_reads") == 4, what="the waiting reads")
            start = time.monotonic()
            self.assertEqual(self.server.stop(), 0)
            self.assertLess(time.monotonic() - start, 4 * PATIENCE)
            for w in waiting:
                self.assertEqual(w.result(5).status, 200)


class Idempotency(ApiTest):
    def test_a_repeated_write_is_done_once(self):
        key = {"Idempotency-Key": "once"}
        self.submit(job("web"))
        first = self.server.post("/v1/services/web/scale", {"count": 4}, headers=key)
        self.server.post("/v1/services/web/scale", {"count": 2})
        again = self.server.post("/v1/services/web/scale", {"count": 4}, headers=key)
        self.assertEqual((first.status, first.body), (again.status, again.body))
        self.assertEqual(self.server.get("/v1/services/web").json["current"]["spec"]["count"], 2)

    def test_a_key_holds_over_a_restart(self):
        key = {"Idempotency-Key": "once"}
        first = self.submit(job("web"), headers=key)
        self.server.call("DELETE", "/v1/jobs/web?purge=true")
        self.server.kill()
        self.server.start()
        again = self.submit(job("web"), headers=key)
        self.assertEqual(first.body, again.body)


class Events(ApiTest):
    def stream(self, *args, **kw):
        s = EventStream(self.server.port, *args, **kw)
        self.addCleanup(s.close)
        return s

    def test_events_come_in_order_and_resume(self):
        self.agent()
        live = self.stream()
        self.submit(job("web", exec_service("web", 3)))
        self.wait_running("web", 3)
        wait_for(lambda: len(live.find(kind="alloc", to="running")) == 3, what="three running in the stream")
        order = [tuple(map(int, e["id"].split("-"))) for e in live.events]
        self.assertEqual(order, sorted(order))
        self.assertEqual(len(order), len(set(order)))
        middle = live.events[len(live.events) // 2]["id"]
        rest = [e["id"] for e in live.events[len(live.events) // 2 + 1:]]
        resumed = self.stream(last_event_id=middle)
        wait_for(lambda: len(resumed.events) >= len(rest), what="the resumed events")
        self.assertEqual([e["id"] for e in resumed.events][:len(rest)], rest)
        everything = self.stream("?index=0")
        wait_for(lambda: len(everything.events) > len(live.events), what="all events that are kept")

    def test_filters(self):
        self.agent()
        only = self.stream("?index=0&service=api&kind=alloc")
        self.submit(job("shop", exec_service("web"), exec_service("api")))
        wait_for(lambda: only.find(to="running"), what="api running")
        self.assertEqual({e["data"]["service"] for e in only.events}, {"api"})
        self.assertEqual({e["event"] for e in only.events}, {"alloc"})

    def test_a_list_in_pages(self):
        self.agent()
        self.submit(job("web", exec_service("web", 5)))
        self.wait_running("web", 5)
        json_only = {"Accept": "application/json"}
        all_at_once = self.server.get("/v1/events", headers=json_only).json["items"]
        cursor, paged = "", []
        while True:
            page = self.server.get(f"/v1/events?limit=3&cursor={cursor}", headers=json_only).json
            paged += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                break
        self.assertEqual(paged[:len(all_at_once)], all_at_once)
        self.assert_error(self.server.get("/v1/events?index=soon", headers=json_only), 400, "invalid", "index")

    def test_a_reader_that_missed_events_is_told_and_cut(self):
        self.submit(job("many", *[exec_service(f"s{i}", 0) for i in range(50)]))
        first = self.server.get("/v1/events?limit=1", headers={"Accept": "application/json"}).json["items"][0]
        n = 0
        while self.server.get("/v1/events?limit=1", headers={"Accept": "application/json"}).json["items"][0] == first:
            n += 1
            self.submit(job("many", *[exec_service(f"s{i}", 0, env={"N": str(n)}) for i in range(50)]))
            self.assertLess(n, 400)
        late = self.stream(last_event_id=f"{first['index']}-{first.get('seq', 0)}")
        self.assertTrue(late.closed.wait(10))
        self.assertEqual(late.events[-1]["event"], "error")
        self.assertIn("not kept any more", late.events[-1]["data"]["error"]["message"])

    def test_streams_end_when_the_server_stops(self):
        live = self.stream()
        wait_for(lambda: live.comments, what="the head of the stream")
        start = time.monotonic()
        self.assertEqual(self.server.stop(), 0)
        self.assertLess(time.monotonic() - start, 4 * PATIENCE)
        self.assertTrue(live.closed.wait(5))


class AgentApi(http.server.BaseHTTPRequestHandler):
    """The node's side of logs, exec and signal."""
    protocol_version = "HTTP/1.1"
    requests = []
    LONG = 256 << 20
    sent = 0

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.requests.append(self.path)
        if "/exec" in self.path:
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: mentat-exec\r\n\r\n")
            while data := self.connection.recv(65536):
                self.connection.sendall(data.upper())
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        size = self.LONG if "tail=0" in self.path else 20 << 20 if "tail=1" in self.path else 100
        with contextlib.suppress(OSError):
            for at in range(0, size, 65536):
                piece = b"l" * min(65536, size - at)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                AgentApi.sent = at
            self.wfile.write(b"0\r\n\r\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.path, json.loads(body)))
        self.send_response(204)
        self.end_headers()


class Proxies(ApiTest):
    def setUp(self):
        super().setUp()
        AgentApi.requests.clear()
        AgentApi.sent = 0
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), AgentApi)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.addCleanup(self.http.server_close)
        self.addCleanup(self.http.shutdown)

    def run_one(self, **kw):
        self.agent(address=f"127.0.0.1:{self.http.server_port}", **kw)
        self.submit(job("web"))
        return self.wait_running("web", 1)[0]["id"]

    def test_logs(self):
        alloc = self.run_one()
        answer = self.server.get(f"/v1/allocs/{alloc[:9]}/logs?stream=stderr&tail=5")
        self.assertEqual((answer.status, answer.body), (200, b"l" * 100))
        self.assertEqual(AgentApi.requests, [f"/v1/allocs/{alloc}/logs?stream=stderr&tail=5"])
        answer = self.server.get(f"/v1/allocs/{alloc}/logs?tail=1")
        self.assertEqual(len(answer.body), 20 << 20)
        self.assert_error(self.server.get(f"/v1/allocs/{alloc}/logs?stream=middle"), 400, "invalid", "stdout")
        self.assert_error(self.server.get(f"/v1/allocs/{alloc}/logs?since=noon"), 400, "invalid", "since")

    def test_a_slow_reader_of_logs_does_not_fill_the_server(self):
        alloc = self.run_one()
        before = resident_kb(self.server.process.pid)
        with socket.create_connection(("127.0.0.1", self.server.port)) as s:
            s.sendall(f"GET /v1/allocs/{alloc}/logs?tail=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            self.assertIn(b" 200 ", s.recv(1024))

            def stalled():
                was = AgentApi.sent
                time.sleep(0.3)
                return was and was == AgentApi.sent

            wait_for(stalled, what="a stop of the agent's sending")
            self.assertLess(AgentApi.sent, AgentApi.LONG)
            self.assertLess(resident_kb(self.server.process.pid) - before, 12000)

    def test_exec(self):
        alloc = self.run_one()
        self.assert_error(self.server.get(f"/v1/allocs/{alloc}/exec?command=%5B%22ls%22%5D"), 400, "invalid", "Upgrade")
        self.assert_error(self.server.get(f"/v1/allocs/{alloc}/exec"), 400, "invalid", "command")
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as s:
            s.sendall(f"GET /v1/allocs/{alloc}/exec?command=%5B%22cat%22%5D HTTP/1.1\r\nHost: localhost\r\n"
                      "Connection: Upgrade\r\nUpgrade: mentat-exec\r\n\r\nearly".encode())
            got = b""
            while b"EARLY" not in got:
                got += s.recv(4096)
            self.assertIn(b" 101 ", got)
            sent = os.urandom(8).hex() * 100000
            threading.Thread(target=s.sendall, args=(sent.encode(),), daemon=True).start()
            got = got[got.index(b"EARLY") + 5:]
            while len(got) < len(sent):
                got += s.recv(65536)
            self.assertEqual(got, sent.upper().encode())
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(s.recv(10), b"")

    def test_signal(self):
        alloc = self.run_one()
        answer = self.server.post(f"/v1/allocs/{alloc}/signal", {"signal": "SIGHUP"})
        self.assertEqual(answer.status, 204, answer)
        self.assertEqual(AgentApi.requests, [(f"/v1/allocs/{alloc}/signal", {"signal": "SIGHUP"})])

    def test_an_agent_that_does_not_answer_is_named(self):
        self.agent(address=f"127.0.0.1:{free_port()}")
        self.submit(job("web"))
        alloc = self.wait_running("web", 1)[0]["id"]
        self.assert_error(self.server.get(f"/v1/allocs/{alloc}/logs"), 503, "unavailable", "n1", "agent")


class Durability(ApiTest):
    def test_kill_9_during_writes_loses_nothing_that_was_acknowledged(self):
        acknowledged, lock, go_on = [], threading.Lock(), threading.Event()

        def writer(n):
            i = 0
            while not go_on.is_set():
                name = f"w{n}-{i}"
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if call(self.server.port, "POST", "/v1/jobs", job(name, exec_service(name, 0))).status < 300:
                        with lock:
                            acknowledged.append(name)
                        i += 1

        threads = [threading.Thread(target=writer, args=(n,), daemon=True) for n in range(8)]
        for t in threads:
            t.start()
        for _ in range(6):
            before = len(acknowledged)
            wait_for(lambda: len(acknowledged) > before + 40, what="acknowledged writes")
            self.server.kill()
            self.server.start()
        go_on.set()
        for t in threads:
            t.join(20)
        self.server.kill()
        self.server.start()
        kept = {j["name"] for j in self.server.items("/v1/jobs?limit=1000")}
        self.assertEqual([name for name in acknowledged if name not in kept], [])
        self.assertGreater(len(acknowledged), 240)

    def test_the_state_is_the_same_after_a_restart(self):
        self.submit(job("web", exec_service("web", 3)))
        detail = lambda: self.server.get("/v1/services/web").json  # noqa: E731
        wait_for(lambda: "not placed" in detail()["status"]["reason"], what="the leader's look at the service")
        before = detail()
        self.assertEqual(self.server.stop(), 0)
        self.server.start()
        self.assertEqual(self.server.get("/v1/services/web").json, before)


class FullDisk(ApiTest):
    def test_writes_are_refused_reads_answered_and_it_goes_on_with_room(self):
        agent = self.agent()
        self.submit(job("web"))
        self.wait_running("web", 1)
        self.server.stop()
        # More free disk than there is: as good as a full one.
        self.server.flags["reserve_mb"] = 1 << 20
        self.server.start()
        self.assert_error(self.server.post("/v1/services/web/scale", {"count": 3}), 507, "no_space", "disk")
        self.assertEqual(self.server.get("/v1/services/web").json["current"]["spec"]["count"], 1)
        self.assertEqual(self.server.metric("mentat_disk_full"), 1)
        self.assertEqual(agent.heartbeat().status, 200)
        self.server.stop()
        self.server.flags["reserve_mb"] = 1
        self.server.start()
        self.assertEqual(self.server.post("/v1/services/web/scale", {"count": 3}).status, 200)
        self.wait_running("web", 3)


class Starting(unittest.TestCase):
    def run_failing(self, *flags):
        done = subprocess.run([program("mentat-server"), *flags], capture_output=True, timeout=20, text=True)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_a_taken_port_is_told(self):
        server = Server().start()
        self.addCleanup(server.kill)
        text = self.run_failing(f"--port={server.port}", f"--data-dir={server.workdir.join('other')}")
        self.assertIn(f"port {server.port}", text)

    def test_a_data_dir_in_use_is_told(self):
        server = Server().start()
        self.addCleanup(server.kill)
        text = self.run_failing("--port=0", f"--data-dir={server.flags['data_dir']}")
        self.assertIn("another mentat-server", text)

    def test_a_data_dir_that_cannot_be_made_is_told(self):
        work = Workdir()
        with open(work.join("file"), "w"):
            pass
        text = self.run_failing("--port=0", f"--data-dir={work.join('file', 'state')}")
        self.assertIn("data_dir", text)

    def test_an_open_port_without_tls_is_refused(self):
        text = self.run_failing("--bind=0.0.0.0", "--tls=off", "--port=0", "--data-dir=/tmp/never-made")
        self.assertIn("allow_insecure", text)

    def test_unknown_flags_are_told(self):
        self.assertIn("prot", self.run_failing("--prot=1"))

    def test_help_and_version(self):
        for flag, word in (("--help", "--data-dir"), ("--version", "mentat-server "), ("--print-api-docs", "/v1/jobs")):
            done = subprocess.run([program("mentat-server"), flag], capture_output=True, timeout=20, text=True)
            self.assertEqual(done.returncode, 0)
            self.assertIn(word, done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
