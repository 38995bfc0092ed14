import copy
import itertools
import warnings

import pytest
import torch
from loops import Repeat, make_loop, numbered, weights_after
from reference import LOSSES, SCHEMES, latent_of, make_networks, make_real, relative_error
from torch import nn
from waiting import waits_for_nothing

import osgan
from osgan.adaptive import ADA
from osgan.errors import InputError, InputWarning
from osgan.normalization import GradientNormalization
from osgan.regularizers import AR1, AR2, R1, WeightClipping
from osgan.training import capture
from osgan.training.accelerate import _Given
from osgan.training.engine import Engine, EngineWarning
from osgan.training.loop import Loop

NUM_STEPS = 4
EVERY = tuple(osgan.SCHEMES)
COMPILED_SCHEMES = ("one_stage", "simultaneous", "two_stage_frozen")


@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan", "wgan"])
@pytest.mark.parametrize("scheme", EVERY)
def test_a_loop_is_the_scheme_called_batch_by_batch(scheme, loss):
    networks = make_networks()
    found = weights_after(
        make_loop(scheme, Engine(memory_format="contiguous", joint_batch=True), loss, networks=networks)
    )
    generator, discriminator = copy.deepcopy(networks)
    optimizers = [torch.optim.Adam(n.parameters(), 1e-3, (0.5, 0.9), fused=True) for n in (generator, discriminator)]
    step = osgan.build_scheme(scheme, generator, discriminator, *optimizers, loss=loss, latent=latent_of(torch.float64))
    torch.manual_seed(7)
    for seed in itertools.islice(itertools.cycle(range(3)), NUM_STEPS):
        step(numbered(seed))
    expected = [*generator.parameters(), *generator.buffers(), *discriminator.parameters(), *discriminator.buffers()]
    for mine, its in zip(found, expected, strict=False):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("middle", ["group", "batch"])
@pytest.mark.parametrize("scheme", EVERY)
def test_memory_format_and_joint_batch_do_not_change_the_numbers(scheme, middle):
    networks, loss = make_networks(middle), "minimax"
    first, *others = (
        weights_after(make_loop(scheme, Engine(memory_format=layout, joint_batch=joint), loss, networks=networks))
        for layout in ("contiguous", "channels_last")
        for joint in (False, True)
    )
    for other in others:
        assert relative_error(other, first) <= 1e-10


# what dynamo itself does while it looks at a network
COMPILES = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf", "ignore:.*dynamo")


@COMPILES
@pytest.mark.parametrize("scheme", COMPILED_SCHEMES)
def test_compiled_steps_take_the_same_numbers(scheme):
    networks, options = make_networks(), {"regularizers": (R1(0.1), WeightClipping(0.5))}
    eager = weights_after(make_loop(scheme, Engine(), networks=networks, **options))
    compiled = make_loop(scheme, Engine(mode="compile"), networks=networks, **options)
    assert compiled.fallbacks == []
    assert compiled.scheme.D is not compiled.scheme.discriminator
    assert relative_error(weights_after(compiled), eager) <= 1e-10


@COMPILES
@pytest.mark.parametrize("scheme", COMPILED_SCHEMES)
def test_penalties_that_ride_along_are_compiled_with_the_rest(scheme):
    networks, options = make_networks(), {"regularizers": (AR1(0.1), AR2(0.1, every=2, share=0.5))}
    eager = weights_after(make_loop(scheme, Engine(), networks=networks, **options))
    compiled = make_loop(scheme, Engine(mode="compile"), networks=networks, **options)
    assert compiled.fallbacks == []
    assert relative_error(weights_after(compiled), eager) <= 1e-9


def test_noise_below_what_bfloat16_tells_is_said():
    options = {"dtype": torch.float32}
    with pytest.warns(InputWarning, match=r"AR1 with sigma=0.01 .* use sigma=0.1 or more"):
        make_loop("one_stage", Engine(precision="bf16"), regularizers=(AR1(1.0),), **options)
    make_loop("one_stage", Engine(precision="bf16"), regularizers=(AR1(1.0, sigma=0.1),), **options).step()


def test_on_a_cpu_a_batch_is_shared_while_it_is_small(monkeypatch):
    assert make_loop("one_stage", Engine()).scheme.joint_batch
    assert not make_loop("one_stage", Engine(joint_batch=False)).scheme.joint_batch
    largest = 6 * 8 * 4 * 4 * 8  # bytes of 6 images of 8 channels of 4x4 in float64, after the first layer
    monkeypatch.setattr("osgan.training.placement.CACHED_BYTES", largest)
    assert make_loop("one_stage", Engine()).scheme.joint_batch
    monkeypatch.setattr("osgan.training.placement.CACHED_BYTES", largest - 1)
    loop = make_loop("one_stage", Engine())
    assert not loop.scheme.joint_batch
    assert not any(module._forward_hooks for module in loop.scheme.discriminator.modules())
    assert make_loop("one_stage", Engine(joint_batch=True)).scheme.joint_batch


