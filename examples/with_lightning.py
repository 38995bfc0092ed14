"""One stage under Lightning: manual optimization, with `osgan.backward` in the place of `manual_backward`.

Under DDP the strategy must be told, since it does not see this backward pass: without `pre_backward` the processes'
gradients are not averaged, and nothing says so. `precision="bf16-mixed"` needs no other change. "16-mixed" is not for
this: Lightning changes its scale in every optimizer's step, while both players' gradients have been scaled by one.

python -m examples.with_lightning
"""

import lightning
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

import osgan
from osgan import data, nets


class GAN(lightning.LightningModule):
    """Both networks, their optimizers and the step."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.G, self.D = nets.dcgan(resolution=16, width=width, channels=1)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return G's optimizer and D's."""
        rates = ((self.G, 1e-3), (self.D, 2e-4))
        return [torch.optim.Adam(network.parameters(), lr, (0.5, 0.999)) for network, lr in rates]

    def training_step(self, real: Tensor) -> None:
        """Take a step of both players."""
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        fakes = self.G(torch.randn(len(real), 100, device=self.device))
        leaf = osgan.tap(fakes)
        on_real, on_fake = self.D(real), self.D(leaf)
        D_loss = softplus(-on_real).mean() + softplus(on_fake).mean()
        G_loss = softplus(-on_fake).mean()
        self.trainer.strategy.pre_backward(D_loss)
        osgan.backward(leaf, D_loss, G_loss, logits=(on_real, on_fake))
        for optimizer in optimizers:
            optimizer.step()


def main(epochs: int = 2, **trainer: object) -> GAN:
    images = data.load("digits", resolution=16, device="cpu").images(1797)
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False} | trainer
    gan = GAN()
    lightning.Trainer(max_epochs=epochs, **settings).fit(gan, DataLoader(images, 32, shuffle=True, drop_last=True))
    return gan


if __name__ == "__main__":
    main()
