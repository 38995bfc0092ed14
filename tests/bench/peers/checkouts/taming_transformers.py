"""A checkout of a few lines of our own, in the shape of taming-transformers' files."""

FILES = {
    "main.py": "import nowhere_to_be_found\n",
    "configs/imagenet_vqgan.yaml": """
model:
  params:
    n_embed: 4
    ddconfig: {ch: 128, resolution: 256}
    lossconfig:
      target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
      params: {disc_start: 250001, disc_weight: 0.8}
""",
    "taming/models/vqgan.py": """
import torch
import pytorch_lightning as pl
from einops import rearrange
from main import instantiate_from_config

class VQModel(pl.LightningModule):
    def __init__(self, n_embed, ddconfig, lossconfig):
        super().__init__()
        ch = ddconfig["ch"]
        self.encoder, self.quant_conv = torch.nn.Conv2d(3, ch, 8, 8), torch.nn.Conv2d(ch, ch, 1)
        self.quantize, self.post_quant_conv = torch.nn.Embedding(n_embed, ch), torch.nn.Conv2d(ch, ch, 1)
        self.decoder = torch.nn.Sequential(torch.nn.ConvTranspose2d(ch, ch, 8, 8), torch.nn.Conv2d(ch, 3, 1))
        self.loss = instantiate_from_config(lossconfig)
        self.image_key = "image"
    def get_last_layer(self):
        return self.decoder[-1].weight
    def get_input(self, batch, key):
        return rearrange(batch[key], "b h w c -> b c h w").float()
    def forward(self, x):
        code = self.quant_conv(self.encoder(x))
        away = ((code[:, None] - self.quantize.weight[None, :, :, None, None]) ** 2).mean((1, 2))
        return self.decoder(self.post_quant_conv(code)), away
    def training_step(self, batch, batch_idx, optimizer_idx):
        x = self.get_input(batch, self.image_key)
        fake, away = self(x)
        loss, log = self.loss(away, x, fake, optimizer_idx, self.global_step, last_layer=self.get_last_layer())
        self.log_dict(log, prog_bar=False)
        return loss
    def configure_optimizers(self):
        of_d = set(self.loss.discriminator.parameters())
        rest = [p for p in self.parameters() if p not in of_d]
        return [torch.optim.Adam(rest, self.learning_rate), torch.optim.Adam(of_d, self.learning_rate)], []
""",
    "taming/modules/losses/vqperceptual.py": """
import torch
from torch import nn

class LPIPS(nn.Module):
    def __init__(self):
        1 / 0

class VQLPIPSWithDiscriminator(nn.Module):
    codebook_weight, disc_factor = 0.5, 1.0
    def __init__(self, disc_start, disc_weight, perceptual_weight, disc_ndf):
        super().__init__()
        assert disc_start == 0 and perceptual_weight == 0
        self.perceptual_loss = LPIPS().eval()
        first, norm = nn.Conv2d(3, disc_ndf, 8, 8), nn.BatchNorm2d(disc_ndf)
        self.discriminator = nn.Sequential(first, norm, nn.LeakyReLU(), nn.Conv2d(disc_ndf, 1, 1))
        self.discriminator_weight = disc_weight
    def disc_loss(self, real, fake):
        return 0.5 * (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean())
    def forward(self, codebook_loss, inputs, reconstructions, optimizer_idx, global_step, last_layer, split="train"):
        if optimizer_idx == 1:
            D = self.discriminator
            return self.disc_loss(D(inputs), D(reconstructions.detach())), {}
        away = (inputs - reconstructions).abs().mean()
        g_loss = -self.discriminator(reconstructions).mean()
        norms = [torch.autograd.grad(x, last_layer, retain_graph=True)[0].norm() for x in (away, g_loss)]
        weight = (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach() * self.discriminator_weight
        return away + weight * g_loss + self.codebook_weight * codebook_loss.mean(), {}
""",
}
