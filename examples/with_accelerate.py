"""One stage under Accelerate: gradient accumulation, each player's gradient clipped, any number of processes.

`mixed_precision="bf16"` needs no other change. "fp16" is not for this: Accelerate changes its scale in every
optimizer's step, while both players' gradients have been scaled by one.

python -m examples.with_accelerate, or accelerate launch -m examples.with_accelerate
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

import osgan
from osgan import data, nets


def main(epochs: int = 2, accumulate: int = 2, limit: float = 1.0) -> tuple[nn.Module, nn.Module]:
    accelerator = Accelerator(gradient_accumulation_steps=accumulate)
    G, D = nets.dcgan(resolution=16, width=8, channels=1)
    G_optimizer = torch.optim.Adam(G.parameters(), 1e-3, (0.5, 0.999))
    D_optimizer = torch.optim.Adam(D.parameters(), 2e-4, (0.5, 0.999))
    loader = DataLoader(data.load("digits", resolution=16, device="cpu").images(1797), 32, shuffle=True, drop_last=True)
    G, D, G_optimizer, D_optimizer, loader = accelerator.prepare(G, D, G_optimizer, D_optimizer, loader)

    for _ in range(epochs):
        for real in loader:
            with accelerator.accumulate(G, D):
                leaf = osgan.tap(G(torch.randn(len(real), 100, device=accelerator.device)))
                on_real, on_fake = D(real), D(leaf)
                D_loss = softplus(-on_real).mean() + softplus(on_fake).mean()
                G_loss = softplus(-on_fake).mean()
                # in the place of accelerator.backward, which divides by the number of batches
                osgan.backward(leaf, D_loss / accumulate, G_loss / accumulate, logits=(on_real, on_fake))
                for network, optimizer in ((D, D_optimizer), (G, G_optimizer)):
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(network.parameters(), limit)
                    optimizer.step()
                    optimizer.zero_grad()
    return accelerator.unwrap_model(G), accelerator.unwrap_model(D)


if __name__ == "__main__":
    main()
