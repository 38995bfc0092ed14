"""What two processes find out together: run in each of them, by `run`; test_distributed.py reads what they found.

One group of processes makes all measurements, for starting it takes longer than most of them. A check is a function of
a folder that returns what JSON can hold, or raises; process 0's findings are kept, and everybody's exceptions.
"""

import datetime
import itertools
import json
import math
import traceback
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from own_loop_checks import own_loop
from reference import CHANNELS, LATENT_DIM, SCHEMES, SIZE, latent_of, make_discriminator, make_real, relative_error
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

import osgan
from osgan import data, nets
from osgan.adaptive import ADA
from osgan.commands import progress
from osgan.errors import InputError, NonFiniteLossError
from osgan.metrics import Judge
from osgan.normalization import GradientNormalization
from osgan.parallel import processes
from osgan.regularizers import R1, R2, ApproximatePenalty, GradientPenalty, WeightClipping
from osgan.training import checkpoint
from osgan.training.engine import Engine
from osgan.training.finite import finite_losses
from osgan.training.loop import Loop
from osgan.training.recipe import Recipe, build_loop
from osgan.training.trainer import Trainer

WORLD = 2
BATCH = 6  # of both processes together
STEPS = 3
TINY = {"dataset": "digits", "architecture": "dcgan32+resolution=16+width=8", "batch_size": 8, "images": 8 * 20}
SAVED_AT, TRAINED_TO = 4, 9


def generator():
    """The reference's G without BatchNorm, whose statistics are of a process's part of the batch."""
    first, last = nn.ConvTranspose2d(LATENT_DIM, 8, 4), nn.ConvTranspose2d(8, CHANNELS, 4, 2, 1)
    return nn.Sequential(nn.Unflatten(1, (LATENT_DIM, 1, 1)), first, nn.ReLU(), last, nn.Tanh()).double()


class Shared:
    """Random numbers of the whole batch, of which a process takes its part; all of them where it is `whole`."""

    def __init__(self, whole, *shape, draw=torch.randn):
        self.random = torch.Generator().manual_seed(11)
        self.part, self.parts = (0, 1) if whole else (processes.rank(), processes.size())
        self.shape, self.draw = shape, draw

    def __call__(self, n, device=None):
        # one by one: torch.randn draws other numbers for many than for few
        rows = [self.draw(self.shape, generator=self.random, dtype=torch.float64) for _ in range(n * self.parts)]
        drawn = torch.stack(rows)
        return drawn[self.part * n : (self.part + 1) * n]


class SharedPenalty(GradientPenalty):
    def __init__(self, whole):
        super().__init__(2.0)
        self.shares = Shared(whole, 1, 1, 1, draw=torch.rand)

    def at(self, real, fake):
        return torch.lerp(real, fake, self.shares(len(real)))


class SharedApproximate(ApproximatePenalty):
    """An approximate penalty whose noise is of the whole batch."""

    def __init__(self, whole, at_fake):
        super().__init__(0.7)
        self.at_fake = at_fake
        self.noise = Shared(whole, CHANNELS, SIZE, SIZE)

    def moved(self, images):
        return images.detach() + self.sigma * self.noise(len(images))


REGULARIZERS = {
    "none": lambda whole: (),
    "ar1+ar2": lambda whole: (SharedApproximate(whole, False), SharedApproximate(whole, True)),
    "r1+r2": lambda whole: (R1(0.7), R2(1.3)),
    "gradient_penalty": lambda whole: (SharedPenalty(whole),),
    "lazy": lambda whole: (R1(0.7, every=2), WeightClipping(0.1)),
}


def build(
    name, loss="nonsaturating", regularizers="none", n_critic=1, *, whole=False, D="group", kind=None, lr=0.1, **more
):
    """Build a scheme on weights that are the same everywhere."""
    torch.manual_seed(5)
    G, discriminator = generator(), make_discriminator(D).double()
    optimizers = [torch.optim.SGD(n.parameters(), lr, momentum=0.5) for n in (G, discriminator)]
    options = {"loss": loss, "latent": Shared(whole, LATENT_DIM), "n_critic": n_critic}
    builder = kind or partial(osgan.build_scheme, name)
    return builder(G, discriminator, *optimizers, regularizers=REGULARIZERS[regularizers](whole), **options, **more)


