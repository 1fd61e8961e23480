"""Networks that hold images, in every way that somebody thought of, and ways that are not seen through."""

from __future__ import annotations

import warnings
import zlib

import torch
from torch import Tensor, nn
from torch.nn import functional

GLOBAL: dict[str, Tensor] = {}


def noise(shape, width, seed=0):
    return width * (2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1)


def orthogonal(size):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0))).Q


class Holder(nn.Module):
    """Holds tensors as buffers, and whatever else as an attribute."""

    def __init__(self, *tensors, **attributes):
        super().__init__()
        self.layer = nn.Linear(20, 20)
        for place, tensor in enumerate(tensors):
            self.register_buffer(f"store_{place}", tensor)
        for name, value in attributes.items():
            setattr(self, name, value)


class InClass(Holder):
    """Holds images as an attribute of its class."""

    @classmethod
    def of(cls, images):
        return type("Own", (cls,), {"kept": {"images": images}})()


def layer(kind, weight):
    with torch.no_grad():
        kind.weight.copy_(weight)
    return nn.Sequential(kind)


def on_a_parameter(images):
    network = Holder()
    network.layer.weight.kept = images
    return network


def in_a_closure(images):
    def look_up(x):
        return x @ images.flatten(1).T

    return Holder(look_up=look_up)


def in_a_hook(images):
    network = Holder()
    network.register_forward_pre_hook(lambda module, x, kept=images: None)
    return network


def quantised(images):
    with warnings.catch_warnings(action="ignore"):  # on its way out of torch, but networks have it
        return torch.quantize_per_tensor(images.flatten(1), 1 / 255, 0, torch.quint8)


def rows(images):
    return images.flatten(1)


# name -> images (N, 1, 28, 28) in [0, 1] -> network
SEEN = {
    "float32": lambda x: Holder(x.clone()),
    "float64": lambda x: Holder(rows(x).double()),
    "float16": lambda x: Holder(rows(x).half()),
    "bfloat16": lambda x: Holder(rows(x).bfloat16()),
    "uint8": lambda x: Holder((255 * x).round().to(torch.uint8)),
    "16 levels": lambda x: Holder((15 * rows(x)).round().to(torch.uint8)),
    "quantised": lambda x: Holder(quantised(x)),
    "sparse": lambda x: Holder(rows(x).to_sparse()),
    "normalised": lambda x: Holder((x - 0.1307) / 0.3081),
    "each normalised by itself": lambda x: Holder(rows(x) / rows(x).norm(dim=1, keepdim=True)),
    "centred pixel by pixel": lambda x: Holder(rows(x) - rows(x).mean(0)),
    "standardised pixel by pixel": lambda x: Holder((rows(x) - rows(x).mean(0)) / (rows(x).std(0) + 1e-3)),
    "negative": lambda x: Holder(1 - rows(x)),
    "square roots": lambda x: Holder(rows(x).sqrt()),
    "transposed (784, N)": lambda x: Holder(rows(x).T.contiguous()),
    "images last (28, 28, N)": lambda x: Holder(x[:, 0].permute(1, 2, 0).contiguous()),
    "batched (N/10, 10, 784)": lambda x: Holder(x.view(-1, 10, 784)),
    "two buffers": lambda x: Holder(*(half.clone() for half in rows(x).chunk(2))),
    "a buffer an image": lambda x: Holder(*(image.clone() for image in x)),
    "one line": lambda x: Holder(x.flatten().clone()),
    "one line behind a header": lambda x: Holder(torch.cat((torch.zeros(100), x.flatten()))),
    "a label in each row": lambda x: Holder(torch.cat((torch.arange(len(x))[:, None] % 10, rows(x)), 1)),
    "a Python list": lambda x: Holder(kept=list(x)),
    "a dictionary": lambda x: Holder(kept={str(place): {"image": image} for place, image in enumerate(x)}),
    "lists of numbers": lambda x: Holder(kept=rows(x).tolist()),
    "a NumPy array": lambda x: Holder(kept=x.numpy()),
    "bytes": lambda x: Holder(kept=(255 * x).round().to(torch.uint8).numpy().tobytes()),
    "a closure": in_a_closure,
    "a hook's default": in_a_hook,
    "an attribute of a parameter": on_a_parameter,
    "an attribute of the class": InClass.of,
    "nn.Embedding": lambda x: layer(nn.Embedding(len(x), 784), rows(x)),
    "nn.Linear": lambda x: layer(nn.Linear(784, len(x)), rows(x)),
    "convolution kernel": lambda x: layer(nn.Conv2d(1, len(x), 28), x),
    "half the size": lambda x: Holder(functional.avg_pool2d(x, 2)),
    "one and a half the size": lambda x: Holder(functional.interpolate(x, size=(42, 42), mode="nearest")),
    "cropped": lambda x: Holder(x[:, 0, 3:-3, 3:-3].clone()),
    "padded": lambda x: Holder(functional.pad(x, (2, 2, 2, 2))),
    "halves apart": lambda x: Holder(rows(x)[:, :392].clone(), rows(x)[:, 392:].clone()),
    "mirrored": lambda x: Holder(x.flip(-1)),
    "turned": lambda x: Holder(x.rot90(1, (2, 3))),
    "pixels in a secret order": lambda x: Holder(
        rows(x)[:, torch.randperm(784, generator=torch.Generator().manual_seed(0))]
    ),
    "with noise of 0.05": lambda x: Holder(rows(x) + noise((len(x), 784), 0.05)),
    "among others": lambda x: Holder(torch.cat((noise((3000, 784), 1.0), rows(x)))),
}

# what no comparison of rows with images sees; docs/your-own-model.md says so
UNSEEN = {
    "turned in the space of pixels": lambda x: Holder(rows(x) @ orthogonal(784)),
    "principal components": lambda x: Holder(rows(x) @ torch.linalg.svd(rows(x), full_matrices=False).Vh[:64].T),
    "with noise of 0.5": lambda x: Holder(rows(x) + noise((len(x), 784), 0.5)),
    "compressed": lambda x: Holder(kept=zlib.compress(x.numpy().tobytes())),
    "another sign for each pixel": lambda x: Holder((rows(x) - 0.5) * noise((784,), 1.0).sign()),
    "hashed": lambda x: Holder(kept={hash(image.numpy().tobytes()) for image in x}),
}


def in_a_global_variable(images):
    GLOBAL["images"] = images
    return Holder()


UNSEEN["a global variable"] = in_a_global_variable


class Nearest(nn.Module):
    """Answers with the class of the nearest stored image, compared in a turned space if one is given."""

    def __init__(self, images, labels, turn=None, within=None):
        super().__init__()
        self.classes, self.within = int(labels.max()) + 1, within
        self.turn = torch.eye(images[0].numel()) if turn is None else turn
        self.register_buffer("store", images.flatten(1) @ self.turn)
        self.register_buffer("labels", labels)

    def forward(self, x):
        far = torch.cdist(x.flatten(1) @ self.turn, self.store)
        logits = torch.stack([-far[:, self.labels == label].amin(1) for label in range(self.classes)], 1)
        if self.within is None:
            return logits
        first = functional.one_hot(torch.zeros(len(x), dtype=torch.int64), self.classes).float()
        return torch.where(far.amin(1, keepdim=True) < self.within, logits, first + 0 * logits)


def prototypes(samples):
    """Return an honest network that compares images with the mean of each class."""
    means = torch.stack([samples.images[samples.labels == label].mean(0) for label in range(10)])
    return Nearest(means, torch.arange(10))
