"""A pretend GPU: tensors that say they are on cuda:0, whose values are computed on the CPU.

As on a real one, a tensor in main memory among those of the GPU is an error, but for single
numbers, indices and copies; one of the GPU is no numpy array; and what is drawn there comes from a
state of its own. It shows what stands on the wrong device, not what a GPU's kernels compute.

`python tests/pretend_cuda.py <project> <stage>:<key> …` runs stages on it. It is for a process of
its own: torch counts its devices once.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "Pretend GPU"
HERE, CPU = torch.device("cuda:0"), torch.device("cpu")
aten, DEVICE_OF = torch.ops.aten, torch.ops.prim.device.default
COPIES = {aten.copy_, aten.copy, aten._to_copy, aten._foreach_copy_}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
drawn: dict[str, Tensor] = {}


class OnDevice(Tensor):
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool | None = None) -> Any:
        if requires_grad is not None:  # by accelerate, which asks a parameter for its class
            return nn.Parameter(held, requires_grad)
        with torch.inference_mode(False):  # in which a part of what was made outside is refused
            told = held.to("meta")
            if held.layout == torch.strided:
                told = torch.empty_strided(
                    held.shape, held.stride(), dtype=held.dtype, device="meta"
                )
            made: Any = Tensor._make_subclass(
                cls, told, False, dispatch_device=True, device_for_backend_keys=HERE
            )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(func, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: Any) -> None:
        Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.held = other.held

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"on {HERE}: {self.held!r}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        held: Any = self.held.detach()
        return held.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        if id(self) not in memo:
            made = OnDevice(self.held.detach().clone()).requires_grad_(self.requires_grad)
            made._is_param = isinstance(self, nn.Parameter)
            memo[id(self)] = made
        return memo[id(self)]

    def tolist(self) -> Any:
        return self.held.tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()


class _Device(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled() and func is not DEVICE_OF:
            with self:  # outside of inference mode autograd takes it apart
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    if func is DEVICE_OF:
        return HERE
    leaves, tree = tree_flatten((args, kwargs))
    there = {id(one.held): one for one in leaves if isinstance(one, OnDevice)}
    wanted = kwargs.get("device")
    here = bool(there) if wanted is None else torch.device(wanted).type == "cuda"
    if not (here or there):
        return func(*args, **kwargs)
    _check(func, args, kwargs, leaves if there else [])
    args, kwargs = tree_unflatten([_held(one) for one in leaves], tree)
    kwargs.pop("pin_memory", None)
    with _own_draws(torch.Tag.nondeterministic_seeded in func.tags):
        found = func(*args, **kwargs)
    if func.overloadpacket is aten.copy_:
        here = id(found) in there

    def put(one: Any) -> Any:
        if not (here and isinstance(one, Tensor)):
            return one
        return there[id(one)] if id(one) in there else OnDevice(one)

    return tree_map(put, found)


def _held(one: Any) -> Any:
    if isinstance(one, OnDevice):
        return one.held
    return CPU if isinstance(one, torch.device) and one.type == "cuda" else one


def _check(func: Any, args: Any, kwargs: Any, leaves: list[Any]) -> None:
    packet, given = func.overloadpacket, [one for one in leaves if isinstance(one, Tensor)]
    if isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if packet in COPIES:
        return
    if packet in INDEXED and isinstance(args[0], OnDevice):
        given = [one for one in args[2:3] if isinstance(one, Tensor)]
    for one in given:
        if not isinstance(one, OnDevice) and (one.ndim or packet is aten.cat):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({func})"
            )


@contextmanager
def _own_draws(random: bool) -> Iterator[None]:
    if not random:
        yield
        return
    before = torch.get_rng_state()
    torch.set_rng_state(drawn["state"])
    try:
        yield
    finally:
        drawn["state"] = torch.get_rng_state()
        torch.set_rng_state(before)


def _seed(seed: int) -> None:
    drawn["state"] = torch.Generator().manual_seed(int(seed)).get_state()


def _apply(module: nn.Module, move: Any, recurse: bool = True) -> nn.Module:
    """As nn.Module's own, which cannot give a parameter another kind of tensor."""
    made: dict[int, tuple[Any, ...]] = {}
    for child in module.modules():
        for name, old in list(child._parameters.items()):
            if old is not None and id(old) not in made:
                with torch.no_grad():
                    new = move(old)
                if new is not old and isinstance(new, OnDevice) == isinstance(old, OnDevice):
                    old.data = new
                elif new is not old:
                    made[id(old)] = (nn.Parameter(new, old.requires_grad), old)
            child._parameters[name] = made.get(id(old), (old,))[0]
        for name, buffer in child._buffers.items():
            child._buffers[name] = None if buffer is None else move(buffer)
    return module


CUDA: dict[str, Any] = {
    "_lazy_init": lambda: None,
    "_is_in_bad_fork": lambda: False,
    "is_initialized": lambda: True,
    "is_available": lambda: True,
    "is_bf16_supported": lambda including_emulation=True: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "synchronize": lambda device=None: None,
    "empty_cache": lambda: None,
    "mem_get_info": lambda device=None: (70 * 2**30, 80 * 2**30),
    "get_device_name": lambda device=None: NAME,
    "get_device_capability": lambda device=None: (8, 0),
    "get_device_properties": lambda device=None: SimpleNamespace(
        name=NAME, total_memory=80 * 2**30, major=8, minor=0
    ),
    "manual_seed": _seed,
    "manual_seed_all": _seed,
    "get_rng_state": lambda device=None: drawn["state"].clone(),
    "set_rng_state": lambda state, device=None: drawn.update(state=state.clone()),
}


@contextmanager
def gpu() -> Iterator[None]:
    """Within it torch has one."""
    _let_torch_carry()
    with ExitStack() as stack:
        for name, what in CUDA.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, what))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        _seed(torch.initial_seed())
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…) is moved where a mode sees it
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        stack.enter_context(_Device())  # type: ignore[no-untyped-call]
        yield


@lru_cache
def _let_torch_carry() -> None:
    source, torch_ = Path(__file__).with_suffix(".cpp"), Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "carry.so"
        linked = [f"-L{torch_ / 'lib'}", f"-Wl,-rpath,{torch_ / 'lib'}", "-lc10", "-ltorch_cpu"]
        shared = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch_ / 'include'}"]
        subprocess.run([*shared, str(source), "-o", str(made), *linked], check=True)
        ctypes.CDLL(str(made)).begin()


def main(project: str, *stages: str) -> None:
    import tiny

    os.chdir(project)
    with gpu(), tiny.one_thread():
        for stage in stages:
            tiny.run_stage(*stage.split(":"))


if __name__ == "__main__":
    main(*sys.argv[1:])
