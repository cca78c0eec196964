#!/usr/bin/env python3
"""Terraform's configuration says what the reference setup says, and what it puts on hosts makes a cluster of them: three hosts
with systemd on a network of their own are made one by the module existing-hosts, over SSH, lose one, and get it back."""
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bootstrap_lib  # noqa: E402
from hcl_lib import read_module  # noqa: E402
from lib import BIN, PATIENCE, ROOT, Workdir, text_of, wait_for  # noqa: E402
from machine_lib import Machine, Network, assemble_release, change_release, make_ssh_key, missing  # noqa: E402

TERRAFORM = os.path.join(ROOT, "Terraform")
tool = shutil.which("tofu") or shutil.which("terraform")


class Reference(unittest.TestCase):
    """Each line of the reference setup, from the configuration itself."""

    @classmethod
    def setUpClass(cls):
        cls.root = read_module(TERRAFORM)
        cls.google = read_module(os.path.join(TERRAFORM, "modules", "google"))

    def default(self, name):
        return self.root.one("variable", name)["default"].strip('"')

    def resource(self, kind, name):
        return self.google.one("resource", kind, name)

    def passed(self, name):
        """What the root gives to the google module under that name."""
        return self.root.one("module", "google")[name]

    def test_hosts(self):
        self.assertEqual(self.default("host_count"), "3")
        self.assertEqual(self.default("machine_type"), "n2-standard-8")      # 8 vCPU, 32 GB
        self.assertRegex(self.default("image"), r"ubuntu-2404-lts")
        self.assertEqual(len(self.root.one("variable", "zones").texts("default")), 3)
        host = self.resource("google_compute_instance", "host")
        self.assertEqual(host.one("advanced_machine_features")["enable_nested_virtualization"], "true")
        self.assertEqual(host["machine_type"], "var.machine_type")
        self.assertEqual(host["for_each"], "var.hosts")
        self.assertIn("% length", next(b["zone"] for b in self.google.all("locals") if "zone" in b.attributes))
        for name in ("machine_type", "image", "boot_disk_gb", "data_disk_gb", "zones", "subnet_cidr"):
            self.assertEqual(self.passed(name), f"var.{name}")

    def test_the_subnet_is_the_hosts_own(self):
        subnet = self.resource("google_compute_subnetwork", "hosts")
        self.assertEqual((subnet["ip_cidr_range"], subnet["network"]), ("var.subnet_cidr", "google_compute_network.mentat.id"))
        interface = self.resource("google_compute_instance", "host").one("network_interface")
        self.assertEqual(interface["subnetwork"], "google_compute_subnetwork.hosts.id")
        self.assertIn("google_compute_address.internal", interface["network_ip"])
        self.assertEqual(self.resource("google_compute_address", "internal")["address"], "each.value")

    def test_disks(self):
        self.assertEqual((self.default("boot_disk_gb"), self.default("data_disk_gb")), ("150", "512"))
        boot = self.resource("google_compute_instance", "host").one("boot_disk").one("initialize_params")
        self.assertEqual((boot["size"], boot["type"]), ("var.boot_disk_gb", '"pd-ssd"'))
        self.assertEqual([d.labels[1] for d in self.google.all("resource", "google_compute_disk")], ["data"])
        data = self.resource("google_compute_disk", "data")
        self.assertEqual((data["size"], data["type"], data["for_each"]), ("var.data_disk_gb", '"pd-ssd"', "var.hosts"))
        self.assertEqual(data.one("lifecycle")["prevent_destroy"], "true")
        attached = self.resource("google_compute_instance", "host").one("attached_disk")
        self.assertIn("google_compute_disk.data", attached["source"])
        device = attached["device_name"].strip('"')
        self.assertEqual(self.root.one("module", "bootstrap")["data_disk"], f'"/dev/disk/by-id/google-{device}"')

    def test_snapshots(self):
        policies = self.google.all("resource", "google_compute_resource_policy")
        self.assertEqual([p.labels[1] for p in policies], ["daily"])
        policy = policies[0].one("snapshot_schedule_policy")
        self.assertEqual(policy.one("schedule").one("daily_schedule").attributes, {"days_in_cycle": "1", "start_time": '"03:00"'})
        self.assertEqual(policy.one("retention_policy")["on_source_disk_delete"], '"KEEP_AUTO_SNAPSHOTS"')
        self.assertEqual(policy.one("retention_policy")["max_retention_days"], "var.snapshot_days")
        self.assertEqual((self.default("snapshot_days"), self.passed("snapshot_days")), ("7", "var.snapshot_days"))
        attachment = self.resource("google_compute_disk_resource_policy_attachment", "data")
        self.assertEqual(attachment["for_each"], "var.hosts")
        self.assertEqual(attachment["name"], "google_compute_resource_policy.daily.name")
        self.assertIn("google_compute_disk.data", attachment["disk"])

    def test_network_and_firewall(self):
        self.assertEqual(self.resource("google_compute_network", "mentat")["auto_create_subnetworks"], "false")
        rules = {rule.labels[1]: rule for rule in self.google.all("resource", "google_compute_firewall")}
        self.assertEqual(set(rules), {"ssh", "ingress", "api", "internal"}, "a rule that the reference setup does not know")

        def opened(name):
            return {(a["protocol"].strip('"'), port) for a in rules[name].all("allow")
                    for port in (a.texts("ports") if "ports" in a.attributes else [""])}
        self.assertEqual(opened("ssh"), {("tcp", "22")})
        self.assertEqual(opened("ingress"), {("tcp", "80"), ("tcp", "443")})
        self.assertEqual(opened("api"), {("tcp", "4646")})
        self.assertEqual(rules["ssh"]["source_ranges"], "var.ssh_source_ranges")
        self.assertEqual(rules["ingress"].texts("source_ranges"), ["0.0.0.0/0"])
        self.assertEqual(rules["api"]["source_ranges"], "var.api_source_ranges")
        # Nobody, unless it is said: 4646 is external or VPN by a variable.
        self.assertEqual(self.default("api_source_ranges"), "[ ]")
        self.assertEqual(opened("internal"), {("tcp", "4646"), ("tcp", "4647"), ("tcp", "4648"), ("tcp", "20000-32000"),
                                              ("udp", "4789"), ("udp", "20000-32000"), ("icmp", "")})
        self.assertEqual(rules["internal"]["source_tags"], "[ local.tag ]")
        self.assertEqual([name for name in rules if "source_ranges" not in rules[name].attributes], ["internal"])
        self.assertEqual([name for name in rules if "source_tags" in rules[name].attributes], ["internal"])
        self.assertEqual(self.resource("google_compute_instance", "host")["tags"], "[ local.tag ]")
        for rule in rules.values():
            self.assertEqual((rule["direction"], rule["target_tags"], rule["network"]),
                             ('"INGRESS"', "[ local.tag ]", "google_compute_network.mentat.id"))
            self.assertEqual(rule.all("deny"), [])

    def test_the_account_of_hosts_may_read_and_nothing_else(self):
        roles = [r["role"].strip('"') for r in self.google.blocks if r.kind == "resource" and "role" in r.attributes]
        self.assertEqual(sorted(roles), ["each.value", "roles/storage.objectViewer"])
        secret = self.resource("google_secret_manager_secret_iam_member", "join")
        self.assertEqual(re.findall('"([^"]*)"', secret["for_each"]),
                         ["roles/secretmanager.secretAccessor", "roles/secretmanager.secretVersionAdder"])
        self.assertIn("google_secret_manager_secret.join", secret["secret_id"])
        self.assertEqual(self.resource("google_storage_bucket", "release")["public_access_prevention"], '"enforced"')

    def test_ingress_is_checked(self):
        self.assertEqual(self.resource("google_compute_forwarding_rule", "ingress").texts("ports"), ["80", "443"])
        check = self.resource("google_compute_region_backend_service", "ingress")["health_checks"]
        self.assertIn("google_compute_region_health_check.ingress", check)
        self.assertEqual(self.resource("google_compute_region_health_check", "ingress").one("tcp_health_check")["port"], "80")

    def test_the_provider_takes_every_argument(self):
        known = {}
        for line in text_of(os.path.join(ROOT, "tests", "data", "google-provider.txt")).splitlines():
            if not line.startswith("#"):
                block, arguments = line.split(": ")
                known[block] = arguments.split()
        for resource in self.google.all("resource"):
            self.check_arguments(known, resource.labels[0], resource)

    def check_arguments(self, known, name, block):
        inner = [(b.labels[0], b.one("content")) if b.kind == "dynamic" else (b.kind, b) for b in block.blocks if b.kind != "lifecycle"]
        given = {*block.attributes, *(kind for kind, _ in inner)} - {"for_each", "count", "depends_on"}
        takes = {a.rstrip("!") for a in known[name]}
        self.assertEqual(given - takes, set(), f"{name}: the provider does not know these")
        self.assertEqual({a[:-1] for a in known[name] if a.endswith("!")} - given, set(), f"{name}: the provider needs these")
        for kind, b in inner:
            self.check_arguments(known, f"{name.split('.')[0]}.{kind}", b)

    def test_variables_are_described_and_all_are_used(self):
        for directory in (TERRAFORM, *(os.path.join(TERRAFORM, "modules", m) for m in ("host-bootstrap", "existing-hosts", "google"))):
            module = read_module(directory)
            text = "".join(text_of(os.path.join(directory, f)) for f in os.listdir(directory) if f.endswith(".tf"))
            for variable in module.all("variable"):
                name = variable.labels[0]
                self.assertGreater(len(variable["description"]), 10, name)
                own = sum(str(b.attributes).count(f"var.{name}") for b in variable.blocks)
                uses = len(re.findall(rf"\bvar\.{name}\b", text))
                self.assertGreater(uses, own, f"{directory}: {name} is not used")

    def test_the_release_is_the_one_that_is_made(self):
        version = re.search(r"version: '([^']+)'", text_of(os.path.join(ROOT, "meson.build"))).group(1)
        self.assertEqual(self.default("release_file"), f"../dist/mentat-{version}.tar.gz")


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def terraform(directory, *arguments, namespace=None, status=0):
    """One of its commands; what it says. Asks nobody outside of this machine."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CLI_CONFIG_FILE"} | {"CHECKPOINT_DISABLE": "1"}
    enter = ["ip", "netns", "exec", namespace] if namespace else []
    done = subprocess.run([*enter, tool, f"-chdir={directory}", *arguments, "-no-color"], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


class Documents(unittest.TestCase):
    def setUp(self):
        self.hosts = {"h1": "10.0.0.1", "h2": "10.0.0.2", "h3": "10.0.0.3"}
        self.scripts = bootstrap_lib.scripts(self.hosts, 'cp /srv/release "$1"', "0" * 64, bootstrap_lib.packages(),
                                             fetch_join_secret='cp /srv/join-secret "$1"')

    def test_scripts_are_shell_and_documents_carry_them(self):
        for name, document in bootstrap_lib.cloud_init(self.scripts).items():
            self.assertEqual(subprocess.run(["sh", "-n"], input=self.scripts[name], text=True).returncode, 0)
            self.assertTrue(document.startswith("#cloud-config\n"))
            carried = base64.b64decode(re.search(r"content: (\S+)\n", document).group(1)).decode()
            self.assertEqual(carried, self.scripts[name])
            self.assertIn(f"hostname: {name}\n", document)
            if shutil.which("cloud-init"):
                with open(os.path.join(self.work(), name), "w") as f:
                    f.write(document)
                done = subprocess.run(["cloud-init", "schema", "-c", f.name], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def work(self):
        work = Workdir()
        self.addCleanup(work.remove)
        return work.path

    @unittest.skipUnless(tool, "neither tofu nor terraform is installed")
    def test_terraform_renders_the_same(self):
        work = self.work()
        with open(os.path.join(work, "main.tf"), "w") as f:
            f.write(f'module "bootstrap" {{\n  source = "{bootstrap_lib.MODULE}"\n  cluster = "lab"\n'
                    f'  hosts = {json.dumps(self.hosts)}\n  fetch_release = "cp /srv/release \\"$1\\""\n'
                    f'  release_sha256 = "{"0" * 64}"\n  fetch_join_secret = "cp /srv/join-secret \\"$1\\""\n}}\noutput "cloud_init" {{ value = module.bootstrap.cloud_init }}\n')
        for arguments in (["init", "-input=false"], ["validate"], ["apply", "-auto-approve", "-input=false"]):
            terraform(work, *arguments)
        self.assertEqual(json.loads(terraform(work, "output", "-json", "cloud_init")), bootstrap_lib.cloud_init(self.scripts))
        terraform(TERRAFORM, "fmt", "-check", "-recursive")


# In the place of modules/google: the same variables, and outputs without a cloud. What it is given is an output too.
STUB = """
output "external_addresses" { value = { for name in keys(var.hosts) : name => "203.0.113.1" } }
output "ingress_address" { value = "203.0.113.9" }
output "zones" { value = { for index, name in sort(keys(var.hosts)) : name => var.zones[index % length(var.zones)] } }
output "given" { value = { hosts = var.hosts, cloud_init = var.cloud_init, secret = var.join_secret } }
"""


@unittest.skipUnless(tool, "neither tofu nor terraform is installed")
class Plans(unittest.TestCase):
    """The reference setup as Terraform takes it, up to the module that speaks to the cloud, whose provider is not needed here."""

    @classmethod
    def setUpClass(cls):
        cls.work = Workdir()
        cls.addClassCleanup(cls.work.remove)
        cls.root = cls.work.join("Terraform")
        shutil.copytree(TERRAFORM, cls.root, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        os.unlink(f"{cls.root}/versions.tf")
        google = f"{cls.root}/modules/google"
        for name in os.listdir(google):
            if name != "variables.tf":
                os.unlink(f"{google}/{name}")
        for path, text in ((f"{google}/outputs.tf", STUB), (f"{cls.root}/given.tf", 'output "given" { value = module.google.given }'),
                           (f"{cls.root}/release", "a release")):
            with open(path, "w") as f:
                f.write(text)
        terraform(cls.root, "init", "-input=false")
        terraform(cls.root, "validate")

    def words(self, settings):
        return [f"-var={name}={value if isinstance(value, str) else json.dumps(value)}"
                for name, value in ({"release_file": f"{self.root}/release"} | settings).items()]

    def applied(self, **settings):
        terraform(self.root, "apply", "-auto-approve", "-input=false", *self.words(settings))
        return {name: output["value"] for name, output in json.loads(terraform(self.root, "output", "-json")).items()}

    def refused(self, words, **settings):
        said = terraform(self.root, "plan", "-input=false", *self.words(settings), status=1)
        said = " ".join(said.replace("│", " ").split())
        for word in words:
            self.assertIn(word, said)

    def test_three_hosts_and_what_to_type_next(self):
        out = self.applied(project_id="a-project-1")
        self.assertEqual(out["given"]["hosts"], {f"mentat-{i}": f"10.20.0.{9 + i}" for i in (1, 2, 3)})
        self.assertEqual(out["given"]["secret"], "mentat-join")
        for i, document in enumerate(out["given"]["cloud_init"].values(), 1):
            script = base64.b64decode(re.search(r"content: (\S+)\n", document).group(1)).decode()
            self.assertIn(f"server_id: {i}\n", script)
            self.assertIn("--data-disk '/dev/disk/by-id/google-mentat-data'", script)
            self.assertEqual(subprocess.run(["sh", "-n"], input=script, text=True).returncode, 0)
            self.assertNotIn("allow_insecure", script)
            self.assertIn('tls_names: ["203.0.113.1"]\n', script)
        self.assertIn("admin-token", out["next"])
        self.assertNotRegex(out["next"], "(?m)^ ", "what is not to be typed as it stands")
        self.assertNotIn("api_source_ranges", out["next"])
        out = self.applied(project_id="a-project-1", api_source_ranges=["198.51.100.0/24"])
        self.assertIn("mt login --address " + ",".join(["https://203.0.113.1:4646"] * 3) + " --ca-hash HASH\n", out["next"])
        self.check_secret(out["given"]["cloud_init"])

    # In the place of curl: the metadata server, and Secret Manager with one secret, whose first version the test keeps in a file.
    CURL = """#!/bin/sh
    out= body=
    while [ $# -gt 0 ]; do
        case $1 in -o) out=$2; shift ;; --data-binary) body=$(cat); shift ;; -w | -H | --retry) shift ;; http*) url=$1 ;; esac
        shift
    done
    case $url in
    http://metadata.google.internal/*) echo '{"access_token":"t1","expires_in":3599}' ;;
    */a-project-1/secrets/mentat-join:addVersion) echo "$body" | sed 's/.*"data": "\\(.*\\)"}}/\\1/' >>"$VERSIONS" ;;
    */a-project-1/secrets/mentat-join/versions/latest:access)
        if [ -s "$VERSIONS" ]; then echo '{"payload": {'; echo "\\"data\\": \\"$(tail -n 1 "$VERSIONS")\\""; echo '}}'; fi >"$out"
        if [ -s "$VERSIONS" ]; then printf 200; else printf 404; fi ;;
    esac
    """.replace("\n    ", "\n")

    def check_secret(self, documents):
        """The first host makes the secret, once; the others wait for it, and get the same."""
        os.makedirs(f"{self.root}/bin")
        with open(f"{self.root}/bin/curl", "w", opener=lambda p, flags: os.open(p, flags, 0o755)) as f:
            f.write(self.CURL)
        environment = os.environ | {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "VERSIONS": f"{self.root}/versions"}

        def fetch(name):
            script = base64.b64decode(re.search(r"content: (\S+)\n", documents[name]).group(1)).decode()
            function = re.search(r"^fetch_join_secret\(\) \{\n.*?^\}\n", script, re.S | re.M).group(0)
            subprocess.run(["sh", "-c", f"{function}rm -f got; fetch_join_secret got"], cwd=self.root, env=environment, check=False)
            path = f"{self.root}/got"
            return text_of(path) if os.path.exists(path) else ""
        self.assertEqual((fetch("mentat-2"), fetch("mentat-1")), ("", ""))
        secret = fetch("mentat-2")
        self.assertRegex(secret, "^[0-9a-f]{64}$")
        self.assertEqual((fetch("mentat-1"), fetch("mentat-3")), (secret, secret))
        self.assertEqual(len(text_of(f"{self.root}/versions").splitlines()), 1)

    def test_bad_values(self):
        self.refused(["A project id is 6 to 30", "The cluster's name is", "1, 3 or 5 hosts", "At least one zone",
                      "needs nested virtualisation", "at least 20: less has no room", "GB, at least 10", "a private range such as",
                      "Each is an IPv4 range such as", "days, at least 1", "There is no such file", "An https address"],
                     project_id="My Project", cluster="x", host_count=2, zones=[], machine_type="e2-standard-8", boot_disk_gb=5,
                     data_disk_gb=5, subnet_cidr="8.8.8.0/24", ssh_source_ranges=["everybody"], snapshot_days=0,
                     release_file="/no/such/file", firecracker_url="ftp://there")
        self.refused(["The boot disk has a whole number", "The data disk has a whole number", "a whole number of days",
                      "The subnet begins with its first address", "reserved_cidrs: each is", "An https address",
                      "Google's images of Debian have no cloud-init"],
                     project_id="a-project-1", boot_disk_gb=150.5, data_disk_gb=512.5, snapshot_days=1.5, subnet_cidr="10.20.0.5/24",
                     reserved_cidrs=["172.17.0.0/16", "everything"], guest_kernel_url="http://there/vmlinux", image="debian-cloud/debian-12")
        for image in ("debian-12", "projects/debian-cloud/global/images/family/debian-12", "ubuntu-os-cloud/ubuntu-2404-lts-arm64"):
            self.refused(["Google's images of Debian"], project_id="a-project-1", image=image)
        self.applied(project_id="a-project-1", image="a-project-1/debian-12-with-cloud-init")

    def test_ranges_of_ipv6_which_the_subnet_does_not_have(self):
        for name in ("ssh_source_ranges", "api_source_ranges"):
            self.refused(["Each is an IPv4 range such as", f'variable "{name}"'], project_id="a-project-1",
                         **{name: ["203.0.113.0/24", "2001:db8::/32"]})

    def test_values_that_do_not_go_together(self):
        self.refused(["overlaps 10.64.0.0/12", "firecracker_url and firecracker_sha256 belong together",
                      "guest_kernel_url and guest_kernel_sha256 belong together",
                      "region europe-west2, which europe-west1-b, europe-west1-c, europe-west1-d are not all"],
                     project_id="a-project-1", subnet_cidr="10.70.1.0/24", firecracker_url="https://there/fc.tgz",
                     guest_kernel_url="https://there/vmlinux", region="europe-west2")

    def test_hosts_that_exist(self):
        """What is fetched is not left out because its sum was."""
        directory = self.work.join("existing")
        os.mkdir(directory)
        with open(f"{self.root}/secret", "w") as f:
            f.write("0123456789abcdef0123456789abcdef\n")
        with open(f"{directory}/main.tf.json", "w") as f:
            json.dump({"module": {"cluster": {
                "source": f"{TERRAFORM}//modules/existing-hosts", "hosts": {"h1": {"address": "10.0.0.1", "private_address": "10.0.0.1"}},
                "release_file": f"{self.root}/release", "join_secret_file": f"{self.root}/secret",
                "ssh_private_key_file": f"{self.root}/release", "fetch_firecracker": "cp /fc.tgz $1", "fetch_guest_kernel": "cp /vmlinux $1"}}}, f)
        terraform(directory, "init", "-input=false")
        said = terraform(directory, "plan", "-input=false", status=1)
        for word in ("fetch_firecracker needs firecracker_sha256", "fetch_guest_kernel needs guest_kernel_sha256"):
            self.assertIn(word, said)
        with open(f"{self.root}/secret", "w") as f:
            f.write("short\n")
        self.assertIn("The secret has at least 32 characters", terraform(directory, "plan", "-input=false", status=1))


@unittest.skipIf(missing(), missing())
class Three(unittest.TestCase):
    """Three hosts with systemd, one network."""

    def setUp(self):
        self.work = Workdir()
        self.addCleanup(self.work.remove)
        assemble_release(self.work.join("release"))
        name, = (n for n in os.listdir(self.work.join("release")) if n.endswith(".tar.gz"))
        self.release = os.path.join(self.work.join("release"), name)
        self.key = make_ssh_key(self.work.join("key"))
        self.secret = self.work.join("release", "join-secret")
        with open(self.secret, "w") as f:
            f.write("0123456789abcdef0123456789abcdef")
        self.network = Network(("h1", "h2", "h3"))
        self.addCleanup(self.network.remove)
        self.machines = {}
        self.addCleanup(lambda: [m.stop() for m in self.machines.values()])
        if tool:
            self.write_configuration()

    def write_configuration(self):
        hosts = {name: {"address": a, "private_address": a, "port": 2222} for name, a in self.network.addresses.items()}
        os.mkdir(self.work.join("terraform"))
        with open(self.work.join("terraform", "main.tf.json"), "w") as f:
            json.dump({"module": {"cluster": {
                "source": f"{TERRAFORM}//modules/existing-hosts", "cluster": "lab", "hosts": hosts,
                "release_file": self.release, "join_secret_file": self.secret, "ssh_private_key_file": self.key,
                "packages": []}}, "output": {"next": {"value": "${module.cluster.next}"}}}, f)
        terraform(self.work.join("terraform"), "init", "-input=false")

    def boot(self, name):
        state = self.work.join(name + "-var")
        os.makedirs(state, exist_ok=True)
        machine = Machine({"/release": self.work.join("release")}, namespace=self.network.path(name),
                          writable={"/var/lib/mentat": state})
        machine.run("hostname", name)
        machine.accept_ssh(self.key, f"{self.network.addresses[name]}:2222")
        self.machines[name] = machine

    def bring_up(self, *names):
        """Makes the hosts of the cluster, those that run it already too."""
        if tool:
            again = [f'-replace=module.cluster.terraform_data.host["{name}"]' for name in names]
            return terraform(self.work.join("terraform"), "apply", "-auto-approve", "-input=false", *again,
                             namespace=f"{self.network.prefix}-switch")
        scripts = self.scripts(fetch_join_secret='cp /release/join-secret "$1"')
        running = [subprocess.Popen(self.machines[name].command("sh"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True) for name in names]
        said = [child.communicate(scripts[name]) for name, child in zip(names, running)]
        self.assertEqual([child.returncode for child in running], [0] * len(names), said)
        return "".join(out for out, _ in said)

    def scripts(self, **settings):
        return bootstrap_lib.scripts(self.network.addresses, f'cp /release/{os.path.basename(self.release)} "$1"',
                                     digest(self.release), (), **settings)

    def refuse_other_versions(self, name):
        """What is too old, or another than was asked for, is told before anything is installed."""
        machine, archive = self.machines[name], self.work.join("release", "firecracker.tgz")
        machine.run("sh", "-c", "mv /usr/bin/docker /usr/bin/docker.kept; printf '#!/bin/sh\necho Docker version 19.03.8, build 1\n' "
                    ">/usr/bin/docker; chmod 0755 /usr/bin/docker")
        done = machine.run("sh", check=False, stdin=self.scripts()[name])
        self.assertIn("failed: Docker 19.03.8 is installed; Mentat needs 20.10 or later", done.stdout)
        machine.run("mv", "/usr/bin/docker.kept", "/usr/bin/docker")
        script = self.scripts(fetch_firecracker='cp /release/firecracker.tgz "$1"', firecracker_sha256=digest(archive))[name]
        done = machine.run("sh", check=False, stdin=script)
        self.assertIn("failed: firecracker of that archive is 1.6.0, not 1.7.0", done.stdout)
        for path in ("/opt/mentat", "/usr/local/bin/firecracker"):
            self.assertFalse(os.path.exists(machine.path(path)), path)

    def make_other_firecracker(self):
        """Before the hosts start, which see what is beside the release."""
        os.mkdir(self.work.join("fc"))
        for program in ("firecracker", "jailer"):
            with open(self.work.join("fc", f"{program}-v1.6.0-x86_64"), "w") as f:
                f.write("#!/bin/sh\necho 'Firecracker v1.6.0'\n")
        subprocess.run(["tar", "-C", self.work.join("fc"), "-czf", self.work.join("release", "firecracker.tgz"), "."], check=True)

    def give_up_without_network(self, name):
        """The script says what it waits for, and leaves a half that the next try makes whole."""
        script = bootstrap_lib.scripts(self.network.addresses, 'cp /not/there "$1"', "0" * 64, ())[name]
        with open(self.work.join("half"), "w") as f:
            f.write(script)
        with open(self.work.join("half")) as f:
            child = subprocess.Popen(self.machines[name].command("sh", "-c", "echo $$; exec sh"), stdin=f,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        pid, waits = child.stdout.readline().strip(), False
        while not waits and (line := child.stdout.readline()):
            waits = "the release: not yet, trying again" in line
        self.machines[name].run("kill", "-9", pid)
        child.communicate()
        self.assertTrue(waits, "it did not wait for the release")
        self.assertFalse(os.path.exists(self.machines[name].path("/opt/mentat")))

    def check_what_to_type(self):
        """The lines of `next` are for these hosts; the one that shows the token does, with the hash, where a server led first. The
        way through SSH leads to a login."""
        said = json.loads(terraform(self.work.join("terraform"), "output", "-json", "next"))
        remote = "sudo sh -c \"cd /var/lib/mentat/state && cat admin-token && MENTAT_TOKEN=\\$(cat admin-token) mt ca status\""
        for address in self.network.addresses.values():
            self.assertIn(f"ssh -i {self.key} -p 2222 root@{address} '{remote}'\n", said)
        shown = [self.machines[name].run("sh", "-c", remote.removeprefix("sudo "), check=False).stdout for name in self.network.addresses]
        found = [m for s in shown if (m := re.match(r"([0-9a-f]+\.[0-9a-f]+)\n(?:.|\n)*hash \(mt login --ca-hash\): ([0-9a-f]{64})", s))]
        self.assertEqual(len(found), 1)
        token, hash_ = found[0].groups()
        way, login, nodes = (line.replace("HASH", hash_).split() for line in said.rstrip("\n").split("\n")[-3:])
        self.network.ip("switch", "link", "set", "lo", "up")
        self.outside("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                     f"ControlPath={self.work.join('way')}", "-M", *way[1:])
        try:
            self.outside(f"{BIN}/{login[0]}", *login[1:], stdin=token)
            self.assertEqual(self.outside(f"{BIN}/{nodes[0]}", *nodes[1:]).count("ready"), 3)
        finally:
            self.outside("ssh", "-o", f"ControlPath={self.work.join('way')}", "-O", "exit", "root@way")

    def outside(self, *command, stdin=""):
        """On the network of the hosts, and on none of them."""
        with open(self.work.join("said"), "w+") as out:     # what stays in the background holds no pipe of ours
            done = subprocess.run(["ip", "netns", "exec", f"{self.network.prefix}-switch", *command], input=stdin, text=True, stdout=out,
                                  stderr=subprocess.STDOUT, env=os.environ | {"HOME": self.work.path}, timeout=60 * PATIENCE)
            out.seek(0)
            said = out.read()
        self.assertEqual(done.returncode, 0, said)
        return said

    def mt(self, name, *args, check=True, stdin=""):
        """As whoever has the administrator's token, which is on one of the hosts."""
        token, = (text_of(path).strip() for host in self.network.addresses
                  if os.path.exists(path := self.work.join(host + "-var", "state", "admin-token")))
        return self.machines[name].run("mt", "--token", token, *args, check=check, stdin=stdin)

    def publish(self):
        """A release goes to the three, the next one when the one before is whole; tasks go on."""
        newer, names = self.work.join("newer"), list(self.network.addresses)
        change_release(os.path.dirname(self.release), newer, skip=("join-secret", "firecracker.tgz"), mt=b"+\0", mentat_server=b"+\0",
                       mentat_agent=b"+\0")
        before = [self.processes(name) for name in names]
        options = [f"--ssh-option={o}" for o in ("Port=2222", f"IdentityFile={self.key}", "StrictHostKeyChecking=no",
                                                 "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")]
        done = subprocess.run(["ip", "netns", "exec", f"{self.network.prefix}-switch", os.path.join(ROOT, "scripts", "publish.sh"),
                               "--from", newer, *(word for option in options for word in option.split("=", 1)),
                               *(f"root@{address}" for address in self.network.addresses.values())],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300 * PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        said = re.findall("^== root@(\\S+)$|^(the server is ready, and lacks nothing)$", done.stdout, re.M)
        self.assertEqual([host or "whole" for host, _ in said], [w for a in self.network.addresses.values() for w in (a, "whole")])
        for name, (task, *daemons) in zip(names, before):
            now = self.processes(name)
            self.assertEqual(now[0], task, f"the task on {name}")
            self.assertFalse(set(daemons) & set(now[1:]), f"{name} runs the older release")

    def processes(self, name):
        """The host's task, its server, its agent."""
        run = self.machines[name].run
        return [run("sh", "-c", "grep -slx sleep /proc/[0-9]*/comm || [ $? -eq 2 ]").stdout.split(),
                *(run("systemctl", "show", "-P", "MainPID", unit).stdout for unit in ("mentat-server", "mentat-agent"))]

    def healthy(self, name, service, count):
        """The nodes of its replicas, once so many run."""
        allocs = json.loads(self.mt(name, "allocs", service, "-o", "json").stdout)
        nodes = [a["node_name"] for a in allocs if a["state"] in ("running", "healthy")]
        return nodes if len(nodes) == count else None

    def test_a_cluster_comes_up_bears_a_loss_and_heals(self):
        self.make_other_firecracker()
        for name in self.network.addresses:
            self.boot(name)
        self.give_up_without_network("h1")
        self.refuse_other_versions("h1")
        self.assertEqual(self.bring_up("h1", "h2", "h3").count("cluster ready"), 3)
        if tool:
            self.check_what_to_type()
        self.assertEqual(len(json.loads(self.mt("h2", "nodes", "-o", "json").stdout)), 3)
        self.mt("h1", "policy", "set", "-", stdin="profiles: [{name: exec-internal, services: [web]}]\n")
        self.mt("h1", "run", "-", stdin="name: web\ndriver: exec\ncount: 3\nspread: node\n"
                "config: {command: /bin/sleep, args: ['86400']}\nresources: {cpus: 0.1, memory_mb: 16}\n")
        wait_for(lambda: self.healthy("h2", "web", 3), 60, "three replicas")

        for address in self.network.addresses.values():
            wait_for(lambda: "404 Not here" in self.outside("curl", "-s", f"http://{address}/"), 30, f"the ingress of {address}")

        # Once more, on a host that runs: it stays one of the three, and the token that somebody put there stays too.
        token = self.machines["h3"].path("/etc/mentat/join-token")
        with open(token, "w") as f:
            f.write("a secret of the operator, 32 and more\n")
        self.assertIn("cluster ready", self.bring_up("h3"))
        self.assertEqual(text_of(token), "a secret of the operator, 32 and more\n")
        left = [n for n in os.listdir(self.machines["h3"].path("/var/lib/mentat-bootstrap")) if n.startswith("join-")]
        self.assertEqual(left, [])
        if tool:
            terraform(self.work.join("terraform"), "plan", "-detailed-exitcode", "-input=false")     # nothing is left to do

        self.publish()

        # The power of one host goes; the two others take its replica, and changes.
        leader = next(s["server"]["name"] for s in json.loads(self.mt("h1", "cluster", "status", "-o", "json").stdout)
                      if (s.get("status") or {}).get("role") == "leader")
        self.machines.pop(leader).cut_power()
        left = next(iter(self.machines))
        wait_for(lambda: self.mt(left, "scale", "web", "4", check=False).returncode == 0, 60, "a change without the dead host")
        wait_for(lambda: len(set(self.healthy(left, "web", 4) or ())) == 2, 90, "all replicas on the two others")

        # It comes back with its disk, and the three are whole.
        self.boot(leader)
        self.assertIn("cluster ready", self.bring_up(leader))
        wait_for(lambda: all(n["state"] == "ready" for n in json.loads(self.mt(leader, "nodes", "-o", "json").stdout)), 60,
                 "three ready nodes")


if __name__ == "__main__":
    unittest.main(verbosity=2)
