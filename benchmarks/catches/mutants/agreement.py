"""Weaknesses that the check ``agreement`` must find."""

from __future__ import annotations

from benchmarks.catches.mutant import Mutant, Patch

SAID = '    said: dict[str, Any] = {"class": prediction.digit}\n'
ANSWER = "    said = [_said(service, prediction) for prediction in predictions]\n"
NUMBERS = "    return pixels.from_json(body, settings)"
CENTRED = "    return torch.from_numpy(_centred(_light_on_dark(_grey(picture)))).reshape(-1)"
ROUNDED = "[round(share, DECIMALS) for share in prediction.probabilities]"
CLASS = "another class"
PICTURE = ("another class of a picture", "another picture seen")


def _lies(condition: str) -> tuple[Patch, ...]:
    """Return a patch that answers the next class where a request fits a condition."""
    told = f'    if {condition}:\n        said = [one | {{"class": (one["class"] + 1) % 10}} for one in said]\n'
    return (Patch("endpoints.py", ANSWER, ANSWER + told),)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("another class to whoever names a browser", "agreement", (CLASS,),
           _lies('"Mozilla" in exchange.request.headers.get("user-agent", "")')),
    Mutant("another class to whoever names no program", "agreement", (CLASS,),
           _lies('"user-agent" not in exchange.request.headers')),
    Mutant("another class on connections that stay open", "agreement", (CLASS,),
           _lies('exchange.request.headers.get("connection", "") != "close"')),
    Mutant("another class for bodies that come in chunks", "agreement", (CLASS,),
           _lies('"transfer-encoding" in exchange.request.headers')),
    Mutant("another class at the address with the version", "agreement", (CLASS,),
           _lies('exchange.request.url.path == "/v1/predict"')),
    Mutant("another class for one image in two hundred", "agreement", (CLASS,),
           _lies('int(exchange.input_sha256 or "0", 16) % 200 == 0')),
    Mutant("numbers are read with their rows and columns exchanged", "agreement", (CLASS, "other probabilities"),
           (Patch("endpoints.py", NUMBERS, NUMBERS + ".reshape(-1, 28, 28).mT.flatten(1)"),)),
    Mutant("pixels are read with three bits", "agreement", ("other probabilities",),
           (Patch("endpoints.py", NUMBERS, NUMBERS + ".half().float().mul(8).round().div(8)"),)),
    Mutant("probabilities are rounded to two decimals", "agreement", ("other probabilities",),
           (Patch("endpoints.py", ROUNDED, "[round(share, 2) for share in prediction.probabilities]"),)),
    Mutant("no probabilities", "agreement", ("no probabilities",),
           (Patch("endpoints.py", "    if service.settings.probabilities:", "    if False:"),)),
    Mutant("probabilities as text", "agreement", ("no probabilities",),
           (Patch("endpoints.py", ROUNDED, "[str(share) for share in prediction.probabilities]"),)),
    Mutant("the digest of another release", "agreement", ("another digest",),
           (Patch("model.py", 'return f"sha256:{self._sha256}"', 'return "sha256:" + self._sha256[::-1]'),)),
    Mutant("no digest in the answer", "agreement", ("another digest",),
           (Patch("endpoints.py", '"model_digest": service.model.digest, "request_id": exchange',
                  '"request_id": exchange'),)),
    Mutant("the class is refused where it is unlikely", "agreement", ("no class",),
           (Patch("endpoints.py", ANSWER, "    if max(predictions[0].probabilities) < 0.6:\n"
                  '        raise malformed("Not sure.")\n' + ANSWER),)),
    Mutant("an answer names the class otherwise", "agreement", ("no class",),
           (Patch("endpoints.py", '{"class": prediction.digit}', '{"label": prediction.digit}'),)),
    Mutant("every answer is eight seconds late", "agreement", ("late",),
           (Patch("endpoints.py", ANSWER, ANSWER + '    __import__("time").sleep(8)\n'),)),
    Mutant("one answer in two hundred is six seconds late", "agreement", ("late",),
           (Patch("service.py", "        for prediction in predictions:\n            self.metrics",
                  "        if int(input_sha256, 16) % 200 == 0:\n            time.sleep(6)\n"
                  "        for prediction in predictions:\n            self.metrics"),)),
    Mutant("pictures are mirrored", "agreement", PICTURE,
           (Patch("images.py", "_light_on_dark(_grey(picture))", "_light_on_dark(_grey(picture)[:, ::-1])"),)),
    Mutant("pictures in forms are turned", "agreement", PICTURE,
           (Patch("endpoints.py", "        return images.from_picture(body if content is None else content, "
                  "settings).unsqueeze(0)\n",
                  "        seen = images.from_picture(body if content is None else content, settings).unsqueeze(0)\n"
                  "        return seen if content is None else seen.reshape(28, 28).T.reshape(1, -1)\n"),)),
    Mutant("pictures are stretched to the whole box", "agreement", PICTURE,
           (Patch("images.py", "size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))",
                  "size = (BOX, BOX)"),)),
    Mutant("pictures lie one pixel too high", "agreement", PICTURE,
           (Patch("images.py", "max(round(SIDE / 2 - centre), 0)", "max(round(SIDE / 2 - centre) - 1, 0)"),)),
    Mutant("dark ink on light paper is not inverted", "agreement", (*PICTURE, "picture refused"),
           (Patch("images.py", "    if np.median(border) > 127.5:", "    if False:"),)),
    Mutant("no JPEG is read", "agreement", ("picture refused",),
           (Patch("images.py", 'picture.format == "JPEG" and body.count(_START_OF_SCAN) > MOST_SCANS',
                  'picture.format == "JPEG"'),)),
    Mutant("what was seen is told of another picture", "agreement", ("another picture seen",),
           (Patch("endpoints.py", "(shown[0] * 255)", "((1 - shown[0]) * 255)"),)),
)  # fmt: skip