def train(step, *, whole=False, joint=True, steps=STEPS):
    """Take steps on this process's part of the batches; return the weights and all losses of the whole batch."""
    step.joint_batch = joint
    rows = None if whole else processes.local_rows(BATCH, step.n_critic)
    losses = []
    for index in range(steps):
        with torch.random.fork_rng([]):
            torch.manual_seed(100 + index)
            real = make_real(batch=BATCH * step.n_critic)
        losses.append(torch.stack(list(step(real if rows is None else real[rows]))))
    stacked = torch.stack(losses)
    weights = [*step.generator.parameters(), *step.discriminator.parameters()]
    return [p.detach() for p in weights], stacked if whole else processes.average(stacked)


def compare(*case, joint=True, **options):
    """Return how far two processes with half a batch each are from one process with the whole batch."""
    reference, theirs = train(build(*case, whole=True), whole=True, joint=joint)
    start = build(*case, whole=True)
    moved = relative_error(reference, [*start.generator.parameters(), *start.discriminator.parameters()])
    step = build(*case, **options)
    osgan.distribute(step)
    weights, losses = train(step, joint=joint)
    assert same_everywhere(weights)
    return {
        "weights": relative_error(weights, reference),
        "losses": relative_error([losses], [theirs]),
        "moved": moved,
    }


def same_everywhere(tensors):
    flat = torch.cat([t.detach().flatten().double() for t in tensors])
    first = flat.clone()
    dist.broadcast(first, 0)
    return all(processes.gather_to_all(torch.equal(first, flat)))


def equality(folder):
    """Every scheme with what goes into a step: losses and joint batches, then regularizers and critic steps."""
    losses = itertools.product(SCHEMES, ("minimax", "nonsaturating", "hinge", "rpgan"), ("none",), (1,), (True, False))
    penalties = itertools.product(SCHEMES, ("nonsaturating",), list(REGULARIZERS)[1:], (1, 2), (True,))
    paired = itertools.product(SCHEMES, ("rpgan",), ("r1+r2",), (2,), (False,))
    cases = [*losses, *penalties, *paired]
    return {"/".join(map(str, case)): compare(*case[:4], joint=case[4]) for case in cases}


def accumulation(folder):
    """Parts of a process's part of the batch, both gradients clipped; without pairs or noise their order is nothing."""
    found = {}
    for name, regularizers in itertools.product(SCHEMES, REGULARIZERS):
        case, clips = (name, "nonsaturating", regularizers), {"generator_clip": 0.05, "discriminator_clip": 0.05}
        reference, _ = train(build(*case, whole=True, **clips), whole=True)
        step = build(*case, accumulate=3, **clips)
        counted = Reductions(step)
        weights, _ = train(step)
        found[f"{name}/{regularizers}"] = {
            "same_everywhere": same_everywhere(weights),
            "reduced": counted.numel["D"] / STEPS / sum(p.numel() for p in step.discriminator.parameters()),
            "weights": relative_error(weights, reference) if regularizers in ("none", "r1+r2", "lazy") else 0.0,
        }
    return found


def state_of_a_step(folder):
    """What an adaptive augmentation and a normalisation keep is the same everywhere, and of all logits."""
    step = build("one_stage", "rpgan", normalization=GradientNormalization(), augmentation=ADA(images=50, interval=1))
    osgan.distribute(step)
    weights, _ = train(step)
    return {
        "same_everywhere": same_everywhere([*weights, *step.tensors()]),
        "moved": [float(t.double().abs().sum()) for t in step.tensors()],
    }


def staggered(folder):
    """D's update between the halves: those of one process are the union of what each process's halves are."""
    order = torch.tensor([0, 1, 4, 5, 2, 3, 6, 7])  # of 8 images: each process's first half, then its second

    def train_halves(step, latent, rows):
        step.latent = latent
        for index in range(STEPS):
            torch.manual_seed(100 + index)
            step(make_real(batch=len(order))[rows])
        return [p.detach() for p in (*step.generator.parameters(), *step.discriminator.parameters())]

    case = ("one_stage_staggered", "rpgan", "r1+r2")
    drawn = Shared(True, LATENT_DIM)
    reference = train_halves(build(*case, whole=True), lambda n, device: drawn(n)[order], order)
    step = build(*case)
    osgan.distribute(step)
    weights = train_halves(step, Shared(False, LATENT_DIM), processes.local_rows(len(order)))
    start = build(*case, whole=True)
    return {
        "weights": relative_error(weights, reference),
        "moved": relative_error(reference, [*start.generator.parameters(), *start.discriminator.parameters()]),
        "same_everywhere": same_everywhere([*weights, *step.kept]),
    }


