"""A two-stage loop as scripts have it: update D, then G.

python -m examples.two_to_one.two_stage
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from osgan import data, nets


def main(steps: int = 60, batch_size: int = 32) -> Tensor:
    torch.manual_seed(0)
    batches = data.load("digits", resolution=16, device="cpu").batches(batch_size, seed=0)
    G, D = nets.dcgan(resolution=16, width=8, channels=1)
    G_optimizer = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
    D_optimizer = torch.optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999))

    for index in range(steps):
        real, _ = next(batches)

        fake = G(torch.randn(batch_size, 100))
        D_loss = softplus(-D(real)).mean() + softplus(D(fake.detach())).mean()
        D_optimizer.zero_grad()
        D_loss.backward()
        D_optimizer.step()

        fake = G(torch.randn(batch_size, 100))
        G_loss = softplus(-D(fake)).mean()
        G_optimizer.zero_grad()
        G_loss.backward()
        G_optimizer.step()

        if index % 20 == 0:
            print(f"step {index}: loss of D {D_loss:.3f}, of G {G_loss:.3f}")
    return G(torch.randn(64, 100)).detach()


if __name__ == "__main__":
    main()
