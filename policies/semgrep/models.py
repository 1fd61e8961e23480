# Fixture of the rules beside it: bad lines follow "ruleid", good ones "ok". Never imported.
import random

import foolbox as fb
import numpy as np
import torch
import torchattacks
from art.estimators.classification import PyTorchClassifier
from numpy.random import rand
from torch import manual_seed


def forgets(network, images):
    # ruleid: training-mode-left-on
    network.train()
    return network(images)


def wrong_order(network, images):
    network.eval()
    # ruleid: training-mode-left-on
    network.train(True)
    return network(images)


def ends_well(network, batches):
    for images in batches:
        # ok: training-mode-left-on
        network.train()
        network(images)
    network.eval()
    return network


def returns_well(network, images):
    # ok: training-mode-left-on
    network.train()
    network(images)
    return network.eval()


def switches_off(network):
    # ok: training-mode-left-on
    network.train(False)


def fresh(build, images, labels):
    network = build()
    # ruleid: attack-in-training-mode
    return torchattacks.PGD(network)(images, labels)


def trained(network):
    # ruleid: training-mode-left-on
    network.train()
    # ruleid: attack-in-training-mode
    return PyTorchClassifier(model=network, loss=None)


def own_attack(build, images, labels):
    network = build().to("cpu")
    # ruleid: attack-in-training-mode
    return pgd(network, images, labels)


def wrapped(build):
    network = build()
    network.eval()
    # ok: attack-in-training-mode
    return fb.PyTorchModel(network, bounds=(0, 1))


def chained(build):
    network = build().eval()
    # ok: attack-in-training-mode
    return torchattacks.FGSM(network, eps=0.3)


def handed_in(network):
    # ok: attack-in-training-mode
    return torchattacks.FGSM(network, eps=0.3)


def seeds(seed):
    # ruleid: global-seed
    torch.manual_seed(seed)
    # ruleid: global-seed
    manual_seed(seed)
    # ruleid: global-seed
    np.random.seed(seed)
    # ruleid: global-seed
    random.seed(seed)
    # ok: global-seed
    generator = torch.Generator().manual_seed(seed)
    # ok: global-seed
    return generator, np.random.default_rng(seed), random.Random(seed)


def restores(seed):
    before = np.random.get_state()
    with torch.random.fork_rng():
        # ok: global-seed
        torch.manual_seed(seed)
        # ok: global-seed
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


# ruleid: global-random-draw
np.random.rand(3)
# ruleid: global-random-draw
np.random.shuffle(images)
# ruleid: global-random-draw
rand(3)
# ok: global-random-draw
np.random.default_rng(7).random(3)
