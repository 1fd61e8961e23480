# Fixture of the rules beside it: bad lines follow "ruleid", good ones "ok". Never imported.
import marshal
import pickle
import shelve
import shutil
import tarfile
import zipfile
from pickle import Unpickler
from torch import load
from yaml import unsafe_load

import dill
import joblib
import numpy as np
import pandas as pd
import torch as t
import torch
import yaml

# ruleid: torch-load-weights-only
torch.load("weights.pt")
# ruleid: torch-load-weights-only
torch.load("weights.pt", weights_only=False)
# ruleid: torch-load-weights-only
t.load("weights.pt", map_location="cpu")
# ruleid: torch-load-weights-only
load("weights.pt")
# ruleid: torch-load-weights-only
torch.load("weights.pt", weights_only=safe)
# ok: torch-load-weights-only
torch.load("weights.pt", weights_only=True)
# ok: torch-load-weights-only
load("weights.pt", map_location="cpu", weights_only=True)

# ruleid: unpickling
pickle.load(stream)
# ruleid: unpickling
pickle.loads(content)
# ruleid: unpickling
Unpickler(stream).load()
# ruleid: unpickling
joblib.load("model.joblib")
# ruleid: unpickling
dill.load(stream)
# ruleid: unpickling
shelve.open("models")
# ruleid: unpickling
marshal.loads(content)
# ruleid: unpickling
pd.read_pickle("frame.pkl")
# ok: unpickling
json.load(stream)
# ok: unpickling
pickle.dumps(network)
# ok: unpickling
joblib.dump(network, "model.joblib")

# ruleid: numpy-allow-pickle
np.load("data.npy", allow_pickle=True)
# ruleid: numpy-allow-pickle
np.load("data.npy", None, True)
# ruleid: numpy-allow-pickle
np.load("data.npy", allow_pickle=trusted)
# ok: numpy-allow-pickle
np.load("data.npy", allow_pickle=False)
# ok: numpy-allow-pickle
np.load("data.npy")

# ruleid: yaml-unsafe-load
yaml.load(text, Loader=yaml.Loader)
# ruleid: yaml-unsafe-load
yaml.load(text)
# ruleid: yaml-unsafe-load
yaml.load_all(text, Loader=yaml.FullLoader)
# ruleid: yaml-unsafe-load
unsafe_load(text)
# ok: yaml-unsafe-load
yaml.load(text, Loader=yaml.SafeLoader)
# ok: yaml-unsafe-load
yaml.load(text, yaml.CSafeLoader)
# ok: yaml-unsafe-load
yaml.safe_load(text)

with tarfile.open("archive.tar") as archive:
    # ruleid: archive-extractall
    archive.extractall("folder")
    # ruleid: archive-extractall
    archive.extractall("folder", filter="fully_trusted")
    # ok: archive-extractall
    archive.extractall("folder", filter="data")
# ruleid: archive-extractall
zipfile.ZipFile("archive.zip").extractall()
# ruleid: archive-extractall
shutil.unpack_archive("archive.tar", "folder")
# ok: archive-extractall
zipfile.ZipFile("archive.zip").read("weights.safetensors")
