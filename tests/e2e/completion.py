"""Shell completion in the real shells: a person types the beginning and presses TAB."""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import unittest

from lib import BIN, PATIENCE, FakeAgent, Server, Workdir, call, exec_service, job, program, wait_for

# What is typed, and what stands there after TAB. {dir} holds a file services.yaml; a service web runs on node n1;
# there is one warp in namespace team-a.
CASES = [
    ("mt rollb", "mt rollback"),
    ("mt node dr", "mt node drain"),
    ("mt node drain n", "mt node drain n1"),
    ("mt status we", "mt status web"),
    ("mt status --wat", "mt status --watch"),
    ("mt -o js", "mt -o json"),
    ("mt -o json rollb", "mt -o json rollback"),
    ("mt --address http://127.0.0.1:1 rollb", "mt --address http://127.0.0.1:1 rollback"),
    ("mt --address=http://127.0.0.1:1 rollb", "mt --address=http://127.0.0.1:1 rollback"),
    ("mt logs --tail 3 we", "mt logs --tail 3 web"),
    ("mt run {dir}/serv", "mt run {dir}/services.yaml"),
    ("mt --ca {dir}/serv", "mt --ca {dir}/services.yaml"),
    ("mt completion f", "mt completion fish"),
    ("mt -N team-a status wa", "mt -N team-a status warp"),
    ("mt status --namespace team-a wa", "mt status --namespace team-a warp"),
    ("mt --namespace=team-a status wa", "mt --namespace=team-a status warp"),
    ("mt status -N team-a -o json wa", "mt status -N team-a -o json warp"),
]


class Terminal:
    """A shell in a terminal, typed into."""

    def __init__(self, argv, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, env)
        self.text = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self, pattern):
        """The text up to the match is used up."""
        end = time.monotonic() + 20 * PATIENCE
        while True:
            plain = re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])|\r", "", self.text)
            found = re.search(pattern, plain, re.M)
            if found:
                self.text = plain[found.end():]
                return found
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in {plain!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 65536).decode(errors="replace")

    def complete(self, typed, number):
        """What the line is after TAB: it is not run but echoed, with its beginning put before it."""
        self.type(typed + "\t")
        self.type(f"\x01echo RAN{number}: \n")
        return self.wait(rf"^RAN{number}: (.*)\n").group(1).strip()

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


class Completion(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = Workdir()
        cls.server = Server().start()
        cls.agent = FakeAgent(cls.server).start()
        assert cls.server.post("/v1/jobs", job("web", exec_service("web"))).status == 200
        wait_for(lambda: cls.server.get("/v1/services/web").json["status"]["running"] == 1, what="the service")
        assert call(cls.server.port, "PUT", "/v1/namespaces/team-a", {"name": "team-a"}).status == 200
        assert cls.server.post("/v1/jobs?namespace=team-a", job("warp", exec_service("warp", 0))).status == 200
        cls.dir = cls.work.join("files")
        os.mkdir(cls.dir)
        open(os.path.join(cls.dir, "services.yaml"), "w").close()
        cls.env = {"PATH": BIN + ":" + os.environ["PATH"], "HOME": cls.work.path, "TERM": "vt100", "LC_ALL": "C.UTF-8",
                   "MENTAT_ADDR": f"http://127.0.0.1:{cls.server.port}", "PS1": "$ "}

    @classmethod
    def tearDownClass(cls):
        cls.agent.stop()
        cls.server.stop()

    def script(self, shell, name):
        path = self.work.join(name)
        with open(path, "w") as f:
            subprocess.run([program("mt"), "completion", shell], stdout=f, check=True)
        return path

    def check_terminal(self, argv, setup):
        if not shutil.which(argv[0]):
            self.skipTest(f"{argv[0]} is not installed")
        terminal = Terminal(argv, self.env)
        self.addCleanup(terminal.close)
        # The mark is built by the shell, so that the echo of what is typed is not taken for it.
        terminal.type(setup + "; echo REA''DY\n")
        terminal.wait(r"^READY\n")
        for n, (typed, wanted) in enumerate(CASES):
            self.assertEqual(terminal.complete(typed.format(dir=self.dir), n), wanted.format(dir=self.dir))

    def test_bash(self):
        self.check_terminal(["bash", "--norc", "--noprofile", "-i"],
                            f"bind 'set enable-bracketed-paste off'; source {self.script('bash', 'mt.bash')}")

    def test_zsh_sourced(self):
        self.check_terminal(["zsh", "-f", "-i"], "unsetopt zle_bracketed_paste prompt_sp 2>/dev/null; unset zle_bracketed_paste; "
                            f"autoload -U compinit; compinit -u -D; source {self.script('zsh', 'mt.zsh')}")

    def test_zsh_from_its_function_path(self):
        os.makedirs(self.work.join("functions"), exist_ok=True)
        self.script("zsh", "functions/_mt")
        self.check_terminal(["zsh", "-f", "-i"], "unset zle_bracketed_paste; unsetopt prompt_sp; "
                            f"fpath=({self.work.join('functions')} $fpath); autoload -U compinit; compinit -u -D")

    def test_fish(self):
        if not shutil.which("fish"):
            self.skipTest("fish is not installed")
        script = self.script("fish", "mt.fish")
        for typed, wanted in CASES:
            line = typed.format(dir=self.dir)
            done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"], env=self.env,
                                  capture_output=True, text=True, timeout=30 * PATIENCE)
            self.assertEqual(done.stderr, "")
            offered = [c.split("\t")[0] for c in done.stdout.splitlines()]
            self.assertEqual(offered, [wanted.format(dir=self.dir).split(" ")[-1]], typed)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
