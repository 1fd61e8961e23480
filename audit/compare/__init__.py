"""What changed between two audits. Lines marked ! count: with any of them the exit code is 1, else 0.

verdicts     A status that changed, and a requirement that only one of the audits examined, count. So does a gate that
             opened or closed, or another exit code of it. Another reason for the same status does not.
figures      A measured value counts when it lies outside the interval of the other audit, whichever way round. Exact
             figures have no width, so any difference counts. Another metric, and a figure that only one audit has,
             count. Differences within the intervals, of n, or of how the interval was made, do not.
findings     A finding that came or went counts, wherever in its file it lies. More or fewer suppressions do not: where
             the policy states them, that counts.
policy       A requirement whose definition changed, was added or removed, waivers, and other data count. A file by
             another name, another SHA-256 (a comment), or another profile does not. LOOSENED and TIGHTENED say which
             way a definition went; what is not known to be as hard (another attack, another control) is LOOSENED.
model        Any difference counts: name, digest, weights, recipe.
exhibits     What is shown and not judged does not count.
environment  Commit, versions and device do not count.

Ignored is what differs in every run: times, the command, paths of files in the report folder. A key that is missing
says the same as one that is null or empty.
"""

from __future__ import annotations

from audit.compare.changes import Change, Comparison, Section, printable
from audit.compare.policies import of_policies, of_waivers, sorted_by_way
from audit.compare.reading import Audit, read
from audit.compare.sections import compare

__all__ = [
    "Audit",
    "Change",
    "Comparison",
    "Section",
    "compare",
    "of_policies",
    "of_waivers",
    "printable",
    "read",
    "sorted_by_way",
]
