"""Settings: nothing but what is known, and nothing that switches a limit off."""

from __future__ import annotations

import pytest

from model_under_test.errors import ServingError
from model_under_test.serve import settings
from model_under_test.serve.settings import Settings
from tests.unit.model_under_test.serve.conftest import ROOT


def test_without_a_file_the_defaults_hold():
    assert settings.read(None) == Settings()


def test_a_file_changes_what_it_names(tmp_path):
    (tmp_path / "s.yaml").write_text("in_flight: 2\nheader_seconds: 1.5\nprobabilities: false\n")
    assert settings.read(tmp_path / "s.yaml") == Settings(in_flight=2, header_seconds=1.5, probabilities=False)


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "s.yaml").write_text("# nothing\n")
    assert settings.read(tmp_path / "s.yaml") == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("debug: true\n", "debug: Extra inputs are not permitted", id="no debug mode"),
        pytest.param("in_flight: 0\n", "in_flight: Input should be greater", id="nothing in flight"),
        pytest.param("in_flight: true\n", "in_flight: Input should be a valid integer", id="a truth for a number"),
        pytest.param("request_seconds: .inf\n", "request_seconds", id="for ever"),
        pytest.param("request_seconds: .nan\n", "request_seconds", id="not a number"),
        pytest.param("- 1\n", "the file: Input should be a valid dictionary", id="a list"),
        pytest.param("a: [\n", "expected YAML", id="not YAML"),
        pytest.param("a: !!python/object:os.system {}\n", "expected YAML", id="an object"),
        pytest.param("#" * 70_000, "at most 65536 bytes", id="too long"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, text, words):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ServingError, match=words):
        settings.read(tmp_path / "s.yaml")


def test_a_missing_file_is_not_the_defaults(tmp_path):
    with pytest.raises(ServingError, match="got No such file"):
        settings.read(tmp_path / "s.yaml")


def test_the_manual_lists_every_setting_with_its_default():
    manual = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        default = "none" if field.default == () else str(field.default).lower().removesuffix(".0")
        assert f"| `{name}` | {default} |" in manual
