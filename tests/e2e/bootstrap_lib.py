"""The script and the cloud-init document of Terraform's module host-bootstrap, rendered without Terraform: its templates hold
names of values alone. tests/e2e/terraform.py compares the two ways where a Terraform is at hand."""
import base64
import json
import os
import re

from hcl_lib import read_module
from lib import ROOT

MODULE = os.path.join(ROOT, "Terraform", "modules", "host-bootstrap")
FIRECRACKER = "1.7.0"


def packages():
    """What a host needs besides, as the module has it."""
    return read_module(MODULE).one("variable", "packages").texts("default")


def render(template, values):
    """What templatefile() gives for such a template: ${NAME}, and $${ for ${."""
    with open(os.path.join(MODULE, "templates", template)) as f:
        text = f.read()
    assert "%{" not in text, f"{template}: a directive, which only Terraform renders"

    def value(match):
        if match.group(0) == "$${":
            return "${"
        v = values[match.group(1)]
        return {True: "true", False: "false"}.get(v, str(v)) if isinstance(v, bool) else str(v)
    return re.sub(r"\$\$\{|\$\{(\w+)\}", value, text)


def scripts(hosts, fetch_release, release_sha256, packages, cluster="lab", data_disk="", fetch_join_secret="", fetch_firecracker="false",
            firecracker_sha256=""):
    """Host to its script, as the module's main.tf has it. hosts: name to address."""
    names = sorted(hosts)
    servers = json.dumps([f"{hosts[name]}:4646" for name in names], separators=(",", ":"))
    return {name: render("bootstrap.sh.tftpl", {
        "cluster": cluster, "name": name, "address": hosts[name], "servers": servers, "expect": len(names),
        "server_id": names.index(name) + 1, "packages": " ".join(packages), "fetch_release": fetch_release,
        "release_sha256": release_sha256, "fetch_firecracker": fetch_firecracker, "firecracker_sha256": firecracker_sha256,
        "firecracker_version": FIRECRACKER, "fetch_guest_kernel": "false", "guest_kernel_sha256": "",
        "fetch_join_secret": fetch_join_secret or "false", "data_disk": data_disk, "tls": bool(fetch_join_secret),
        "names": "tls_names: []" if fetch_join_secret else "",
        "access": "tls: auto\njoin_token_file: /etc/mentat/join-token" if fetch_join_secret else
                  f"bind: {hosts[name]}\nallow_insecure: true"}) for name in names}


def cloud_init(scripts_of_hosts, cluster="lab"):
    """Host to its cloud-init document."""
    return {name: render("cloud-init.yaml.tftpl", {
        "cluster": cluster, "name": name, "script_base64": base64.b64encode(script.encode()).decode()})
        for name, script in scripts_of_hosts.items()}
