"""PyTorch's DCGAN example (pytorch/examples, dcgan/main.py), a script without functions.

The script is split at run time: what comes before its loop over epochs is executed once, its loop over batches is
compiled as it stands and executed with a loader of so many batches.
"""

import copy
import itertools
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from torch import nn

from bench.peers.imports import importing, parse, split
from bench.peers.peer import Changes, Maps, Ours, Peer, PeerCase, Settings, Theirs
from osgan.errors import InputError

RESOLUTION = 64
NAMES = ("netG", "netD", "optimizerG", "optimizerD", "dataloader", "nz")


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[PeerCase]:
    """Return the example's one case."""
    file = path / "dcgan" / "main.py"
    batch_size, width = settings.batch_size, settings.width
    set_up, over_batches, epoch = split(file, parse(file).body, "dataloader")
    device = settings.device.type
    words = ["--dataset", "fake", "--workers", "0", "--ngpu", "1", "--manualSeed", "0"]
    words += ["--batchSize", str(batch_size), "--ngf", str(width), "--ndf", str(width), "--imageSize", str(RESOLUTION)]
    if device != "cpu":
        words.append("--accel" if "--accel" in file.read_text(encoding="utf-8") else "--cuda")
    namespace: dict[str, Any] = {"__name__": "dcgan_main", "__file__": str(file)}
    with mock.patch.object(sys, "argv", [str(file), *words]), importing(file):
        try:
            exec(set_up, namespace)
        except SystemExit:
            raise InputError(
                f"{file} does not take the options {' '.join(words)}, which the adapter gives it"
            ) from None
    if missing := [name for name in NAMES if name not in namespace]:
        raise InputError(f"{file} defines no {', '.join(missing)} before its loop, which the adapter looks for")
    changes.patch("The loop over batches is executed with batches on the device in place of its loader.")
    changes.patch(
        "The loop's counter runs on from one timed visit to the next, so that it saves images every 100 steps."
    )
    changes.remark(
        "The loop prints after every step, for which it calls .item() five times, and so waits for the device; what it "
        "prints is thrown away."
    )
    changes.remark(
        "D is batch-normalised and the loss is non-saturating, so one backward pass cannot carry both gradients: ours "
        "on the same loss is `simultaneous`; `one_stage` runs the symmetric loss on the same networks."
    )
    changes.remark("Ours takes D without its last layer, a sigmoid: our losses are functions of logits.")
    generator, discriminator = namespace["netG"], namespace["netD"]
    counter = itertools.count()

    def count_on(batches: Any, start: int = 0) -> Any:
        return ((next(counter), batch) for batch in batches)

    def loop(G: Any, D: Any, of_G: Any, of_D: Any, batches: Any) -> None:
        namespace.update(netG=G, netD=D, optimizerG=of_G, optimizerD=of_D, dataloader=batches, enumerate=count_on)
        namespace[epoch] = 0
        exec(over_batches, namespace)

    optimizers = namespace["optimizerG"], namespace["optimizerD"]
    case = PeerCase(
        name="DCGAN example",
        loss="nonsaturating",
        batch_size=batch_size,
        image_shape=(3, RESOLUTION, RESOLUTION),
        about={"architecture": "DCGAN 64x64", "width": width, "latent": namespace["nz"]},
        generator=copy.deepcopy(generator),
        discriminator=_without_sigmoid(copy.deepcopy(discriminator), file),
        latent=Maps(int(namespace["nz"])),
        theirs={
            "theirs two_stage_reused": Theirs(
                "two_stage_reused", "dcgan/main.py", generator, discriminator, *optimizers, loop
            )
        },
        ours={
            "ours simultaneous": Ours("simultaneous"),
            "ours one_stage minimax": Ours("one_stage", "minimax", "another loss than theirs, the symmetric one"),
            "ours two_stage_reused": Ours("two_stage_reused"),
        },
        targets={"theirs two_stage_reused": 2.0},
        judged=("ours simultaneous", "ours one_stage minimax"),
    )
    return [case]


def _without_sigmoid(discriminator: nn.Module, file: Path) -> nn.Module:
    layers = getattr(discriminator, "main", None)
    if not isinstance(layers, nn.Sequential) or not isinstance(layers[-1], nn.Sigmoid):
        raise InputError(f"{file}: Discriminator.main does not end in a Sigmoid, which the adapter takes off for ours")
    layers[-1] = nn.Identity()
    return discriminator


PEER = Peer(
    key="pytorch-dcgan",
    title="PyTorch's DCGAN example",
    url="https://github.com/pytorch/examples",
    recognised_by=("dcgan/main.py",),
    batch_size=64,
    width=64,
    resolutions=(RESOLUTION,),
    open=open_checkout,
)
