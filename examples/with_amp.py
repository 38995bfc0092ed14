"""One stage in plain PyTorch with bfloat16, gradient accumulation, clipping for each player, and an average of G.

python -m examples.with_amp
"""

import torch
from torch import nn
from torch.nn.functional import softplus
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import osgan
from osgan import data, nets


def main(steps: int = 40, accumulate: int = 2, batch_size: int = 32, limit: float = 1.0) -> tuple[nn.Module, ...]:
    batches = data.load("digits", resolution=16, device="cpu").batches(batch_size, seed=0)
    G, D = nets.dcgan(resolution=16, width=8, channels=1)
    average = AveragedModel(G, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    G_optimizer = torch.optim.Adam(G.parameters(), 1e-3, (0.5, 0.999))
    D_optimizer = torch.optim.Adam(D.parameters(), 2e-4, (0.5, 0.999))

    for _ in range(steps):
        G_optimizer.zero_grad()
        D_optimizer.zero_grad()
        for _ in range(accumulate):
            real, _ = next(batches)
            with torch.autocast("cpu", torch.bfloat16):
                leaf = osgan.tap(G(torch.randn(batch_size, 100)))
                on_real, on_fake = D(real), D(leaf)
            D_loss = softplus(-on_real.float()).mean() + softplus(on_fake.float()).mean()
            G_loss = softplus(-on_fake.float()).mean()
            # With float16: scaler.scale(D_loss / accumulate), scaler.scale(G_loss / accumulate) and floor=1e-3 here,
            # then scaler.unscale_ and scaler.step for each optimizer, and one scaler.update.
            osgan.backward(leaf, D_loss / accumulate, G_loss / accumulate, logits=(on_real, on_fake))
        for network, optimizer in ((D, D_optimizer), (G, G_optimizer)):
            clip_grad_norm_(network.parameters(), limit)
            optimizer.step()
        average.update_parameters(G)
    return G, D, average


if __name__ == "__main__":
    main()
