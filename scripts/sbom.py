#!/usr/bin/env python3
"""What is linked into the programs of a release, as CycloneDX JSON: each package of the distribution whose archives the
linker took something from, with its version, and for each program which of them.

    scripts/sbom.py BUILD DIST      BUILD: where they were linked; DIST: the stripped programs, for their sums

The linker is asked itself: its command is run once more, and tells each archive member that it opens."""
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

PROGRAMS = ("mt", "mentat-server", "mentat-agent")


def run(*command, **kw):
    return subprocess.run(command, check=True, capture_output=True, text=True, **kw).stdout


def archives(build, program):
    """The files outside of the build that something was taken from."""
    command = shlex.split(run("ninja", "-C", build, "-t", "commands", f"bin/{program}").strip().splitlines()[-1])
    command = [word for word in command if word != "ccache"]
    command[command.index("-o") + 1] = "/dev/null"
    traced = run(*command, "-Wl,--trace", cwd=build)
    # "ARCHIVE", "ARCHIVE(MEMBER)" or "(ARCHIVE)MEMBER", a line for each; linkers differ.
    found = set()
    for line in traced.splitlines():
        path = re.sub(r"^\(([^)]*)\).*$", r"\1", line.strip())
        path = re.sub(r"\(.*$", "", path)
        if os.path.isabs(path) and os.path.isfile(path) and not os.path.realpath(path).startswith(os.path.realpath(build) + "/"):
            found.add(os.path.realpath(path))
    return found


def package_of(path):
    """The package that a file is of. /lib is /usr/lib, but a package may know its file by the other name."""
    for name in (path, path.removeprefix("/usr")):
        done = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.split(": ")[0].split(",")[0]
    sys.exit(f"sbom: {path} is of no package")


def component(package):
    version, source, source_version, architecture = run(
        "dpkg-query", "-W", "-f", "${Version}\t${source:Package}\t${source:Version}\t${Architecture}", package).split("\t")
    distribution = dict(re.findall(r'^(ID|VERSION_CODENAME)="?([^"\n]*)', open("/etc/os-release").read(), re.M))
    name = package.split(":")[0]
    purl = f"pkg:deb/{distribution['ID']}/{name}@{version.replace('+', '%2B')}?arch={architecture}&distro={distribution['VERSION_CODENAME']}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "properties": [{"name": "source:package", "value": source}, {"name": "source:version", "value": source_version}]}


def main(build, dist):
    version = run(os.path.join(dist, "mt"), "--version").split()[1]
    components, dependencies, known = {}, [], {}
    for program in PROGRAMS:
        used = set()
        for path in archives(build, program):
            package = known.setdefault(path, package_of(path))
            part = component(package)
            components[part["bom-ref"]] = part
            used.add(part["bom-ref"])
        with open(os.path.join(dist, program), "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        components[program] = {"type": "application", "bom-ref": program, "name": program, "version": version,
                               "hashes": [{"alg": "SHA-256", "content": digest}]}
        dependencies.append({"ref": program, "dependsOn": sorted(used)})
    json.dump({"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
               "metadata": {"component": {"type": "application", "bom-ref": "mentat", "name": "mentat", "version": version}},
               "components": [components[ref] for ref in sorted(components)],
               "dependencies": dependencies + [{"ref": "mentat", "dependsOn": sorted(PROGRAMS)}]}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
