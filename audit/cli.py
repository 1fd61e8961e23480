"""``python -m audit``: list, show, compare, schema, pin and the rest; and run, whose options go to pytest unchanged.

Torch is imported by what needs it: ``run`` itself only waits for a process that does.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing, nullcontext
from datetime import date
from pathlib import Path

import yaml

from audit import compare
from audit.dependencies import advisories
from audit.errors import AuditError, DataError
from audit.gate import ExitCode
from audit.policy import Policy, load_policy, policy_schema, read_policy
from audit.requirements import BaseRequirement
from audit.supervise import supervise
from audit.waivers import read_waivers
from audit.workers import cores


def main(arguments: list[str] | None = None) -> int:
    """Parse, call, print; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["run"]:
        return supervise(words[1:])
    options = _parser().parse_args(words)
    try:
        if options.verb == "compare":
            return _compare(options.old, options.new)
        if options.verb == "compare-policy":
            return _compare_policies(options.old, options.new, options.waivers)
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
    comparing = verbs.add_parser(
        "compare",
        help="tell what changed between two audits; exit 1 if anything that matters did",
        description=compare.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("old", "new"):
        comparing.add_argument(
            name, type=Path, metavar=name.upper(), help="an audit.json, or a report folder that holds one"
        )
    loosening = verbs.add_parser(
        "compare-policy",
        help="tell what one policy loosens of another; exit 1 if it loosens anything",
        description="Tell what NEW loosens of OLD, what it tightens, and what it only changes. Exit 1 if it loosens "
        "anything, 0 if not, 4 if a file cannot be read. What is not known to be as hard counts as loosened: another "
        "attack, control, scanner, dataset or audited target. Both are read merged with what they extend.",
    )
    for name in ("old", "new"):
        loosening.add_argument(name, type=Path, metavar=name.upper(), help="a policy file")
    loosening.add_argument("--waivers", nargs=2, type=Path, metavar=("OLD", "NEW"), help="their waivers as well")
    verbs.add_parser("schema", help="print the JSON Schema of a policy file")
    pin = verbs.add_parser("pin", help="write fingerprints of a policy's data, and print what to pin")
    pin.add_argument("file", type=Path, metavar="OUT", help="where the fingerprints go, a .safetensors file")
    snapshot = verbs.add_parser("advisories", help="make a snapshot of advisories from a dump of the OSV database")
    snapshot.add_argument(
        "dump", type=Path, metavar="DUMP.zip", help="the dump of the ecosystem PyPI: one JSON file a record"
    )
    snapshot.add_argument("folder", type=Path, metavar="DIR", help="the folder to make, for run --advisories DIR")
    snapshot.add_argument(
        "--taken",
        type=date.fromisoformat,
        required=True,
        metavar="DATE",
        help="when the dump was fetched, YYYY-MM-DD, UTC",
    )
    snapshot.add_argument("--source", default="the OSV dump of PyPI", metavar="TEXT", help="where it was fetched from")
    again = verbs.add_parser("pin-references", help="train the reference networks, and write what they contribute")
    for verb in (listing, show, pin, again):
        verb.add_argument("--policy", default="auto", metavar="FILE", help="policy file, or auto (default)")
    return parser


def _answer(options: argparse.Namespace) -> str:
    if options.verb == "schema":
        return policy_schema()
    if options.verb == "pin":
        return _pin(options.policy, options.file)
    if options.verb == "pin-references":
        return _pin_references(options.policy)
    if options.verb == "advisories":
        made = advisories.make(options.dump, options.folder, options.taken, options.source)
        return f"{made.text}\nsnapshot_sha256: {made.head.sha256}\n"
    policy = _policy(options.policy)
    if options.verb == "list":
        return "".join(f"{_line(requirement)}\n" for requirement in policy.requirements)
    for requirement in policy.requirements:
        if requirement.id == options.id:
            shown: str = yaml.safe_dump(requirement.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            return shown
    known = ", ".join(requirement.id for requirement in policy.requirements)
    raise AuditError(f"show: expected one of {known} (got {options.id!r})")


def _compare(old_file: Path, new_file: Path) -> int:
    """Print what changed; returns 1 if any of it counts, else 0, as ``diff`` does."""
    old, new = compare.read(old_file), compare.read(new_file)
    return _told(compare.compare(old, new), f"{old_file}: {old.title}", f"{new_file}: {new.title}")


def _compare_policies(old_file: Path, new_file: Path, waivers: list[Path] | None) -> int:
    """Print what a policy, and its waivers, loosen of another; returns 1 if they loosen anything, else 0."""
    root = Path.cwd()
    old, new = (read_policy(root / file, root).policy.model_dump(mode="json") for file in (old_file, new_file))
    changes = list(compare.of_policies(old, new))
    if waivers is not None:
        excused = ([one.model_dump(mode="json") for one in read_waivers(root / file)] for file in waivers)
        changes += compare.of_waivers(*excused)
    titles = [f"{file}: {len(one['requirements'])} requirements" for file, one in ((old_file, old), (new_file, new))]
    return _told(compare.sorted_by_way(changes), *titles)


def _told(comparison: compare.Comparison, old: str, new: str) -> int:
    """Print a comparison of two things; returns 1 if anything in it counts, else 0."""
    lines = [f"old  {old}", f"new  {new}"]
    for section in comparison.sections:
        lines += ["", section.title, *(line for change in section.changes for line in _lines(change, section.width))]
    for line in (*lines, "", comparison.summary):
        # what is compared may come from elsewhere: no control character of it reaches the terminal
        sys.stdout.write(f"{compare.printable(line)}\n")
    return int(comparison.counts)


def _lines(change: compare.Change, width: int) -> list[str]:
    first = f"  {'!' if change.counts else ' '} {change.subject:{width}}  {change.text}"
    return [first, *(f"    {'':{width}}  {detail}" for detail in change.details)]


def _policy(option: str) -> Policy:
    root = Path.cwd()
    if option != "auto":
        return load_policy(root / option, root).policy
    from audit.choose import choose
    from audit.isolation.host import host

    with closing(host()) as processes:
        choice = choose(option, root, processes, offline=True)
    sys.stderr.write(f"policy: {choice.reason}\n")
    return choice.file.policy


def _pin(option: str, file: Path) -> str:
    """Write fingerprints of the data as they are now; return the lines of a requirement that pins them."""
    from audit.choose import choose
    from audit.isolation.host import host
    from audit.poisoning import fingerprints

    with closing(host()) as processes:
        dataset = choose(option, Path.cwd(), processes, offline=True).dataset
    if dataset.training is None:
        raise DataError(f"pin: dataset {dataset.name}: expected a training split (got none)")
    splits = {"training": dataset.training, "audit": dataset.audit}
    fingerprints.write(file, splits)
    pins: dict[str, object] = {name: fingerprints.digest_of(samples) for name, samples in splits.items()}
    text: str = yaml.safe_dump({**pins, "raw_files": dict(dataset.files), "fingerprints": str(file)}, sort_keys=False)
    return text


def _pin_references(option: str) -> str:
    """Write the files that pin what reference networks contribute; return their names, a line each."""
    from audit import pinning
    from audit.isolation.host import host
    from audit.run import AuditRun
    from audit.settings import Settings

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    settings = Settings(policy=option, offline=True, jobs=cores())
    run = AuditRun(Path.cwd(), settings, lambda done, total: None, nullcontext, say, str, host())
    try:
        return "".join(f"{file}\n" for file in pinning.pin(run.session, say))
    finally:
        run.close(complete=False)


def _line(requirement: BaseRequirement) -> str:
    bound = requirement.bound
    return f"{requirement.id:8} {requirement.severity:8} {bound.metric} {bound.text:10} {requirement.title}"
