"""Weaknesses that the check ``tampering`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

VERIFIED, STARTED = "log verified", "started on a changed log"
NOTICED, PREDICTED = "log change not noticed", "predicted on a changed log"
EARLIER = "    return [one for _, one in sorted(found)]"
NOTE = "        if self._anchors and (end or self._anchors.due(now, self.log.rotated)):"
FOLLOWS = "fits = found.encode() == digest and previous == last.encode() and int(number) == seq + 1"
WALKED = "walked = dict(chain.walk_all(path, chain.Noted(noted)))"
PINNED = "    if pinned is not None and pinned != named:"

MUTANTS: tuple[Mutant, ...] = (
    Mutant("rotated files are neither verified nor looked at when a server starts", "tampering", (VERIFIED, STARTED),
           (Patch("chain.py", EARLIER, "    return []"),
            Patch("chain.py", "    after = START\n    for one in", "    after = _first(path)\n    for one in"),
            Patch("chain.py", "def walk_all(", "def _first(path: Path) -> Link:\n    line = (path.read_bytes() if "
                  'path.exists() else b"").partition(b"\\n")[0]\n    if not line:\n        return START\n'
                  "    found = json.loads(line)\n    return Link(found['seq'] - 1, found['previous'])\n\n\n"
                  "def walk_all("),
            Patch("audit_log.py", 'int(list(walked)[-1].name.rpartition(".")[2]) if walked else 0',
                  'len(list(path.parent.glob(path.name + ".0*")))'),)),
    Mutant("a server starts on a log that does not verify", "tampering", (STARTED,),
           (Patch("audit_log.py", WALKED, "walked = {one: chain.Walked(_last(one), 0, one.stat().st_size, "
                  "__import__('hashlib').sha256(one.read_bytes()), chain.stamp(one.stat())) "
                  "for one in (*chain.earlier(path), path)}"),
            Patch("audit_log.py", "def _take(", "def _last(path: Path) -> Link:\n"
                  '    lines = path.read_bytes().splitlines()\n    if not lines:\n        return chain.START\n'
                  '    found = __import__("json").loads(lines[-1])\n    return Link(found["seq"], found["hash"])\n\n\n'
                  "def _take("),)),
    Mutant("a server does not look at the anchors when it starts", "tampering", (STARTED,),
           (Patch("audit_log.py", WALKED, "walked = dict(chain.walk_all(path, chain.Noted(())))"),)),
    Mutant("a change in place is told by its time alone", "tampering", (NOTICED,),
           (Patch("held.py", "            if (yield from _digest(file, size)) != content.hexdigest():",
                  "            yield\n            now = os.fstat(file).st_mtime_ns\n"
                  "            before, self.before = getattr(self, 'before', (now, size)), (now, size)\n"
                  "            if now != before[0] and size == before[1]:"),)),
    Mutant("rotated files are not looked at again", "tampering", (NOTICED,),
           (Patch("held.py", "            if stamp(path.stat()) == known.stamp:", "            if path.exists():"),)),
    Mutant("a change is told by size and time of rotated files", "tampering", (NOTICED,),
           (Patch("held.py", "if stamp(path.stat()) == known.stamp:",
                  "if known.stamp and (path.stat().st_size, path.stat().st_mtime_ns) == known.stamp[1:3]:"),)),
    Mutant("the log is looked at once an hour", "tampering", (NOTICED,),
           (Patch("held.py", "LOOK_AGAIN_SECONDS = 5.0", "LOOK_AGAIN_SECONDS = 3600.0"),)),
    Mutant("a changed log is told, and written on", "tampering", (PREDICTED,),
           (Patch("audit_log.py", "    def _write(self, fields: dict[str, Any]) -> None:\n        self._hold()\n",
                  "    def _write(self, fields: dict[str, Any]) -> None:\n"),)),
    Mutant("a changed log makes readiness red, and the answers go on", "tampering", (PREDICTED,),
           (Patch("service.py", "        except LogUnavailable as error:\n            raise unrecorded() from error\n"
                  "        finally:", "        except LogUnavailable:\n            pass\n        finally:"),)),
    Mutant("anchors are noted, and not used", "tampering", (VERIFIED,),
           (Patch("__main__.py", "chain.verify(options.file, options.anchor, noted)",
                  "chain.verify(options.file, options.anchor)"),)),
    Mutant("no anchors are noted", "tampering", (VERIFIED,), (Patch("service.py", NOTE, "        if False:"),)),
    Mutant("no anchor is noted at the end", "tampering", (VERIFIED,),
           (Patch("service.py", NOTE, NOTE.replace("end or ", "not end and ")),)),
    Mutant("no anchor is noted when a file is put aside", "tampering", (VERIFIED,),
           (Patch("anchors.py", " or rotated > self._rotated", ""),)),
    Mutant("anchors are noted at the end and with rotation, never by time", "tampering", (VERIFIED,),
           (Patch("anchors.py", "now - self._noted_at >= self._every or ", ""),)),
    Mutant("the number of an anchor is held to the chain, not its hash", "tampering", (VERIFIED,),
           (Patch("chain.py", "        if self.links.pop(link.seq, link.hash) != link.hash:",
                  "        if self.links.pop(link.seq, link.hash) is None:"),)),
    Mutant("the hash of a line is not computed again", "tampering", (VERIFIED,),
           (Patch("chain.py", FOLLOWS, "found = digest.decode()\n                fits = previous == last.encode() "
                  "and int(number) == seq + 1"),)),
    Mutant("the hash of the line before is not compared", "tampering", (VERIFIED,),
           (Patch("chain.py", FOLLOWS, "fits = found.encode() == digest and int(number) == seq + 1"),)),
    Mutant("a torn last line verifies", "tampering", (VERIFIED,),
           (Patch("chain.py", "        while at < len(block):\n            self.line += 1\n",
                  "        while at < len(block):\n            self.line += 1\n"
                  '            if b"\\n" not in block[at:]:\n                break\n'),)),
    Mutant("the pin is not compared", "tampering", ("served",),
           (Patch("model.py", PINNED, "    if False:"),)),
    Mutant("the pin is compared with the manifest at the start of its digest", "tampering", ("served",),
           (Patch("model.py", PINNED, "    if pinned is not None and len(pinned) != len(named):"),)),
    Mutant("the weight file is told by size and time", "tampering", ("not noticed",),
           (Patch("model.py", "        return chain.stamp(path.stat())",
                  "        return path.stat().st_size, path.stat().st_mtime_ns"),)),
    Mutant("a changed weight file is noticed, and readiness stays green", "tampering", ("not noticed",),
           (Patch("service.py", "for one in (self.model, self.log,", "for one in (self.log,"),)),
    Mutant("a changed weight file silences the server", "tampering", ("other answers",),
           (Patch("model.py", "        with torch.inference_mode():\n",
                  "        if self.trouble():\n            raise IntegrityError('changed')\n"
                  "        with torch.inference_mode():\n"),)),
    Mutant("a changed weight file changes the answers", "tampering", ("other answers",),
           (Patch("model.py", "        return Prediction(int(logits.argmax())",
                  "        if self.trouble():\n            logits = -logits\n"
                  "        return Prediction(int(logits.argmax())"),)),
)  # fmt: skip
