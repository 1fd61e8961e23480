"""The command line: serve, keep tokens, verify a log.

python -m model_under_test.serve --weights DIR --port N --tokens FILE
python -m model_under_test.serve token [add] --tokens FILE --name NAME --scope predict
python -m model_under_test.serve token list --tokens FILE
python -m model_under_test.serve token revoke --tokens FILE --name NAME
python -m model_under_test.serve verify-log FILE
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from model_under_test.errors import IntegrityError, ServingError
from model_under_test.serve import anchors, chain, settings, tokens
from model_under_test.serve.audit_log import AuditLog
from model_under_test.serve.tokens import Scope

if TYPE_CHECKING:
    from model_under_test.serve.server import Server
    from model_under_test.serve.service import Service

PROGRAM = "python -m model_under_test.serve"
BAD_WEIGHTS, CANNOT_SERVE = 3, 4


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0, 1 for a log that does not verify, 3 for weights, 4 for everything else it needs."""
    given = sys.argv[1:] if arguments is None else arguments
    commands = {"token": _token, "verify-log": _verify_log}
    try:
        if given and given[0] in commands:
            return commands[given[0]](given[1:])
        return _serve(given)
    except IntegrityError as error:
        return _complain(error, BAD_WEIGHTS)
    except ServingError as error:
        return _complain(error, CANNOT_SERVE)


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"{' '.join(str(error).split())}\n")
    return code


def _serve(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Serve a model. Other commands: token, verify-log (each has its own --help)."
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="one *.safetensors and its manifest")
    parser.add_argument("--sha256", metavar="HEX", help="also pin the weight file to this digest")
    parser.add_argument("--public-key", type=Path, metavar="PEM", help="also verify the folder's signature")
    parser.add_argument("--port", type=int, required=True, help="0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDR", help="default %(default)s")
    parser.add_argument("--log", type=Path, default=Path("serve-log/audit.jsonl"), metavar="FILE", help="audit log")
    parser.add_argument("--anchors", type=Path, metavar="FILE", help="its anchors, default LOG.anchors")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="limits, as YAML")
    access = parser.add_mutually_exclusive_group(required=True)
    access.add_argument("--tokens", type=Path, metavar="FILE", help="who may ask")
    access.add_argument("--open", action="store_true", help="everybody may ask, without a token")
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 2**16:
        parser.error(f"--port: expected 0..65535, got {options.port}")
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Verify everything, then listen. torch takes seconds to import, so nothing else waits for it."""
    import torch

    from model_under_test.serve.model import ServedModel
    from model_under_test.serve.service import Service

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what clients do wrong is a figure, not news
    torch.set_num_threads(1)  # one image at a time: requests run beside each other, not inside
    limits = settings.read(options.settings)
    named = f"[{options.host}]" if ":" in options.host else options.host
    limits = limits.model_copy(update={"hosts": (*limits.hosts, named)})
    known = None if options.open else tokens.Watched(options.tokens)
    kept = options.anchors or anchors.beside(options.log)
    model = ServedModel(options.weights, pinned=options.sha256, public_key=options.public_key)
    log = AuditLog(
        options.log,
        rotate_at=limits.log_bytes,
        fsync=limits.log_fsync,
        reserve=limits.log_reserve_bytes,
        noted=anchors.known(kept),
    )
    noting = None
    try:
        noting = anchors.Anchors(kept, limits.anchor_seconds)
        service = Service(limits, known, model, log, noting)
        server = _listen(service, options.host, options.port)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            sys.stderr.write("warning: running as root; nothing here needs it\n")
        server.run(ready=lambda: _announce(server))
    finally:
        log.close()
        if noting:
            noting.close()
    return 0


def _listen(service: Service, host: str, port: int) -> Server:
    from model_under_test.serve.server import Server

    try:
        return Server(service, host, port)
    except OSError as error:
        raise ServingError(f"cannot listen on {host} port {port}: {error}") from error


def _announce(server: Server) -> None:
    host = f"[{server.host}]" if ":" in server.host else server.host
    sys.stdout.write(f"serving on http://{host}:{server.port}\n")
    sys.stdout.flush()


def _token(arguments: list[str]) -> int:
    commands = {"add": _add_token, "list": _list_tokens, "revoke": _revoke_token}
    if arguments and arguments[0] in commands:
        return commands[arguments[0]](arguments[1:])
    return _add_token(arguments)


def _add_token(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} token [add]",
        description="Make a token; it is shown once. Beside it: token list, token revoke (each has its own --help).",
    )
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE", help="made, or added to")
    parser.add_argument("--name", required=True, help="whose it is: the client's id in log and rate limit")
    parser.add_argument("--scope", type=Scope, action="append", required=True, choices=list(Scope), metavar="SCOPE")
    parser.add_argument("--expires", type=date.fromisoformat, metavar="YYYY-MM-DD", help="last day (UTC) it is valid")
    parser.add_argument("--allow-expired", action="store_true", help="that day may be over: a token to test with")
    options = parser.parse_args(arguments)
    scopes = tuple(options.scope)
    made = tokens.add(options.tokens, options.name, scopes, options.expires, allow_expired=options.allow_expired)
    sys.stdout.write(f"{made}\n")
    return 0


def _list_tokens(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} token list", description="Say whose tokens a file holds, what they open, and until when."
    )
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE")
    for one in tokens.read(parser.parse_args(arguments).tokens).tokens:
        until = f"until {one.expires}" if one.expires else "without end"
        mark = " expired" if one.expired() else ""
        sys.stdout.write(f"{one.name} {','.join(one.scopes)} {until}{mark}\n")
    return 0


def _revoke_token(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} token revoke", description="Remove a token; running servers heed it within a second."
    )
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE")
    parser.add_argument("--name", required=True, help="whose it is")
    options = parser.parse_args(arguments)
    tokens.revoke(options.tokens, options.name)
    return 0


def _verify_log(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} verify-log", description="Hold an audit log to its hash chain.")
    parser.add_argument("file", type=Path, metavar="FILE", help="the files rotated away from it must lie beside it")
    parser.add_argument("--anchor", metavar="HASH", help="a hash noted earlier, that must still be in the chain")
    parser.add_argument(
        "--anchors", type=Path, metavar="ANCHORS", help="file of anchors; FILE.anchors, where there is one"
    )
    options = parser.parse_args(arguments)
    beside = anchors.beside(options.file)
    try:
        noted = anchors.known(beside) if options.anchors is None else anchors.read(options.anchors)
        if options.anchors is not None and not noted:
            raise ServingError(f"{options.anchors}: expected a file of anchors, got none in it")
        records = chain.verify(options.file, options.anchor, noted)
    except (chain.Broken, ServingError) as error:
        return _complain(error, 1)
    except OSError as error:
        return _complain(ServingError(f"{options.file}: cannot be read: {error.strerror}"), 1)
    held = f", {len(noted)} anchors fit" if options.anchors is not None or beside.exists() else ""
    sys.stdout.write(f"verified: {records} records{held}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
