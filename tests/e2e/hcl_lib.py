"""Reads Terraform's files as far as tests ask: blocks in blocks, and the text of each attribute's expression."""
import os
import re

TOKEN = re.compile(r'''\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/ | (?P<heredoc><<-?(\w+)\n.*?\n\s*\2\b)
    | (?P<string>"(?:\\.|\$\{(?:[^{}]|\{[^{}]*\})*\}|[^"\\])*") | (?P<word>[\w.\-]+) | (?P<other>.)''', re.S | re.X)


class Block:
    def __init__(self, kind, labels):
        self.kind, self.labels, self.attributes, self.blocks = kind, labels, {}, []

    def all(self, kind, *labels):
        return [b for b in self.blocks if b.kind == kind and b.labels[:len(labels)] == list(labels)]

    def one(self, kind, *labels):
        found = self.all(kind, *labels)
        assert len(found) == 1, f"{len(found)} blocks {kind} {labels} in {self.kind} {self.labels}"
        return found[0]

    def __getitem__(self, name):
        return self.attributes[name]

    def texts(self, name):
        """The strings of a list of strings."""
        return re.findall(r'"([^"]*)"', self.attributes[name])


def tokens(text):
    for match in TOKEN.finditer(text):
        kind = match.lastgroup
        if match.group("heredoc"):
            yield "string", match.group("heredoc")
        elif kind:
            yield kind, match.group(kind)
        elif "\n" in match.group(0):
            yield "line", "\n"


def expression(stream, at):
    """Up to the end of the line outside of all brackets."""
    depth, out = 0, []
    while at < len(stream):
        kind, token = stream[at]
        if kind == "line" and depth == 0 or token == "}" and depth == 0:
            break
        depth += token in ("(", "[", "{") and kind == "other"
        depth -= token in (")", "]", "}") and kind == "other"
        if kind != "line":
            out.append(token)
        at += 1
    return " ".join(out), at


def parse(stream, at, block):
    while at < len(stream):
        kind, token = stream[at]
        if kind == "line":
            at += 1
        elif token == "}":
            return at + 1
        else:
            name, labels = token.strip('"'), []
            at += 1
            while stream[at][0] in ("string", "word"):
                labels.append(stream[at][1].strip('"'))
                at += 1
            if stream[at][1] == "=":
                block.attributes[name], at = expression(stream, at + 1)
            else:
                assert stream[at][1] == "{", (name, stream[at])
                inner = Block(name, labels)
                block.blocks.append(inner)
                at = parse(stream, at + 1, inner)
    return at


def read_module(directory):
    """All .tf files of a directory as one block."""
    module = Block("module", [directory])
    for name in sorted(os.listdir(directory)):
        if name.endswith(".tf"):
            with open(os.path.join(directory, name)) as f:
                parse(list(tokens(f.read())), 0, module)
    return module