class Chatty(nn.Module):
    """A network that no compiler can take whole."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        if x.mean().item() > 1e9:
            return x
        return self.network(x)


@COMPILES
def test_what_cannot_be_compiled_is_named_and_done_eagerly():
    generator, discriminator = make_networks()
    networks = (generator, Chatty(discriminator))
    eager = weights_after(make_loop("one_stage", Engine(), networks=networks))
    with pytest.warns(EngineWarning, match="compile is not possible here: .*; going on without it"):
        loop = make_loop("one_stage", Engine(mode="compile"), networks=networks)
    assert len(loop.fallbacks) == 1
    assert relative_error(weights_after(loop), eager) == 0


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(mode="cuda_graph"), "cuda_graph is not possible here: a device of type cpu has no CUDA graphs"),
        (Engine(precision="tf32"), "tf32 is not possible here: a device of type cpu computes in fp32"),
    ],
    ids=["cuda_graph", "tf32"],
)
def test_what_needs_a_gpu_falls_back_on_a_cpu(engine, message):
    networks = make_networks()
    with pytest.warns(EngineWarning, match=message):
        loop = make_loop("one_stage", engine, networks=networks)
    assert loop.fallbacks == [message]
    found = weights_after(loop)
    assert relative_error(found, weights_after(make_loop("one_stage", Engine(), networks=networks))) == 0


@pytest.mark.parametrize("scheme", ["one_stage", "simultaneous", "two_stage"])
def test_bf16_keeps_weights_and_losses_in_float32_and_stays_near(scheme):
    networks = make_networks(dtype=torch.float32)
    full = weights_after(make_loop(scheme, Engine(), dtype=torch.float32, networks=networks), 1)
    loop = make_loop(scheme, Engine(precision="bf16"), dtype=torch.float32, networks=networks)
    seen = []
    loop.scheme.discriminator[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    half = weights_after(loop, 1)
    assert set(seen) == {torch.bfloat16}
    assert {tensor.dtype for tensor in half if tensor.is_floating_point()} == {torch.float32}
    assert 0 < relative_error(half[-1:], full[-1:]) < 2**-6  # of two losses, with 8 bits of precision in the logits


@COMPILES
def test_building_a_loop_changes_nothing():
    networks = make_networks("batch")
    torch.manual_seed(7)
    expected_random = torch.get_rng_state()
    loop = make_loop("two_stage", Engine(mode="compile"), "minimax", networks=networks)
    assert torch.equal(torch.get_rng_state(), expected_random)
    assert loop.batches.drawn == loop.scheme.num_steps == 0
    for network, original in zip((loop.scheme.generator, loop.scheme.discriminator), networks, strict=True):
        for mine, its in zip(network.state_dict().values(), original.state_dict().values(), strict=True):
            assert torch.equal(mine, its)
        assert all(p.grad is None for p in network.parameters())
    assert all(not value.any() for o in loop.optimizers for s in o.state.values() for value in s.values())


def fail_after(step):
    step()
    raise RuntimeError("on purpose")


def test_undone_takes_back_even_what_ends_in_an_error():
    networks = make_networks("batch")
    untouched, loop = (make_loop("one_stage", Engine(), "minimax", networks=networks) for _ in range(2))
    with pytest.raises(RuntimeError, match="on purpose"), loop.undone():
        fail_after(loop.step)
    found = weights_after(loop)
    torch.manual_seed(7)
    assert relative_error(found, weights_after(untouched)) == 0


def test_what_happens_after_a_step_is_part_of_it():
    seen = []
    loop = make_loop("one_stage", Engine())
    loop.after_step = lambda: seen.append(loop.scheme.num_steps)
    loop.step()
    loop.step()
    assert seen == [0, 1]


def test_lazy_regularizers_take_part_when_they_are_due():
    networks = make_networks()
    lazy = make_loop("one_stage", Engine(), networks=networks, regularizers=(R1(1.0, every=3),))
    due = []
    for _ in range(5):
        due.append(bool(lazy.scheme.due()))
        lazy.step()
    assert due == [True, False, False, True, False]


@pytest.mark.parametrize(
    "text", ["cuda_graph", "compile", "eager+memory_format=contiguous", "compile+joint_batch=False"]
)
def test_an_engine_is_read_from_its_name(text):
    engine = Engine.parse(text, "bf16")
    assert engine.mode == text.split("+")[0]
    assert engine.precision == "bf16"
    assert engine.joint_batch is (False if "joint" in text else None)
    assert engine.memory_format == ("contiguous" if "contiguous" in text else "channels_last")


@pytest.mark.parametrize(
    ("text", "precision", "message"),
    [
        ("graph", "fp32", "unknown engine 'graph'"),
        ("eager", "fp16", "unknown engine precision 'fp16'"),
        ("eager+layout=nhwc", "fp32", "unknown option of engine"),
        ("eager+memory_format=nhwc", "fp32", "unknown engine memory_format 'nhwc'"),
    ],
)
def test_an_unknown_engine_is_refused(text, precision, message):
    with pytest.raises(InputError, match=message):
        Engine.parse(text, precision)


def test_an_accelerated_step_is_called_like_the_scheme():
    networks = make_networks()
    generator, discriminator = copy.deepcopy(networks)
    optimizers = [
        osgan.optim.build_optimizer("adam", n.parameters(), 1e-3, (0.5, 0.9)) for n in (generator, discriminator)
    ]
    scheme = osgan.OneStage(generator, discriminator, *optimizers, loss="hinge", latent=latent_of(torch.float64))
    step = osgan.Accelerated(scheme, Engine())
    torch.manual_seed(7)
    for seed in itertools.islice(itertools.cycle(range(3)), NUM_STEPS):
        step(numbered(seed))
    expected = weights_after(make_loop("one_stage", Engine(), "hinge", networks=networks))
    assert relative_error(step.loop.state(), expected[:-1]) == 0
    with pytest.raises(InputError, match="leave out the incomplete last batch"):
        step(make_real(torch.float64)[:-1])


@pytest.mark.parametrize(("text", "expected"), [("no", False), ("false", False), ("False", False), ("yes", True)])
def test_joint_batch_means_what_is_written(text, expected):
    assert Engine.parse(f"eager+joint_batch={text}").joint_batch is expected


@pytest.mark.parametrize("value", ["perhaps", "0", "1", "2.5"])
def test_other_values_of_joint_batch_are_refused(value):
    with pytest.raises(InputError, match="joint_batch is True, False or None"):
        Engine.parse(f"eager+joint_batch={value}")


def test_numbers_of_an_optimizer_that_a_graph_would_hold_are_watched():
    """What a scheduler changes, and a tensor that is put in another's place."""
    loop = make_loop("one_stage", Engine())
    before = capture.hyperparameters(loop.optimizers)
    assert capture.hyperparameters(loop.optimizers) == before
    group = loop.optimizers[0].param_groups[0]
    group["weight_decay"] = 0.1
    changed = capture.hyperparameters(loop.optimizers)
    assert changed != before
    group["lr"] = torch.tensor(1e-3)
    assert capture.hyperparameters(loop.optimizers) != changed
    again = capture.hyperparameters(loop.optimizers)
    group["lr"].fill_(1.0)  # read anew by every replay
    assert capture.hyperparameters(loop.optimizers) == again


