"""Training: reproducible, resumable, cached under a content address, and never half-written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from model_under_test import artifact, kept, network, recipes, train, training
from model_under_test.errors import IntegrityError, RecipeError
from model_under_test.training import Checkpoint

CPU = torch.device("cpu")


def test_network_has_the_stated_size_and_returns_logits():
    built = network.build()
    assert sum(parameter.numel() for parameter in built.parameters()) == 421_642
    assert built(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    first, second = network.build_untrained().state_dict(), network.build_untrained().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_trains_and_repeats_itself(dataset, small_recipes, name):
    first, second = train.obtain(name, dataset, device="cpu"), train.obtain(name, dataset, device="cpu", retrain=True)
    assert first.sha256 == second.sha256


@pytest.mark.parametrize("name", ["hardened", "baseline"])
def test_stopped_and_resumed_run_gives_the_weights_of_an_unbroken_one(dataset, small_recipes, monkeypatch, cache, name):
    unbroken = train.obtain(name, dataset, device="cpu").sha256
    write = kept.write_checkpoint

    def write_and_stop(*what):
        write(*what)
        raise KeyboardInterrupt

    monkeypatch.setattr(kept, "write_checkpoint", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train.obtain(name, dataset, device="cpu", retrain=True)
    (folder,) = (cache / "weights").iterdir()
    assert (folder / "checkpoint").is_file()
    monkeypatch.undo()
    monkeypatch.setenv("MODEL_AUDIT_CACHE", str(cache))
    started = []
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda *a: started.append(a[3].epoch) or fit(*a))
    recipe = replace(recipes.find(name, "digits"), epochs=3, batch_size=16)
    monkeypatch.setitem(recipes._TABLE, ("digits", name), recipe)
    assert train.obtain(name, dataset, device="cpu", retrain=True).sha256 == unbroken
    assert started == [1]
    assert not (folder / "checkpoint").exists()


def test_other_examples_and_another_seed_give_other_weights_at_other_addresses(dataset, small_recipes, cache):
    first = train.obtain("baseline", dataset, device="cpu")
    reseeded = train.obtain("baseline", dataset, device="cpu", seed=8)
    flipped = dataset.training.labels.flip(0)
    relabelled = train.obtain("baseline", dataset, device="cpu", examples=(dataset.training.images, flipped))
    assert len({first.sha256, reseeded.sha256, relabelled.sha256}) == 3
    assert len(list((cache / "weights").iterdir())) == 3
    assert artifact.read_manifest(reseeded.path)["seed"] == 8
    assert artifact.read_manifest(relabelled.path)["data_digest"] != dataset.digest
    assert train.obtain("baseline", dataset, device="cpu") == first


def test_damaged_checkpoint_is_set_aside(dataset, small_recipes, cache, tmp_path):
    path = tmp_path / "checkpoint"
    kept.write_checkpoint(path, Checkpoint(2, {"model.w": torch.ones(2)}, [{"epoch": 2.0}]), "here")
    assert kept.read_checkpoint(path, "here").epoch == 2
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert kept.read_checkpoint(path, "here").epoch == 0
    assert not path.exists()


def restored(made, place):
    """Put what one run left in the cache where another's is looked for, as a misplaced archive of the cache does."""
    for source in (made.path, artifact.manifest_path(made.path)):
        shutil.copyfile(source, place.path.with_name(source.name))


def test_weights_of_another_recipe_in_a_recipes_cache_folder_are_trained_again(dataset, small_recipes):
    """Manifest and digest agree with each other, and so they were believed once."""
    baseline, liar = (train.obtain(name, dataset, device="cpu") for name in ("baseline", "fgsm_hardened"))
    restored(liar, baseline)
    again = train.obtain("baseline", dataset, device="cpu")
    assert again.sha256 == baseline.sha256 != liar.sha256
    assert artifact.sha256(again.path.read_bytes()) == baseline.sha256
    assert "set aside and trained again" in again.notes[0]
    assert "expected weights of the recipe baseline as it is now, the manifest says fgsm_hardened" in again.notes[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"recipe": {}}, "the recipe baseline as it is now, the manifest says None", id="recipe"),
        pytest.param({"recipe": "baseline"}, "as it is now, the manifest says baseline", id="recipe's name only"),
        pytest.param({"address": "sha256:0"}, "expected weights of the content address sha256:", id="address"),
        pytest.param({"address": None}, "the manifest says None", id="no address"),
        pytest.param({"sha256": None}, "expected SHA-256 None", id="no digest"),
    ],
)
def test_recipe_address_and_digest_of_cached_weights_must_agree(dataset, small_recipes, changes, words):
    first = train.obtain("baseline", dataset, device="cpu")
    manifest = artifact.read_manifest(first.path) | changes
    artifact.manifest_path(first.path).write_text(json.dumps(manifest), encoding="utf-8")
    again = train.obtain("baseline", dataset, device="cpu")
    assert words in again.notes[0]
    assert again.sha256 == first.sha256
    assert train.obtain("baseline", dataset, device="cpu").notes == ()


