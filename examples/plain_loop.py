"""One-stage training in a plain loop: your networks, your optimizers, your batches, one call a step.

python -m examples.plain_loop
"""

import torch

import osgan
from osgan import data, nets


def main(steps: int = 100, batch_size: int = 32) -> list[float]:
    torch.manual_seed(0)
    digits = data.load("digits", resolution=16, device="cpu")
    G, D = nets.dcgan(resolution=16, width=8, channels=1)

    step = osgan.OneStage(
        G,
        D,
        torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999)),
        torch.optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999)),
        loss="nonsaturating",
        latent=osgan.Gaussian(G.latent_dim),
        regularizers=(osgan.regularizers.R1(0.1, every=8),),
    )

    distances = []
    for index, (real, _) in zip(range(steps), digits.batches(batch_size, seed=0), strict=False):
        stats = step(real)
        if index % 20 == 0 or index == steps - 1:  # reading a loss waits for the device: not at every step
            fake = G(torch.randn(256, G.latent_dim)).detach()
            distances.append((fake.mean(0) - digits.images(1797).mean(0)).norm().item())
            losses = f"loss of D {stats.discriminator_loss:.3f}, of G {stats.generator_loss:.3f}"
            print(f"step {index}: {losses}, distance of the mean image {distances[-1]:.2f}")
    return distances


if __name__ == "__main__":
    main()