def test_a_graph_that_is_stale_is_captured_anew_and_given_up_when_that_goes_on():
    loop = make_loop("one_stage", Engine())
    loop._captures = True

    def captured(served):
        loop._graphs[()] = (None, None)
        loop._baked, loop._served = capture.hyperparameters(loop.optimizers), served

    group = loop.optimizers[0].param_groups[0]
    for number, served in enumerate((5, 200, 5)):  # one long life in between: no reason to give up
        captured(served)
        group["weight_decay"] = 0.1 * (number + 1)
        loop._forget_stale_graphs()
        assert not loop._graphs
        assert loop._captures
    captured(5)
    group["weight_decay"] = 0.9
    with pytest.warns(EngineWarning, match="changes all the time"):
        loop._forget_stale_graphs()
    assert not loop._captures


def test_an_optimizer_that_counts_in_host_memory_is_not_captured():
    generator, discriminator = make_networks()
    optimizers = [torch.optim.Adagrad(n.parameters(), lr=0.1) for n in (generator, discriminator)]
    step = osgan.OneStage(generator, discriminator, *optimizers, loss="hinge", latent=latent_of(torch.float64))
    loop = Loop(step, Repeat(torch.float64))
    assert "Adagrad keeps 'step' in host memory" in capture.host_state(loop.optimizers)


