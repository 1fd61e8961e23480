# Fixture of the rules beside it: bad lines follow "ruleid", good ones "ok". Never imported.
import os
import pickle
import subprocess

import joblib
import numpy
import requests
import torch
import yaml

# ruleid: torch-load-weights-only
torch.load("weights.pt")
# ruleid: torch-load-weights-only
torch.load("weights.pt", weights_only=False)
# ok: torch-load-weights-only
torch.load("weights.pt", weights_only=True)

# ruleid: unpickling
pickle.load(stream)
# ruleid: unpickling
pickle.loads(content)
# ruleid: unpickling
joblib.load("model.joblib")
# ok: unpickling
json.load(stream)

# ruleid: numpy-allow-pickle
numpy.load("data.npy", allow_pickle=True)
# ok: numpy-allow-pickle
numpy.load("data.npy", allow_pickle=False)

# ruleid: yaml-unsafe-load
yaml.load(text, Loader=yaml.Loader)
# ruleid: yaml-unsafe-load
yaml.unsafe_load(text)
# ok: yaml-unsafe-load
yaml.load(text, Loader=yaml.SafeLoader)
# ok: yaml-unsafe-load
yaml.safe_load(text)

# ruleid: evaluated-code
eval(text)
# ruleid: evaluated-code
exec(text)
# ok: evaluated-code
network.eval()

# ruleid: shell-command
subprocess.run(command, shell=True)
# ruleid: shell-command
os.system(command)
# ok: shell-command
subprocess.run(["ls", "-l"])

# ruleid: archive-extractall
archive.extractall("folder")
# ok: archive-extractall
archive.extractall("folder", filter="data")

# ruleid: request-without-protection
requests.get(address)
# ruleid: request-without-protection
requests.get(address, timeout=5, verify=False)
# ok: request-without-protection
requests.get(address, timeout=5)

# ruleid: debug-server
app.run(debug=True)
# ok: debug-server
app.run(port=8000)
