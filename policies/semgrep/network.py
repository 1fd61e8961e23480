# Fixture of the rules beside it: bad lines follow "ruleid", good ones "ok". Never imported.
import asyncio
import socket
import ssl
from http.server import HTTPServer
from urllib.request import urlopen

import httpx
import requests
import requests as http
from flask import Flask
from requests import post

app = Flask(__name__)

# ruleid: request-without-timeout
requests.get(address)
# ruleid: request-without-timeout
http.put(address, data=content)
# ruleid: request-without-timeout
post(address)
# ruleid: request-without-timeout
requests.get(address, timeout=None)
# ruleid: request-without-timeout
urlopen(address)
# ok: request-without-timeout
requests.get(address, timeout=5)
# ok: request-without-timeout
urlopen(address, timeout=5)
# ok: request-without-timeout
settings.get("address")


def fetch(address):
    session = requests.Session()
    # ruleid: request-without-timeout
    session.get(address)
    # ok: request-without-timeout
    session.get(address, timeout=5)


# ruleid: certificate-not-verified
requests.get(address, timeout=5, verify=False)
# ruleid: certificate-not-verified
httpx.Client(verify=False)
# ruleid: certificate-not-verified
session.post(address, timeout=5, verify=False)
# ruleid: certificate-not-verified
session.verify = False
# ruleid: certificate-not-verified
urlopen(address, timeout=5, context=ssl._create_unverified_context())
# ruleid: certificate-not-verified
context.check_hostname = False
# ok: certificate-not-verified
requests.get(address, timeout=5, verify="authority.pem")

# ruleid: bound-to-all-interfaces
app.run(host="0.0.0.0")
# ruleid: bound-to-all-interfaces
serve(app, listen="0.0.0.0:8000")
# ruleid: bound-to-all-interfaces
socket.socket().bind(("", 8000))
# ruleid: bound-to-all-interfaces
HTTPServer(("", 8000), handler)
# ruleid: bound-to-all-interfaces
uvicorn.run(app, host="::")
# ok: bound-to-all-interfaces
app.run(host="127.0.0.1")
# ok: bound-to-all-interfaces
name.partition("::")
# ok: bound-to-all-interfaces
socket.socket().bind(("127.0.0.1", 0))

# ruleid: debug-server
app.run(debug=True)
# ruleid: debug-server
app.run(debug=wanted)
# ruleid: debug-server
app.debug = True
# ruleid: debug-server
app.config["DEBUG"] = True
# ok: debug-server
app.run(port=8000)
# ok: debug-server
app.run(debug=False)
# ok: debug-server
asyncio.run(main(), debug=True)