def test_an_accelerated_step_takes_batches_from_another_device():
    networks = make_networks()
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in networks]
    step = osgan.OneStage(*networks, *optimizers, loss="hinge", latent=latent_of(torch.float64))
    given = _Given(make_real(), None, torch.device("meta"))
    assert given.batch[0].device.type == "meta"
    accelerated = osgan.Accelerated(step, Engine())
    accelerated(make_real())
    assert accelerated._given.batch[0].device == next(networks[0].parameters()).device


def test_what_compiles_in_contiguous_alone_is_compiled_so_and_says_it(monkeypatch):
    compiled = Loop._try_to_compile

    def only_contiguous(loop):
        return "a stride" if loop._memory_format == "channels_last" else compiled(loop)

    networks = make_networks()
    eager = weights_after(make_loop("one_stage", Engine(memory_format="contiguous"), networks=networks))
    monkeypatch.setattr(Loop, "_try_to_compile", only_contiguous)
    with pytest.warns(EngineWarning, match="compile is not possible here in channels_last, but in contiguous: a stri"):
        loop = make_loop("one_stage", Engine(mode="compile"), networks=networks)
    assert loop._memory_format == "contiguous"
    assert all(p.is_contiguous() for p in loop.scheme.generator.parameters())
    assert isinstance(loop.scheme.D, torch._dynamo.eval_frame.OptimizedModule)
    assert relative_error(weights_after(loop), eager) <= 1e-10

    monkeypatch.setattr(Loop, "_try_to_compile", lambda loop: "no compiler")
    with pytest.warns(EngineWarning, match="compile is not possible here: no compiler"):
        loop = make_loop("one_stage", Engine(mode="compile"), networks=networks)
    assert loop._memory_format == "channels_last"


# --- on a GPU


GRAPHS = ("cuda_graph", "compile_cuda_graph")


