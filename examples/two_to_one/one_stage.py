"""The same loop in one stage: what has changed is in two_to_one.diff.

python -m examples.two_to_one.one_stage
"""

import torch
from torch import Tensor

import osgan
from osgan import data, nets


def main(steps: int = 60, batch_size: int = 32) -> Tensor:
    torch.manual_seed(0)
    batches = data.load("digits", resolution=16, device="cpu").batches(batch_size, seed=0)
    G, D = nets.dcgan(resolution=16, width=8, channels=1)
    G_optimizer = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    D_optimizer = torch.optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999))
    step = osgan.OneStage(G, D, G_optimizer, D_optimizer, loss="nonsaturating", latent=osgan.Gaussian(100))

    for index in range(steps):
        real, _ = next(batches)

        D_loss, G_loss = step(real)

        if index % 20 == 0:
            print(f"step {index}: loss of D {D_loss:.3f}, of G {G_loss:.3f}")
    return G(torch.randn(64, 100)).detach()


if __name__ == "__main__":
    main()
