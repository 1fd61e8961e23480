"""``python -m audit``: list, show, schema, and run, which hands its options to pytest unchanged."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import yaml

from audit.choose import choose
from audit.errors import AuditError
from audit.gate import ExitCode
from audit.policy import Policy, load_policy, policy_schema
from audit.requirements import BaseRequirement


def main(arguments: list[str] | None = None) -> int:
    """Parse, call, print; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["run"]:
        return int(pytest.main(["tests", *words[1:]]))
    options = _parser().parse_args(words)
    try:
        sys.stdout.write(_answer(options))
    except AuditError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return ExitCode.USAGE
    return ExitCode.OPEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m audit", description="Security audit of an image classifier.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("run", help="audit, write the report, return the gate's exit code; options: see README")
    listing = verbs.add_parser("list", help="list the requirements of a policy, one line each")
    show = verbs.add_parser("show", help="show one requirement whole")
    show.add_argument("id", metavar="ID")
    verbs.add_parser("schema", help="print the JSON Schema of a policy file")
    for verb in (listing, show):
        verb.add_argument("--policy", default="auto", metavar="FILE", help="policy file, or auto (default)")
    return parser


def _answer(options: argparse.Namespace) -> str:
    if options.verb == "schema":
        return policy_schema()
    policy = _policy(options.policy)
    if options.verb == "list":
        return "".join(f"{_line(requirement)}\n" for requirement in policy.requirements)
    for requirement in policy.requirements:
        if requirement.id == options.id:
            shown: str = yaml.safe_dump(requirement.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            return shown
    known = ", ".join(requirement.id for requirement in policy.requirements)
    raise AuditError(f"show: expected one of {known} (got {options.id!r})")


def _policy(option: str) -> Policy:
    root = Path.cwd()
    if option != "auto":
        return load_policy(root / option, root).policy
    choice = choose(option, root, offline=True)
    sys.stderr.write(f"policy: {choice.reason}\n")
    return choice.file.policy


def _line(requirement: BaseRequirement) -> str:
    bound = requirement.bound
    return f"{requirement.id:8} {requirement.severity:8} {bound.metric} {bound.text:10} {requirement.title}"
