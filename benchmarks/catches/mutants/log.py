"""Weaknesses that the check ``log`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

CALL = "        self.service.answered(\n"
LINE = "line = _line(request_id=request_id, client=client, status=200, image=index, **said)"
REMEMBERED = '                self._remember({**fields, "class": None, "confidence": None, "status": 503})\n'
RETURN = "            predictions=predictions,\n        )\n        return predictions"
LOST, LATE, WRONG, BARE = "record lost", "record late", "record wrong", "answer without a record"


def _later(seconds: str) -> tuple[Patch, ...]:
    """Return a patch that records an answer so long after it was computed, on a thread of its own."""
    return (
        Patch(
            "app.py", CALL, f"        __import__('threading').Timer({seconds}, self.service.answered, kwargs=dict(\n"
        ),
        Patch("app.py", RETURN, "            predictions=predictions,\n        )).start()\n        return predictions"),
    )


def _said(name: str, new: str, rules: tuple[str, ...] = (WRONG,)) -> Mutant:
    """Return a mutant that writes something else into the line of a prediction."""
    return Mutant(name, "log", rules, (Patch("service.py", LINE, new),))


MUTANTS: tuple[Mutant, ...] = (
    Mutant("the record is written just after the answer", "log", (LATE, LOST), _later("0.002")),
    Mutant("the record is written half a second after the answer", "log", (LATE, LOST), _later("0.5")),
    Mutant("lines are kept in a buffer of ten", "log", (LATE, LOST),
           (Patch("audit_log.py", "        appending.write(self._file, line, self._held.size, fsync=self._fsync, "
                  "what=WHAT)\n        self._held.wrote(line)",
                  "        self.kept = [*getattr(self, 'kept', ()), line]\n        if len(self.kept) >= 10:\n"
                  "            for one in self.kept:\n"
                  "                appending.write(self._file, one, self._held.size, fsync=self._fsync, what=WHAT)\n"
                  "                self._held.wrote(one)\n            self.kept = []"),)),
    Mutant("one answer in fifty has no record", "log", (LOST,),
           (Patch("service.py", LINE, "if int(request_id, 16) % 50 == 0:\n                    continue\n"
                  + 16 * " " + LINE),)),
    Mutant("what cannot be recorded is answered all the same", "log", (BARE,),
           (Patch("service.py", "        except LogUnavailable as error:\n            raise unrecorded() from error\n"
                  "        finally:", "        except LogUnavailable:\n            pass\n        finally:"),)),
    Mutant("a part of a line is left behind, and the answer given", "log", (BARE, "does not verify"),
           (Patch("appending.py", "            raise OSError(0, f\"no space left for {what}\")", "            return"),
            Patch("service.py", "        except LogUnavailable as error:\n            raise unrecorded() from error\n"
                  "        finally:", "        except LogUnavailable:\n            pass\n        finally:"),)),
    Mutant("a log that was moved away is written to its old place", "log", (BARE,),
           (Patch("appending.py", "if (ours.st_ino, ours.st_dev) != (there.st_ino, there.st_dev):", "if False:"),
            Patch("held.py", "        self.trouble = found", "        self.trouble = None"),)),
    Mutant("after a failure nothing is predicted any more", "log", ("does not recover",),
           (Patch("audit_log.py", REMEMBERED, REMEMBERED + "                self._rotate_at = -1\n"
                  "                self._path = self._path.with_name('gone')\n"),)),
    Mutant("the first failure is for good", "log", ("does not recover",),
           (Patch("audit_log.py", "                self._catch_up()\n                self._write(fields)\n",
                  "                if self._reason:\n                    raise OSError(0, self._reason)\n"
                  "                self._write(fields)\n"),
            Patch("audit_log.py", "                self._hold()\n                self._catch_up()\n"
                  "                self._reason = None\n",
                  "                self._hold()\n"),)),
    Mutant("readiness does not ask the log", "log", ("ready without a log",),
           (Patch("service.py", "(self.model, self.log, self.tokens, self._anchors)",
                  "(self.model, self.tokens, self._anchors)"),)),
    Mutant("readiness stays green without a log", "log", ("ready without a log",),
           (Patch("audit_log.py", "            return self._reason\n", "            return None\n"),)),
    Mutant("every prediction is recorded twice", "log", ("record twice",),
           (Patch("app.py", CALL, "        self.service.answered(request_id=exchange.request_id, "
                  "client=exchange.client, begun=exchange.begun, input_sha256='', predictions=predictions)\n"
                  + CALL),)),
    Mutant("a refusal is recorded twice", "log", ("record twice",),
           (Patch("app.py", "                await self.mind(self._refused, exchange, error.status)\n",
                  "                await self.mind(self._refused, exchange, error.status)\n"
                  "                await self.mind(self._refused, exchange, error.status)\n"),)),
    _said("the class is recorded as one more", LINE.replace("**said", '**{**said, "class": prediction.digit + 1}')),
    _said("the confidence is that of the least class",
          LINE.replace("**said", '**{**said, "confidence": round(min(prediction.probabilities), 4)}')),
    _said("the time is that of the local clock, said to be UTC",
          LINE.replace("**said", '**said, time=datetime.fromtimestamp(time.time() + 7200, UTC).isoformat()')),
    _said("the index of the image begins with 1", LINE.replace("image=index", "image=index + 1")),
    _said("every line stands for two", LINE.replace("**said", "**said, count=2")),
    Mutant("the digest is that of the body without its end", "log", (WRONG,),
           (Patch("app.py", "hashlib.sha256(body).hexdigest()", "hashlib.sha256(body[:4096]).hexdigest()"),)),
    Mutant("the address that a client claims is believed", "log", (WRONG,),
           (Patch("app.py", "        client=address,", '        client=Request(scope).headers.get("x-forwarded-for", '
                  "address),"),)),
    Mutant("the address is recorded instead of the token's name", "log", (WRONG,),
           (Patch("app.py", "exchange.client, exchange.counted_as = exchange.token.name, f",
                  "exchange.counted_as = f"),)),
    Mutant("the record names other weights", "log", (WRONG,),
           (Patch("service.py", '"model_digest": self.model.digest})\n        except LogUnavailable as error:\n'
                  "            raise unrecorded() from error\n        finally:",
                  '"model_digest": "sha256:" + "0" * 64})\n        except LogUnavailable as error:\n'
                  "            raise unrecorded() from error\n        finally:"),)),
    Mutant("a torn last line stays where it is", "log", ("not healed", "does not verify"),
           (Patch("audit_log.py", "                _heal(path, self._file)\n", ""),)),
    Mutant("a torn last line is written on", "log", ("not healed", "does not verify"),
           (Patch("audit_log.py", "                _heal(path, self._file)\n                walked = dict("
                  "chain.walk_all(path, chain.Noted(noted)))",
                  '                os.write(self._file, b"\\n") if appending.torn(self._file, 2**14) else None\n'
                  "                walked = dict(chain.walk_all(path, chain.Noted(noted)))"),)),
    Mutant("the end is not clean", "log", ("not drained",),
           (Patch("__main__.py", "noting.close()\n    return 0", "noting.close()\n    return 1"),)),
    Mutant("SIGTERM is not heeded while requests come", "log", ("not drained",),
           (Patch("server.py", "        self.service.draining = self.should_exit = True",
                  "        self.service.draining = True"),)),
    Mutant("the number of a record is counted twice after a restart", "log", ("does not verify", "not healed"),
           (Patch("audit_log.py", "        self._end, self._held = current.end,",
                  "        self._end, self._held = chain.Link(current.end.seq + bool(current.lines), current.end.hash),"
                  ),)),
)  # fmt: skip