def relativistic_average(folder):
    """The loss whose mean is over a process's part of the batch: not the same game."""
    return compare("simultaneous", "ragan")


class PenaltyAfter(osgan.OneStage):
    """The order before the reduction was thought of: the penalty's gradient comes when D's has been reduced."""

    def penalise(self, *given):
        if self.given is None:
            self.given = given

    def step(self, *given):
        self.given = None
        return super().step(*given)

    def update_discriminator(self):
        super().penalise(*self.given)
        super().update_discriminator()


def penalty_after_the_reduction(folder):
    case = ("one_stage", "nonsaturating", "r1+r2")
    reference, _ = train(build(*case, whole=True), whole=True)
    alone, _ = train(build(*case, whole=True, kind=PenaltyAfter), whole=True)
    step = build(*case, kind=PenaltyAfter)
    osgan.distribute(step)
    weights, _ = train(step)
    return {
        "alone": relative_error(alone, reference),
        "together": relative_error(weights, reference),
        "same_everywhere": same_everywhere(weights),
    }


def batch_norm_with_two_forward_passes(folder):
    """One backward pass of two forward passes under BatchNorm: each process keeps its own running statistics.

    Copied before every forward pass, as DistributedDataParallel does by default, they are changed under a graph that
    holds them; some versions of PyTorch then refuse the backward pass (pytorch#22095).
    """

    step = build("one_stage", "wgan", D="batch")
    osgan.distribute(step)
    layer = step.discriminator[3]
    layer.momentum = 0.0
    layer.running_mean.fill_(processes.rank())
    weights, _ = train(step, joint=False)
    means = processes.gather_to_all(layer.running_mean.mean().item())
    return {"weights": same_everywhere(weights), "running_means": means}


class Reductions:
    """Counts what is reduced, by player, and whether it began while the backward pass went on."""

    def __init__(self, step, **options):
        osgan.distribute(step, **options)
        self.numel = {"G": 0, "D": 0}
        self.events = []
        for player, network in (("G", step.generator), ("D", step.discriminator)):
            getattr(step, player).register_comm_hook(player, self.reduce)
            for weight in network.parameters():
                weight.register_post_accumulate_grad_hook(lambda _, p=player: self.events.append(f"{p} gradient"))

    def reduce(self, player, bucket):
        self.numel[player] += bucket.buffer().numel()
        self.events.append(f"{player} reduction")
        return allreduce_hook(None, bucket)


def reductions(folder):
    """Elements reduced in a step, in units of the network: 1 is each gradient once."""
    found = {}
    for name, n_critic, regularizers in itertools.product(SCHEMES, (1, 3), ("none", "r1+r2")):
        step = build(name, "nonsaturating", regularizers, n_critic)
        counted = Reductions(step)
        train(step, steps=4)
        sizes = {"G": step.generator, "D": step.discriminator}
        found[f"{name}/{n_critic}/{regularizers}"] = {
            player: counted.numel[player] / 4 / sum(p.numel() for p in network.parameters())
            for player, network in sizes.items()
        }
    return found


