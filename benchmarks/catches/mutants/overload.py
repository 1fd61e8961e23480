"""Weaknesses that the check ``overload`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

FULL = "if self.taken >= self._all or self._taken[client] >= self._each:"
BUSY = 'are being computed already.", retry_after=1)'
WITH = "        with service.places.one(exchange.counted_as):"
ANSWERED = "        self.service.answered(\n            request_id=exchange.request_id,"
UPDATED = '"X-Request-Id": exchange.request_id, **traced'
BEGUN = "await send({'type': 'http.response.start', 'status': 503, 'headers': [(b'content-length', b'99')]})"

MUTANTS: tuple[Mutant, ...] = (
    Mutant("no limit to what is predicted at once, and no refusal", "overload", ("no refusal",),
           (Patch("limits.py", FULL, "if False:"),)),
    Mutant("whoever finds no place waits for one", "overload", ("no refusal", "refused late"),
           (Patch("app.py", WITH, "        while service.places.taken >= 3:\n"
                  "            await asyncio.sleep(0.002)\n" + WITH),)),
    Mutant("refusals come after two seconds of waiting", "overload", ("refused late",),
           (Patch("app.py", WITH, "        if service.places.taken >= 3:\n            await asyncio.sleep(2)\n"
                  + WITH),)),
    Mutant("a refusal is kept back for three seconds", "overload", ("refused late",),
           (Patch("app.py", "        body = error.body(exchange.request_id)",
                  "        await asyncio.sleep(3 if error.code == 'busy' else 0)\n"
                  "        body = error.body(exchange.request_id)"),)),
    Mutant("a refusal does not say when to try again", "overload", ("no Retry-After",),
           (Patch("problems.py", BUSY, 'are being computed already.")'),)),
    Mutant("a refusal says to try again at once", "overload", ("no Retry-After",),
           (Patch("problems.py", "str(max(1, math.ceil(retry_after)))", "str(int(retry_after * 0.9))"),)),
    Mutant("one client may have all places", "overload", ("no room for others",),
           (Patch("limits.py", FULL, "if self.taken >= self._all:"),)),
    Mutant("one client's share is counted for all together", "overload", ("no room for others",),
           (Patch("limits.py", FULL, "if self.taken >= self._each:"),)),
    Mutant("connections are cut when all places are taken", "overload", ("dropped",),
           (Patch("app.py", "        except ClientDisconnect:\n            return",
                  "        except ClientDisconnect:\n            return\n        except Problem as problem:\n"
                  f"            if problem.code == 'busy':\n                {BEGUN}\n                return\n"
                  "            response = await self._refusal(exchange, problem)"),)),
    Mutant("an answer under load is begun, and cut off", "overload", ("dropped",),
           (Patch("app.py", "        await response(scope, receive, send)",
                  f"        if self.service.places.taken >= 3:\n            {BEGUN}\n        else:\n"
                  "            await response(scope, receive, send)"),)),
    Mutant("answers of requests at the same time are exchanged", "overload", ("wrong answer",),
           (Patch("app.py", "        predictions = [self.service.model.predict(image) for image in images]\n",
                  "        self.shared = [self.service.model.predict(image) for image in images]\n"
                  "        time.sleep(0.002)\n        predictions = self.shared\n"),)),
    Mutant("under load the last answer is given again", "overload", ("wrong answer",),
           (Patch("app.py", "        predictions = [self.service.model.predict(image) for image in images]\n",
                  "        if self.service.places.taken < 3 or not hasattr(self, 'last'):\n"
                  "            self.last = [self.service.model.predict(image) for image in images]\n"
                  "        predictions = self.last\n"),)),
    Mutant("a full server says 500", "overload", ("not refused cleanly",),
           (Patch("problems.py", 'return Problem(503, "busy"', 'return Problem(500, "busy"'),)),
    Mutant("a full server says 404", "overload", ("not refused cleanly",),
           (Patch("problems.py", 'return Problem(503, "busy"', 'return Problem(404, "busy"'),)),
    Mutant("refusals have no request id", "overload", ("no request id",),
           (Patch("app.py", '        response.headers.update({**HEADERS, "X-Request-Id": exchange.request_id, '
                  "**traced(exchange.request)})",
                  '        told = {"X-Request-Id": exchange.request_id} if response.status_code == 200 else {}\n'
                  "        response.headers.update({**HEADERS, **told, **traced(exchange.request)})"),)),
    Mutant("no answer has a request id", "overload", ("no request id",),
           (Patch("app.py", UPDATED, "**traced"),)),
    Mutant("request ids are drawn of ten thousand", "overload", ("not exactly once",),
           (Patch("service.py", "return secrets.token_hex(16)", "return str(secrets.randbelow(1000))"),)),
    Mutant("under load an answer has two records", "overload", ("not exactly once",),
           (Patch("app.py", ANSWERED, "        if self.service.places.taken > 2:\n            self.service.answered("
                  "request_id=exchange.request_id, client=exchange.client, begun=exchange.begun,\n"
                  '                input_sha256="", predictions=predictions)\n' + ANSWERED),)),
    Mutant("folded refusals are forgotten", "overload", ("refusals not counted",),
           (Patch("service.py", "status=folded.status, count=folded.count)", "status=folded.status, count=1)"),)),
    Mutant("a full server records no refusal", "overload", ("refusals not counted",),
           (Patch("app.py", "exchange.endpoint.recorded and not exchange.recorded:",
                  "exchange.endpoint.recorded and not exchange.recorded and error.code != 'busy':"),)),
)  # fmt: skip
