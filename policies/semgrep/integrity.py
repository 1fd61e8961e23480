# Fixture of the rules beside it: bad lines follow "ruleid", good ones "ok". Never imported. The secrets are made up.
import hashlib
import hmac
import os
import tempfile
from hashlib import md5
from pathlib import Path

# ruleid: weak-hash
hashlib.md5(content).hexdigest()
# ruleid: weak-hash
md5(content).hexdigest()
# ruleid: weak-hash
hashlib.sha1()
# ruleid: weak-hash
hashlib.new("sha1", content)
# ruleid: weak-hash
hashlib.file_digest(stream, "md5")
# ruleid: weak-hash
hmac.new(key, content, "sha1")
# ok: weak-hash
hashlib.sha256(content).hexdigest()
# ok: weak-hash
hashlib.new("sha256", content)
# ok: weak-hash
hashlib.md5(content, usedforsecurity=False)

# ruleid: predictable-temporary-file
tempfile.mktemp()
# ruleid: predictable-temporary-file
open("/tmp/weights.pt", "wb")
# ruleid: predictable-temporary-file
Path(tempfile.gettempdir()) / "weights.pt"
# ruleid: predictable-temporary-file
os.path.join(tempfile.gettempdir(), "weights.pt")
# ok: predictable-temporary-file
tempfile.TemporaryDirectory()
# ok: predictable-temporary-file
tempfile.NamedTemporaryFile()
# ok: predictable-temporary-file
open("data/tmp/weights.pt", "rb")

# ruleid: hard-coded-secret
API_KEY = "zx81-spectrum-ql"
# ruleid: hard-coded-secret
database_password: str = "correct horse"
# ruleid: hard-coded-secret
app.secret_key = "correct horse"
# ruleid: hard-coded-secret
connect(host="localhost", password="correct horse")
# ruleid: hard-coded-secret
app.config["SECRET_KEY"] = "correct horse"
# ruleid: hard-coded-secret
settings = {"user": "auditor", "auth_token": "zx81-spectrum-ql"}
# ok: hard-coded-secret
API_KEY = os.environ["API_KEY"]
# ok: hard-coded-secret
API_KEY = ""
# ok: hard-coded-secret
connect(host="localhost", password="<password>")
# ok: hard-coded-secret
sign(folder, private_key="keys/release.pem")
# ok: hard-coded-secret
tokenizer = "letters"


# ruleid: hard-coded-secret
def login(user, password="correct horse"):
    return user, password


def verified(content, digest):
    # ruleid: assert-outside-tests
    assert hashlib.sha256(content).hexdigest() == digest, "the file was changed"
    # ok: assert-outside-tests
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("the file was changed")
    return content
