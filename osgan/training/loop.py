"""The loop that runs a scheme's steps on its batches through an engine, and can take them back."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from osgan.batches import Batches
from osgan.clock import synchronize
from osgan.parallel import ddp, processes
from osgan.step import Scheme, StepStats
from osgan.training import capture, placement
from osgan.training.engine import MEMORY_FORMATS, Engine, EngineWarning

CAPTURE_WARMUP = 3
SHORT_LIVED = 100
"""Steps that a graph must have served for the cost of capturing it to be forgotten."""


class Loop:
    """Steps of a scheme on its own batches: `loop.step()` draws a batch and updates G and D.

    `batches` gives what a step takes: with `n_critic` k, k batches in one.

    `conditional` says that G and D take the labels. `after_step` is part of the step and works on the device, on the
    tensors `extra_state` (the moving average of G's weights, say). Networks and optimizers are changed in place and
    stay the caller's. What the engine cannot do here it says in an EngineWarning and in `fallbacks`, and does without.
    Where torch.distributed has a process group of several processes, the loop is one of as many, which are built and
    stepped in the same order everywhere: gradients are averaged (`osgan.distribute`), `batches` gives this process's
    rows of the whole batch (`osgan.parallel.processes.local_rows`). Its flags (TF32, cuDNN's search for the fastest
    kernel, torch.compile's limits) hold for the whole process.
    """

    def __init__(
        self,
        scheme: Scheme,
        batches: Batches,
        engine: Engine | None = None,
        *,
        conditional: bool = False,
        after_step: Callable[[], None] | None = None,
        extra_state: Sequence[Tensor] = (),
    ) -> None:
        self.scheme = scheme
        self.batches = batches
        self.engine = engine or Engine()
        self.conditional = conditional
        self.after_step = after_step
        self.extra_state = extra_state
        self.fallbacks: list[str] = []
        self.device = next(scheme.generator.parameters()).device
        self._graphs: dict[Any, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool: Any = None
        self._baked: list[Any] = []
        self._served = 0
        self._short_lived = 0
        self._can_capture = False
        self._captures = self.engine.captures
        if self._captures and (objection := capture.objection(self.device, self.optimizers)):
            self._fall_back("cuda_graph", objection)
        self._set_flags()
        self._place(self.engine.memory_format)
        with self.undone():
            batch = self.draw()
            self.scheme.measure(*batch)
            self.scheme.joint_batch = placement.shares_a_batch(scheme, *batch, self.engine.joint_batch)
        if self.engine.compiles:
            self._compile()
        ddp.distribute(scheme)

    @property
    def optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """G's and D's."""
        return self.scheme.generator_optimizer, self.scheme.discriminator_optimizer

    def step(self) -> StepStats:
        """Update G and D once; returns their mean losses, which stay on the device."""
        due = self.scheme.due()
        if self.scheme.modes_changed():
            with self.undone():
                self.scheme.measure(*self.draw())
            self.forget_graphs()  # they replay the modes that were
        if self._captures:
            self._forget_stale_graphs()  # which may end the capturing
        # Only a state that exists can be captured: an optimizer that has none yet makes its first step eagerly.
        may_capture = self._captures and (self._can_capture or all(o.state for o in self.optimizers))
        if may_capture and due not in self._graphs:
            self._capture(due)
        self.batches.advance()
        if due in self._graphs:
            graph, losses = self._graphs[due]
            graph.replay()
            self._served += 1
            stats = StepStats(*losses.clone())
        else:
            stats = self._step()
            self._can_capture = True
        self.scheme.num_steps += 1
        return stats

    def rehearse(self, steps: int) -> None:
        """Take steps and take them back: whatever is compiled, captured or searched for at first is then behind."""
        with self.undone():
            for _ in range(steps):
                self.step()

    def state(self) -> list[Tensor]:
        """Return the very tensors that a step changes: weights, buffers, optimizers' state, `extra_state`."""
        networks = (self.scheme.generator, self.scheme.discriminator)
        weights = itertools.chain.from_iterable([*n.parameters(), *n.buffers()] for n in networks)
        of_optimizers = (value for o in self.optimizers for state in o.state.values() for value in state.values())
        return [
            *weights,
            *self.scheme.tensors(),
            *self.extra_state,
            *(value for value in of_optimizers if isinstance(value, Tensor)),
        ]

    def forget_graphs(self) -> None:
        """Drop the captured graphs and their memory; the next steps capture anew. Waits for the device."""
        if self._graphs:
            synchronize(self.device)  # a graph that is destroyed while it runs does not do all of its work
            self._graphs.clear()
        self._pool = None

    @contextmanager
    def undone(self, *, copies_on: str | None = None) -> Iterator[None]:
        """Take back what steps in the context do, in place: weights, optimizers, random state, order of the data.

        `copies_on` is the device on which the values of before are kept; None: where they are.
        """
        without_state = [optimizer for optimizer in self.optimizers if not optimizer.state]
        tensors = self.state()
        values = [tensor.detach().to(copies_on or tensor.device, copy=True) for tensor in tensors]
        drawn, num_steps = self.batches.drawn, self.scheme.num_steps
        try:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
            for optimizer in without_state:
                if optimizer.state:
                    optimizer.state.clear()
                    self.forget_graphs()  # they write to a state that is gone
                    self._can_capture = False
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            self.batches.seek(drawn)
            self.scheme.num_steps = num_steps

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Let the scheme call its networks uncompiled and as if alone, for those who count or mark what they do.

        Of several processes, each then moves by its own gradients: undo such steps, or take none but this process's.
        """
        faster = self.scheme.G, self.scheme.D
        self.scheme.G, self.scheme.D = self._uncompiled
        try:
            yield
        finally:
            self.scheme.G, self.scheme.D = faster

    def _step(self) -> StepStats:
        stats = self.scheme.update(*self._draw())
        if self.after_step is not None:
            self.after_step()
        return stats

    def draw(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Draw the next batch as the scheme takes it, outside a step."""
        self.batches.advance()
        return self._draw()

    def _draw(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        real, labels = self.batches.draw()
        if real.ndim == 4:
            real = real.contiguous(memory_format=MEMORY_FORMATS[self._memory_format])
        return real, (labels,) if self.conditional and labels is not None else ()

    def _set_flags(self) -> None:
        tf32 = self.engine.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        if self.engine.precision == "tf32" and self.device.type != "cuda":
            self._fall_back("tf32", f"a device of type {self.device.type} computes in fp32")

    def _place(self, memory_format: str) -> None:
        self._memory_format = memory_format
        placement.lay_out(self.scheme, MEMORY_FORMATS[memory_format])
        self._uncompiled = placement.in_precision(self.scheme, self.engine.precision, self.device.type)

    def _compile(self) -> None:
        torch._dynamo.config.cache_size_limit = 64  # torch 2.6 lacks its newer name, recompile_limit
        torch._functorch.config.donated_buffer = False  # `simultaneous` goes backward twice
        cause = self._try_to_compile()
        if cause and self._memory_format != "contiguous":
            # Torch 2.11's compiler mistakes how the weight's gradient of a transposed convolution of 1x1 images lies.
            asked = self._memory_format
            self._place("contiguous")
            if self._try_to_compile() is None:
                self.fallbacks.append(f"compile is not possible here in {asked}, but in contiguous: {cause}")
                self._warn()
                return
            self._place(asked)
        if cause:
            self._fall_back("compile", cause)

    def _try_to_compile(self) -> str | None:
        """Compile G and D and take a step, which is taken back; returns why not, the same in all processes."""
        # fullgraph: what cannot be compiled is said, not run in pieces
        self.scheme.G, self.scheme.D = (torch.compile(n, dynamic=False, fullgraph=True) for n in self._uncompiled)
        # Reduced while it is compiled: only then torch.compile cuts the backward pass where a reduction can begin.
        ddp.distribute(self.scheme)
        error: str | None = None
        try:
            with warnings.catch_warnings(), self.undone(), self.scheme.unreduced():
                # Older PyTorch looks at .grad of the fakes while it traces, and warns of itself.
                warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
                self.batches.advance()
                self._step()
        except Exception as caught:  # whatever a compiler may raise
            error = _first_line(caught)
        cause: str | None = next(filter(None, processes.gather_to_all(error)), None)
        if cause:
            self.scheme.G, self.scheme.D = self._uncompiled
        return cause

    def _forget_stale_graphs(self) -> None:
        """Capture anew when a scheduler has changed a number; go on eagerly when that happens all the time."""
        if not self._graphs or capture.hyperparameters(self.optimizers) == self._baked:
            return
        self.forget_graphs()
        self._short_lived = self._short_lived + 1 if self._served < SHORT_LIVED else 0
        if self._short_lived > 1:
            cause = (
                "a learning rate or another number of an optimizer changes all the time, and a graph holds it as it was"
            )
            self._fall_back("cuda_graph", f"{cause}: pass lr as a tensor on the GPU, as osgan.optim does")

    def _capture(self, due: Any) -> None:
        if objection := capture.host_state(self.optimizers):
            self._fall_back("cuda_graph", objection)
            return
        # One stream for warm-up and capture: autograd remembers the stream on which it first saw a weight.
        stream, caller = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            with self.undone(copies_on="cpu"):  # they would count in the peak of a step's memory
                stream.wait_stream(caller)
                with torch.cuda.stream(stream):
                    for _ in range(CAPTURE_WARMUP):
                        self.batches.advance()
                        self._step()
                caller.wait_stream(stream)
                for optimizer in self.optimizers:
                    optimizer.zero_grad()
                self.batches.advance()
                # Thread-local: a data loader's thread that pins memory meanwhile does not spoil the capture.
                with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                    losses = torch.stack(self._step())
        except Exception as error:  # user code may do anything that a graph cannot hold
            capture.end_failed(graph, caller)
            if isinstance(error, torch.OutOfMemoryError):
                raise  # eagerly it might fit, but that would be another engine than the one that was asked for
            self._fall_back("cuda_graph", _first_line(error))
            return
        self._graphs[due] = graph, losses
        self._baked, self._served = capture.hyperparameters(self.optimizers), 0

    def _fall_back(self, what: str, cause: str) -> None:
        self._captures = self._captures and what != "cuda_graph"
        self.fallbacks.append(f"{what} is not possible here: {cause}")
        self._warn("going on without it")

    def _warn(self, outcome: str = "going on so") -> None:
        if processes.rank() == 0:
            warnings.warn(f"{self.fallbacks[-1]}; {outcome}", EngineWarning, stacklevel=5)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