def test_weights_of_another_seed_in_a_recipes_cache_folder_are_trained_again(dataset, small_recipes):
    first, reseeded = (train.obtain("baseline", dataset, device="cpu", seed=seed) for seed in (7, 8))
    restored(reseeded, first)
    assert train.obtain("baseline", dataset, device="cpu").sha256 == first.sha256


def test_weights_of_poisoned_data_in_a_recipes_cache_folder_are_trained_again(dataset, small_recipes):
    poisoned = (dataset.training.images, dataset.training.labels.flip(0))
    first = train.obtain("baseline", dataset, device="cpu")
    restored(train.obtain("baseline", dataset, device="cpu", examples=poisoned), first)
    again = train.obtain("baseline", dataset, device="cpu")
    assert again.sha256 == first.sha256
    assert "expected weights of the content address sha256:" in again.notes[0]


def test_checkpoint_of_another_recipe_is_not_gone_on_from(dataset, small_recipes, cache, monkeypatch):
    """A finished checkpoint of another recipe would leave nothing to train, and its weights under this one's name."""
    left = []

    def write_and_look(path, *rest):
        write(path, *rest)
        left.append(path.read_bytes())

    write = kept.write_checkpoint
    monkeypatch.setattr(kept, "write_checkpoint", write_and_look)
    liar, finished = train.obtain("fgsm_hardened", dataset, device="cpu"), left[-1]
    baseline = train.obtain("baseline", dataset, device="cpu")
    baseline.path.with_name("checkpoint").write_bytes(finished)
    again = train.obtain("baseline", dataset, device="cpu", retrain=True)
    assert again.sha256 == baseline.sha256 != liar.sha256
    assert len(list(baseline.path.parent.glob("checkpoint.damaged-*"))) == 1


def test_second_call_takes_the_cache(dataset, small_recipes, monkeypatch):
    first = train.obtain("baseline", dataset, device="cpu")
    monkeypatch.setattr(training, "fit", lambda *arguments: pytest.fail("trained again"))
    assert train.obtain("baseline", dataset, device="cpu") == first


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "one byte"])
def test_corrupted_cached_weights_are_set_aside_named_and_made_again(dataset, small_recipes, damage):
    first = train.obtain("baseline", dataset, device="cpu")
    first.path.write_bytes(first.path.read_bytes()[:-1] + b"!" if damage is None else damage)
    again = train.obtain("baseline", dataset, device="cpu")
    assert again.sha256 == first.sha256
    assert "weights.safetensors.damaged-" in again.notes[0]
    assert "set aside and trained again" in again.notes[0]
    assert len(list(first.path.parent.glob("*.damaged-*"))) == 1


def test_missing_manifest_means_training_again(dataset, small_recipes):
    first = train.obtain("baseline", dataset, device="cpu")
    artifact.manifest_path(first.path).unlink()
    assert train.obtain("baseline", dataset, device="cpu").sha256 == first.sha256


def test_address_changes_with_recipe_and_data(dataset):
    baseline = recipes.find("baseline", "digits")
    addresses = {
        train.content_address(baseline, dataset, CPU),
        train.content_address(replace(baseline, seed=8), dataset, CPU),
        train.content_address(baseline, replace(dataset, digest="sha256:other"), CPU),
    }
    assert len(addresses) == 3


