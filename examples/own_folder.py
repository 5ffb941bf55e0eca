"""Own folder: pictures in one subfolder for each class, from a budget to a checked file.

    python examples/own_folder.py [PHOTOS]

Without a folder it writes scanned digits into one first. The same in five commands: eavit adapt, profile, choose,
export, verify (see the README).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from digits import arrays
from PIL import Image

import eavit
from eavit.adaptation.defaults import data_config
from eavit.adaptation.pictures import picture_loader, read_pictures
from eavit.weights import pico_letters


def write_pictures(folder: Path) -> Path:
    for number, (image, label) in enumerate(zip(*arrays(), strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:04}.png")
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(sys.argv[1]) if len(sys.argv) > 1 else write_pictures(Path(scratch) / "photos")
        pictures = read_pictures(photos)
        model = pico_letters(len(pictures.classes))  # or timm.create_model(..., pretrained=True, num_classes=...)
        data = data_config(model, {})  # size, mean and std that the weights expect
        train = picture_loader(pictures.train, pictures.classes, data, 32, training=True)
        val = picture_loader(pictures.val, pictures.classes, data, 256)

        elastic = eavit.adapt(model, train, val, (0.2, 0.5, 1.0), epochs=4)
        print(elastic)
        for budget, accuracy in elastic.accuracy.items():
            print(f"budget {budget:g}: {elastic.choose(budget=budget)}, accuracy {accuracy:.1%}")

        family = elastic.save(Path(scratch) / "digits.elastic")
        again = eavit.load(family)
        folder = eavit.export(
            again, Path(scratch) / "digits-half", budget=0.5, formats=("safetensors", "torch", "onnx")
        )
        for check in eavit.verify(folder, val):
            print(f"{check.form}: {check.agree} of {check.n} pictures get the same class")
            if not check.passed:
                raise SystemExit(f"{check.form} differs: {check}")


if __name__ == "__main__":
    main()
