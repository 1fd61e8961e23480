"""The second scanner: what it understands, what it finds, and that silence about the rest is no opinion."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import save

from audit.artifacts.corpus import build
from audit.artifacts.corpus.pickles import plain
from audit.artifacts.second_opinion import scan
from audit.errors import ScannerMissing


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path, name


def test_safetensors_and_texts_are_not_understood(tmp_path):
    """The tool itself reports one scanned file and no issue for either."""
    opinion = scan([written(tmp_path, "w.pt", save({"w": torch.zeros(2)})), written(tmp_path, "m.json", b"{}")])
    assert opinion.understood == ()
    assert opinion.passed_over == ("w.pt", "m.json")
    assert opinion.findings == ()


def test_a_good_state_dict_is_clean(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.pt")
    opinion = scan([(tmp_path / "w.pt", "w.pt")])
    assert opinion.understood == ("w.pt",)
    assert opinion.findings == ()


def test_a_malicious_pickle_is_found_under_any_name(tmp_path):
    opinion = scan([written(tmp_path, "w.txt", plain(str(tmp_path / "marker")))])
    (finding,) = opinion.findings
    assert finding.message == "calls builtins.open"
    assert not (tmp_path / "marker").exists()


def test_a_damaged_file_is_not_clean(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.pt")
    (finding,) = scan([written(tmp_path, "w.pt", (tmp_path / "w.pt").read_bytes()[:300])]).findings
    assert "could not be read" in finding.message


def test_most_of_the_corpus_is_found_and_nothing_of_it_runs(tmp_path):
    malicious = [one for one in build(tmp_path / "marker") if one.pickled is not None]
    opinion = scan([written(tmp_path, one.file, one.content) for one in malicious])
    assert len(opinion.findings) > len(malicious) / 2
    assert not (tmp_path / "marker").exists()


def test_another_module_of_its_name_is_not_imported(tmp_path, monkeypatch):
    """The working folder comes first on Python's path: a module there would say that every file is clean."""
    (tmp_path / "picklescan.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "picklescan"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ScannerMissing, match="picklescan: another module of this name comes before the installed one"):
        scan([])