def test_manifest_and_log_tell_where_the_weights_come_from(dataset, small_recipes, cache):
    trained = train.obtain("baseline", dataset, device="cpu")
    manifest = artifact.read_manifest(trained.path)
    assert manifest["sha256"] == trained.sha256
    assert manifest["data_digest"] == dataset.digest
    assert manifest["recipe"]["epochs"] == 3
    assert manifest["metrics"]["epoch"] == 3
    assert set(manifest["run"]) == {"actor", "commit", "started", "seconds", "threads"}
    (line,) = (cache / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["sha256"] == trained.sha256


def test_ci_job_is_named(monkeypatch):
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    assert train._actor() == "github:owner/name/42"


def test_released_weights_are_those_of_todays_recipe_and_code():
    """When this fails, train and release again: python -m model_under_test.train hardened --dataset mnist --release."""
    path = train.RELEASE / "mnist-hardened.safetensors"
    manifest = artifact.read_manifest(path)
    if manifest["versions"]["python"] != train._versions()["python"]:
        pytest.skip("the digest of parsed code is comparable between equal versions of Python only")
    assert artifact.load(path, manifest["sha256"])
    assert manifest["recipe"] == recipes.find("hardened", "mnist").config()
    assert manifest["code_digest"] == train.code_digest()
    assert manifest["parameters"] == 421_642


def test_release_copies_weights_and_manifest(dataset, small_recipes, tmp_path):
    trained = train.obtain("baseline", dataset, device="cpu")
    path = train.release(trained, "digits", "baseline", tmp_path / "release")
    assert path.name == "digits-baseline.safetensors"
    assert artifact.load(path, trained.sha256)
    assert artifact.read_manifest(path)["file"] == path.name


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.05), (5.0, 0.999), (20.0, 0.001)])
def test_cyclic_rate_rises_and_falls(epoch, share):
    recipe = replace(recipes.find("hardened", "mnist"), epochs=20)
    assert training._rate(recipe, epoch) <= recipe.peak_rate * max(share, 1e-3) * 1.3
    assert training._rate(recipe, 20 / 3) == pytest.approx(recipe.peak_rate)


def test_worst_case_images_stay_in_ball_and_box(dataset):
    recipe = recipes.find("hardened", "mnist")
    run = training._Run(recipe, dataset.training, CPU, Checkpoint())
    images, labels = dataset.training.images, dataset.training.labels
    moved = run._worst_case(images, labels, recipe.adversary, position=99.0)
    assert float((moved - images).abs().max()) <= recipe.adversary.eps + 1e-6
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1


@pytest.mark.parametrize(
    ("name", "data"), [("hardend", "mnist"), ("hardened", "svhn")], ids=["unknown recipe", "unknown dataset"]
)
def test_unknown_recipe_is_named(name, data):
    with pytest.raises(RecipeError, match="expected one of baseline on digits"):
        recipes.find(name, data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "expected a weight manifest", id="missing"),
        pytest.param("{", "expected a weight manifest", id="no JSON"),
        pytest.param("[]", "expected a weight manifest", id="a list"),
        pytest.param('{"schema_version": 99}', "expected schema_version 1, got 99", id="from the future"),
    ],
)
def test_bad_manifest_is_refused(tmp_path, content, words):
    path = tmp_path / "w.safetensors"
    if content is not None:
        artifact.manifest_path(path).write_text(content, encoding="utf-8")
    with pytest.raises(IntegrityError, match=words):
        artifact.read_manifest(path)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"x" * 9, "expected SHA-256")], ids=["missing", "another digest"]
)
def test_bad_weights_are_refused(tmp_path, content, words):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IntegrityError, match=words):
        artifact.load(path, "0" * 64)


def test_oversized_and_pickled_weights_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"cbuiltins\nprint\n(S'never'\ntR.")
    with pytest.raises(IntegrityError, match="pickled weights are never loaded"):
        artifact.load(path, artifact.sha256(path.read_bytes()))
    monkeypatch.setattr(artifact, "MAXIMUM_BYTES", 3)
    with pytest.raises(IntegrityError, match="expected at most 3 bytes"):
        artifact.load(path, "0" * 64)


def test_command_line_trains_and_says_where(small_recipes, dataset, monkeypatch, capsys):
    monkeypatch.setattr(train.data, "load", lambda name: dataset)
    assert train.main(["baseline", "--dataset", "digits", "--device", "cpu"]) == 0
    out = capsys.readouterr()
    assert "weights.safetensors\nsha256 " in out.out
    assert "baseline on digits (cpu): 9/9 steps, loss" in out.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (IntegrityError("damaged"), 4, "IntegrityError: damaged"),
        (KeyboardInterrupt(), 2, "goes on after the last finished epoch"),
    ],
    ids=["damaged data", "Ctrl-C"],
)
def test_command_line_says_what_went_wrong(monkeypatch, capsys, error, code, words):
    def fail(name):
        raise error

    monkeypatch.setattr(train.data, "load", fail)
    assert train.main(["baseline", "--dataset", "digits"]) == code
    assert words in capsys.readouterr().err