def overlap(folder):
    """Whether a reduction begins before the last gradient of the same backward pass is there."""
    step = build("one_stage")
    counted = Reductions(step, bucket_cap_mb=1e-4)
    train(step, steps=3)
    found = {}
    for player in ("D", "G"):
        events = [event for event in counted.events if event.startswith(player)]
        last_step = events[-(len(events) // 3) :]
        found[player] = last_step.index(f"{player} reduction") < len(last_step) - 1 - last_step[::-1].index(
            f"{player} gradient"
        )
    return found


def discriminator_reduced_in_the_generators_update(folder):
    """What happens if G's update calls the D whose gradients are reduced."""
    local = osgan.Scheme.local_D
    osgan.Scheme.local_D = property(lambda scheme: scheme.D)
    try:
        step = build("two_stage")
        counted = Reductions(step)
        train(step)
        wasted = counted.numel["D"] / STEPS / sum(p.numel() for p in step.discriminator.parameters())
        try:
            frozen = compare("two_stage_frozen", "nonsaturating", "r1+r2")["weights"]
        except (RuntimeError, AssertionError) as error:
            frozen = f"{type(error).__name__}: {error}"
    finally:
        osgan.Scheme.local_D = local
    return {"wasted": wasted, "frozen": frozen}


def refusals(folder):
    """The messages for what cannot be distributed."""

    def message(function, *arguments, **options):
        try:
            function(*arguments, **options)
        except InputError as error:
            return str(error)
        return None

    step = build("one_stage")
    osgan.distribute(step)
    before = step.D
    osgan.distribute(step)
    networks = (step.G, step.discriminator, step.generator_optimizer, step.discriminator_optimizer)
    return {
        "twice": step.D is before,
        "wrapped": message(osgan.OneStage, *networks, loss="hinge", latent=step.latent),
        "batch_size": message(Trainer, Recipe(**TINY | {"batch_size": 9})),
        "sync_batch_norm": message(Trainer, Recipe(**TINY, sync_batch_norm=True)),
        "folders": message(progress.open_run, folder / f"of-{processes.rank()}", _trained(folder)),
    }


def _trained(folder):
    """A trainer, and a checkpoint in the folder of process 1 alone."""
    trainer = Trainer(Recipe(**TINY))
    random_states = torch.get_rng_state()
    if processes.rank() == 1:
        saved = checkpoint.Checkpoint(
            {
                "recipe": trainer.recipe.to_dict(),
                "step": 1,
                "batches_drawn": 1,
                "channels": 1,
                "num_classes": None,
                "processes": 2,
            },
            trainer._weights(),
            trainer._optimizers() | {"random.cpu": random_states, "random.cpu.1": random_states.clone()},
        )
        checkpoint.save(folder / "of-1", 1, saved, keep=1)
    dist.barrier()
    return trainer


def data_order(folder):
    """Whether the rows of both processes, put together, are the batches of one, from the start and after a seek."""
    found = {}
    for limit in (None, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", data.StreamingWarning)
            digits = data.load("digits", resolution=8, device="cpu", memory_limit_bytes=limit)
        mine = digits.batches(2 * 600, seed=3, rows=processes.local_rows(600, 2))
        whole = digits.batches(2 * 600, seed=3)
        equal = []
        for place in (None, None, 5, None, 1):
            if place is not None:
                mine.seek(place)
                whole.seek(place)
            parts = processes.gather_to_all(next(mine))
            critic = [torch.cat([images[i * 300 : i * 300 + 300] for images, _ in parts]) for i in range(2)]
            labels = [torch.cat([y[i * 300 : i * 300 + 300] for _, y in parts]) for i in range(2)]
            images, theirs = next(whole)
            equal.append(torch.equal(torch.cat(critic), images) and torch.equal(torch.cat(labels), theirs))
        found["resident" if digits.resident else "streamed"] = equal
    return found


def trainer_runs(folder):
    """Trainers of both processes: stopped and gone on, from checkpoints of two and of one; weights are compared."""
    recipe = Recipe(**TINY, loss="nonsaturating+r1=1", schedule="cosine")
    whole = Trainer(recipe)
    first_draws = processes.gather_to_all(torch.get_rng_state()[-2500:].tolist())
    whole.train(TRAINED_TO)
    part = Trainer(recipe)
    part.train(SAVED_AT)
    part.save(folder / "of-two")
    dist.barrier()
    rest = Trainer(recipe)
    torch.manual_seed(99)
    rest.resume(checkpoint.load_newest(folder / "of-two"))
    rest.train(TRAINED_TO - SAVED_AT)
    after_one = Trainer(recipe)
    after_one.resume(checkpoint.load_newest(folder / "of-one"))
    streams = processes.gather_to_all(torch.rand(3).tolist())
    after_one.train(TRAINED_TO - SAVED_AT)
    states = [trainer._weights() | trainer._optimizers() for trainer in (whole, rest)]
    return {
        "streams_differ": first_draws[0] != first_draws[1],
        "bit_for_bit": all(torch.equal(states[0][key], states[1][key]) for key in states[0]),
        "losses": whole.losses()[SAVED_AT:] == rest.losses(),
        "same_everywhere": [
            same_everywhere(n.parameters()) for n in (*_pair(whole), *_pair(after_one), whole.average.generator)
        ],
        "from": [rest.resumed_from_processes, after_one.resumed_from_processes],
        "streams_after_one_differ": streams[0] != streams[1],
        "first_loss": whole_first_loss(recipe),
        "steps": after_one.num_steps,
    }


def _pair(trainer):
    return trainer.networks.generator, trainer.networks.discriminator


def whole_first_loss(recipe):
    """The losses of the first step of this process's own part, by rank, and those that the trainer gives."""
    trainer = Trainer(recipe)
    trainer.train(1)
    own = torch.stack(list(trainer._pending[0])).tolist()
    return {"own": processes.gather_to_all(own), "given": trainer.losses()[0]}


def not_finite(folder):
    """A loss that is NaN on one process stops all at the same step."""
    trainer = Trainer(Recipe(**TINY))
    trainer.train(2)
    if processes.rank() == 1:
        stats = trainer._pending[1]
        trainer._pending[1] = stats._replace(generator_loss=stats.generator_loss * float("nan"))
    try:
        trainer.losses()
    except NonFiniteLossError as error:
        return processes.gather_to_all(str(error))
    return processes.gather_to_all("nothing")


class Pixels(nn.Module):
    """Eight averages of an image as its features."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, (2, 4)).mean(1).flatten(1)


def judged(folder):
    """The quality that both processes find, and that of one judge who is given all images that they made."""
    digits = data.load("digits", resolution=16, device="cpu")
    options = {"metrics": ("fd", "kd"), "extractor": "distributed_checks:Pixels", "num_images": 50, "batch_size": 8}
    judge = Judge(digits, cache=folder / f"cache-{processes.rank()}", over_processes=True, **options)
    trainer, made = Trainer(Recipe(**TINY)), []
    trainer.train(3)
    trainer.share_buffers()

    def generate(n):
        made.append(trainer.generate(n))
        return made[-1]

    before = torch.get_rng_state()
    quality = judge(generate)
    images = processes.gather_to_all(torch.cat(made))
    alone = Judge(digits, cache=folder / f"alone-{processes.rank()}", **options)
    rest = iter(torch.cat(images).split(1))
    expected = alone(lambda n: torch.cat(list(itertools.islice(rest, n))))
    lost = judge(lambda n: torch.full((n, 1, 16, 16), float("nan") if processes.rank() else 0.0))
    return {
        "found": processes.gather_to_all(quality.values),
        "expected": expected.values,
        "made": [len(each) for each in images],
        "different": not torch.equal(images[0][:8], images[1][:8]),
        "notes": [list(quality.notes), list(expected.notes)],
        "random_state_kept": torch.equal(before, torch.get_rng_state()),
        "caches": sorted(path.name for path in folder.glob("cache-*")),
        "lost": [str(lost.values["FD-distributed_checks:Pixels"]), lost.notes[-1]],
    }


def buffers(folder):
    """Running statistics differ between processes until they are shared."""
    trainer = Trainer(Recipe(**TINY))
    trainer.train(2)
    averaged = [b for b in trainer.average.generator.buffers() if b.is_floating_point()]
    before = same_everywhere(averaged)
    trainer.share_buffers()
    return {"before": before, "after": same_everywhere(averaged)}


def adaptive_augmentation(folder):
    """The probability of ADA: with the logits of both processes, of each by itself, and in one that sees them all."""
    together, apart, whole = (osgan.ADA(images=200, interval=3, p=0.2) for _ in range(3))
    found = []
    for step in range(30):
        logits = torch.linspace(-1, 1, 2 * 5) + 1.5 * math.sin(step / 4)
        own = logits.chunk(2)[processes.rank()]
        together.observe(own)
        with alone():
            apart.observe(own)
            whole.observe(logits)
        found.append([ada.p.item() for ada in (together, apart, whole)])
    return processes.gather_to_all(dict(zip(("together", "apart", "whole"), zip(*found, strict=True), strict=True)))


@contextmanager
def alone():
    """Hide the other processes."""
    size, dist.get_world_size = dist.get_world_size, lambda: 1
    try:
        yield
    finally:
        dist.get_world_size = size


ARCHITECTURES = {
    "dcgan32+resolution=16+width=8": "minimax",
    "cdcgan32+resolution=16+width=8": "nonsaturating",
    "csngan32+width=8": "hinge",
    "sagan32+width=8": "hinge",
    "r3gan32+width=8": "rpgan+r1=0.05+r2=0.05",
    "stylegan2_64+resolution=16+width=8": "nonsaturating+r1=1",
    "cgat32+width=8+depth=1+heads=2+patch_size=8+checkpoint=True": "rpgan+r1=0.1+r2=0.1",
    "mlp": "wgan+weight_clipping=0.1",
}


def architectures(folder):
    """Steps of our own networks through the loop, in the memory format and the precisions of the engines."""
    digits = data.load("digits", resolution=32, device="cpu")
    found = {}
    for architecture, loss in ARCHITECTURES.items():
        for scheme, precision in (("simultaneous", "fp32"), ("two_stage_frozen", "bf16")):
            torch.manual_seed(0)
            networks = nets.build(architecture, channels=1, num_classes=digits.num_classes)
            images = data.load("digits", resolution=nets.resolution_of(architecture), device="cpu")
            recipe = Recipe(
                dataset="digits", architecture=architecture, loss=loss, scheme=scheme, batch_size=8, precision=precision
            )
            loop = build_loop(recipe, networks, images)
            finite_losses([loop.step() for _ in range(3)], first_step=0, loss=loss, over_processes=True)
            weights = [*networks.generator.parameters(), *networks.discriminator.parameters()]
            found[f"{architecture}/{scheme}/{precision}"] = same_everywhere(weights)
    return found


def compiled(folder):
    """A compiled loop against an eager one, and one that can be compiled on process 0 alone."""
    warnings.simplefilter("ignore")  # what dynamo itself does
    weights, loops = [], []
    for mode in ("eager", "compile"):
        step = build("one_stage", "nonsaturating", "r1+r2")
        step.latent = latent_of(torch.float64)
        processes.manual_seed(3)
        loops.append(Loop(step, _Fixed(), Engine(mode=mode)))
        for _ in range(STEPS):
            loops[-1].step()
        weights.append([*step.generator.parameters(), *step.discriminator.parameters()])
    step = build("one_stage")
    if processes.rank() == 1:
        step.generator.append(_Breaks())
    loop = Loop(step, _Fixed(), Engine(mode="compile"))
    loop.step()
    return {
        "error": relative_error(weights[1], weights[0]),
        "fallbacks": loops[1].fallbacks,
        "same_everywhere": same_everywhere(weights[1]),
        "called": [type(each).__name__ for each in (loops[1].scheme.G, loops[1].scheme.D, loops[1].scheme.local_D)],
        "one_fails": processes.gather_to_all(loop.fallbacks),
        "still_same": same_everywhere([*step.generator.parameters(), *step.discriminator.parameters()]),
    }


class _Breaks(nn.Module):
    def forward(self, x):
        return x * (2.0 if x.sum().item() > 1e9 else 1.0)


class _Fixed(data.Batches):
    """The same batch of this process's own, over and over."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(processes.rank())
            self.real = make_real(batch=BATCH // WORLD)
        assert self.real.shape[-1] == SIZE

    def draw(self):
        return self.real.clone(), None

    def _prepare(self):
        pass

    def _restart(self, drawn):
        pass


CHECKS = (
    equality,
    accumulation,
    state_of_a_step,
    staggered,
    relativistic_average,
    penalty_after_the_reduction,
    reductions,
    overlap,
    refusals,
    data_order,
    trainer_runs,
    not_finite,
    judged,
    buffers,
    adaptive_augmentation,
    batch_norm_with_two_forward_passes,
    architectures,
    compiled,
    own_loop,
    discriminator_reduced_in_the_generators_update,  # last: it leaves a reducer in the middle of its work
)


def run(rank, folder, names):
    """Make the checks of these names in one process of two; writes found-<rank>.json."""
    torch.set_num_threads(1)
    warnings.simplefilter("error", UserWarning)
    warnings.simplefilter("error", FutureWarning)
    folder = Path(folder)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=120),
    )
    found = {}
    try:
        for check in CHECKS:
            if check.__name__ in names:
                here = folder / check.__name__
                here.mkdir(exist_ok=True)
                found[check.__name__] = check(here)
        dist.barrier()
    except Exception:  # the other process is then not where this one is, and no further check can be made
        found[check.__name__] = {"raised": traceback.format_exc()}
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