@pytest.mark.gpu
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scheme", EVERY)
def test_a_replayed_step_is_the_eager_step(scheme, loss):
    networks, options = make_networks(), {"device": "cuda", "regularizers": (R1(0.1),)}
    eager = weights_after(make_loop(scheme, Engine(), loss, networks=networks, **options))
    loop = make_loop(scheme, Engine(mode="cuda_graph"), loss, networks=networks, **options)
    assert relative_error(weights_after(loop), eager) <= 1e-10  # latents too: the random state moves as in eager steps
    assert loop.fallbacks == []
    assert len(loop._graphs) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_replayed_step_with_all_that_a_recipe_adds(scheme):
    def loop(mode):
        more = {"augmentation": ADA(images=20, interval=1), "normalization": GradientNormalization(), "accumulate": 2}
        clips = {"generator_clip": 1.0, "discriminator_clip": 1.0}
        penalties = (AR1(0.1), AR2(0.1, share=0.5), R1(0.1, every=2))
        options = {"device": "cuda", "networks": networks, "regularizers": penalties, **more, **clips}
        return make_loop(scheme, Engine(mode=mode), "rpgan", **options)

    networks = make_networks()
    eager, captured = loop("eager"), loop("cuda_graph")
    assert relative_error(weights_after(captured), weights_after(eager)) <= 1e-6  # gather's gradient adds atomically
    assert captured.fallbacks == []
    for mine, its in zip(captured.scheme.tensors(), eager.scheme.tensors(), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", COMPILED_SCHEMES)
@pytest.mark.parametrize("mode", ["compile", "compile_cuda_graph"])
def test_compiled_and_captured_steps_take_the_same_numbers(mode, scheme):
    networks = make_networks()
    eager = weights_after(make_loop(scheme, Engine(), networks=networks, device="cuda"))
    loop = make_loop(scheme, Engine(mode=mode), networks=networks, device="cuda")
    assert relative_error(weights_after(loop), eager) <= 1e-10
    assert loop.fallbacks == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("mode", ["eager", "compile", *GRAPHS])
@pytest.mark.parametrize("scheme", EVERY)
def test_no_engine_waits_for_the_gpu(scheme, mode, precision):
    memory_format = "contiguous" if "compile" in mode else "channels_last"  # what PyTorch 2.11 compiles
    engine = Engine(mode=mode, precision=precision, memory_format=memory_format)
    loop = make_loop(scheme, engine, dtype=torch.float32, device="cuda")
    for _ in range(2):
        loop.step()
    with waits_for_nothing():
        loop.step()
    assert loop.fallbacks == []


@pytest.mark.gpu
def test_replays_draw_different_latents_and_a_seed_reproduces_them():
    networks, losses = make_networks(), []
    for _ in range(2):
        loop = make_loop("one_stage", Engine(mode="cuda_graph"), networks=networks, device="cuda")
        losses.append([float(loop.step().generator_loss) for _ in range(4)])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 4


@pytest.mark.gpu
def test_each_set_of_due_regularizers_has_a_graph_of_its_own():
    networks, options = make_networks(), {"device": "cuda", "regularizers": (R1(0.1, every=3),)}
    eager = weights_after(make_loop("one_stage", Engine(), networks=networks, **options), 7)
    loop = make_loop("one_stage", Engine(mode="cuda_graph"), networks=networks, **options)
    assert relative_error(weights_after(loop, 7), eager) <= 1e-10
    assert len(loop._graphs) == 2


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_critic_steps_are_part_of_the_captured_step(scheme):
    networks, options = make_networks(), {"device": "cuda", "n_critic": 3}
    eager = weights_after(make_loop(scheme, Engine(), networks=networks, **options), 7)
    loop = make_loop(scheme, Engine(mode="cuda_graph"), networks=networks, **options)
    assert relative_error(weights_after(loop, 7), eager) <= 1e-10
    assert len(loop._graphs) == 1


@pytest.mark.gpu
def test_what_cannot_be_captured_is_named_and_done_eagerly():
    generator, discriminator = make_networks()
    networks = (generator, Chatty(discriminator))
    eager = weights_after(make_loop("one_stage", Engine(), networks=networks, device="cuda"))
    loop = make_loop("one_stage", Engine(mode="cuda_graph"), networks=networks, device="cuda")
    with pytest.warns(EngineWarning, match="cuda_graph is not possible here"):
        found = weights_after(loop)
    assert relative_error(found, eager) <= 1e-10


@pytest.mark.gpu
def test_a_capture_that_failed_leaves_the_stream_and_the_random_generator_as_they_were():
    generator, discriminator = make_networks()
    stream = torch.cuda.current_stream()
    loop = make_loop("one_stage", Engine(mode="cuda_graph"), networks=(generator, Chatty(discriminator)), device="cuda")
    with pytest.warns(EngineWarning, match="cuda_graph is not possible here"):
        loop.step()
    assert torch.cuda.current_stream() == stream
    assert not torch.cuda.is_current_stream_capturing()
    torch.manual_seed(3)
    expected = torch.randn(4, device="cuda")
    torch.manual_seed(3)
    assert torch.equal(torch.randn(4, device="cuda"), expected)


def sgd_loop(mode, networks, *, momentum=0.0, lr=0.1):
    G, D = (copy.deepcopy(network).to("cuda") for network in networks)
    optimizers = [torch.optim.SGD(network.parameters(), lr, momentum=momentum) for network in (G, D)]
    step = osgan.OneStage(G, D, *optimizers, loss="nonsaturating", latent=latent_of(torch.float64))
    torch.manual_seed(7)
    return Loop(step, Repeat(torch.float64, "cuda"), Engine(mode=mode))


@pytest.mark.gpu
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_plain_gradient_descent_is_captured(momentum):
    networks = make_networks()
    eager = weights_after(sgd_loop("eager", networks, momentum=momentum), 4)
    loop = sgd_loop("cuda_graph", networks, momentum=momentum)
    assert relative_error(weights_after(loop, 4), eager) <= 1e-10
    assert len(loop._graphs) == 1
    assert loop.fallbacks == []


@pytest.mark.gpu
def test_a_rate_that_changed_is_captured_anew():
    networks = make_networks()
    found = []
    for mode in ("eager", "cuda_graph"):
        loop = sgd_loop(mode, networks)
        weights_after(loop, 3)
        for optimizer in loop.optimizers:
            optimizer.param_groups[0]["lr"] = 0.01
        found.append(weights_after(loop, 3))
    assert relative_error(*reversed(found)) <= 1e-10
    assert loop.fallbacks == []


@pytest.mark.gpu
def test_a_rate_that_changes_all_the_time_is_no_matter_for_a_graph():
    networks = make_networks()
    found = []
    for mode in ("eager", "cuda_graph"):
        loop = sgd_loop(mode, networks)
        schedulers = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9) for optimizer in loop.optimizers]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", EngineWarning)
            for _ in range(8):
                loop.step()
                for scheduler in schedulers:
                    scheduler.step()
        found.append([p.detach().clone() for p in loop.state()])
    assert relative_error(*reversed(found)) <= 1e-10
    assert any("changes all the time" in str(w.message) for w in caught)
