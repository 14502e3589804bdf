"""What this machine has, what the toolkit uses, and what is missing: for `tb doctor`."""

import os
import platform
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import av
import torch

from loaders.engines.choice import dali_is_installed, why_not_dali
from loaders.engines.cpu import cpu_render_video
from loaders.engines.dali.caps_cache import caps_cache
from loaders.engines.dali.nvdec import GPU_CODECS, NvdecError, decoder_caps
from shards.cpus import num_cpus
from shards.encode.codecs import CODECS
from shards.errors import InputError
from shards.files.path_kinds import is_folder
from shards.files.publish import unfinished_file
from tb.config.sections import Machine
from tb.training.precision import precision_of
from tb.version import version_text

_TRIAL_BYTES = 64 << 20
# What an extra is for, and a module that comes with it.
_EXTRAS = {
    "dali": ("nvidia.dali", "decoding and augmentation on a GPU"),
    "ecosystem": ("lightning", "Lightning, Accelerate, torchdata, webdataset"),
    "gcs": ("gcsfs", "shards on Google Cloud Storage"),
    "ray": ("ray", "sharding on a Ray cluster"),
    "s3": ("s3fs", "shards on S3"),
    "wandb": ("wandb", "Weights & Biases"),
}


@dataclass(frozen=True, kw_only=True)
class MachineFact:
    """One thing that matters for speed or for what works.

    Attributes:
        name: The thing.
        found: What there is.
        so: What follows: what is used and why, or what to do.
        is_missing: Whether something useful is missing.
    """

    name: str
    found: str
    so: str
    is_missing: bool = False


def diagnose(folder: Path) -> list[MachineFact]:
    """The facts, in the order in which a video meets them: disk, decoders, engine, network.

    Args:
        folder: A folder on the disk of the shards; 64 MiB are written there, read, and removed.

    Raises:
        InputError: The folder cannot be used.
    """
    return [
        _program(),
        _processors(),
        _disk(folder),
        _decoders(),
        _gpu(),
        _nvdec(),
        _dali(),
        _engine(),
        _precision(),
        *_extras(),
    ]


def _program() -> MachineFact:
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return MachineFact(name="timebalance", found=version_text(), so=versions)


def _processors() -> MachineFact:
    cores = num_cpus()
    return MachineFact(
        name="processors",
        found=f"{cores} usable, {platform.machine()}",
        so=f"{cores} loader threads and sharding workers (machine.num_workers, --workers)",
    )


def _disk(folder: Path) -> MachineFact:
    write_s, read_s, is_cached = _disk_times(folder)
    mb = _TRIAL_BYTES / 1e6
    so = "the read may come from memory, so the disk may be slower" if is_cached else ""
    if mb / read_s < 100:
        so = "slow: machine.order=windowed reads nearly sequentially, or use a local disk"
    return MachineFact(
        name="disk",
        found=f"{folder}: writes {mb / write_s:.0f} MB/s, reads {mb / read_s:.0f} MB/s",
        so=so or "fast enough for the order 'global'",
    )


def _disk_times(folder: Path) -> tuple[float, float, bool]:
    """Seconds to write and to read, and whether the read may have come from memory."""
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder; give one on the disk of the shards")
    data = os.urandom(1 << 20)
    try:
        with unfinished_file(folder / "tb-doctor") as path:
            began_s = time.perf_counter()
            with path.open("wb") as file:
                for _ in range(_TRIAL_BYTES >> 20):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
                write_s = time.perf_counter() - began_s
                is_cached = not hasattr(os, "posix_fadvise")
                if not is_cached:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            began_s = time.perf_counter()
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass
            return write_s, time.perf_counter() - began_s, is_cached
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}; give a folder that may be written"
        ) from error


def _decoders() -> MachineFact:
    wanted = [*sorted(name for name, codec in CODECS.items() if not codec.keeps_files), "av1"]
    there = [name for name in wanted if _has_decoder(name)]
    lacking = [name for name in wanted if name not in there]
    advice = f"no {', '.join(lacking)}: pip install --force-reinstall av"
    return MachineFact(
        name="CPU decoders",
        found=f"PyAV {av.__version__}: {', '.join(there)}",
        so=advice if lacking else "all that shards may need",
        is_missing=bool(lacking),
    )


def _has_decoder(codec: str) -> bool:
    try:
        av.CodecContext.create(codec, "r")
    except ValueError:
        return False
    return True


def _gpu() -> MachineFact:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        so = "training and loading use the CPU"
        so += "" if built else "; this torch has no CUDA: see pytorch.org for one that has"
        return MachineFact(name="GPU", found="none that torch sees", so=so, is_missing=True)
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"{one.name} ({one.total_memory >> 30} GiB)" for one in devices)
    return MachineFact(
        name="GPU",
        found=names,
        so="one process for each: torchrun --nproc-per-node" if len(devices) > 1 else "it is used",
    )


def _nvdec() -> MachineFact:
    if not torch.cuda.is_available():
        return MachineFact(name="NVDEC", found="needs a GPU", so="videos are decoded on the CPU")
    device = torch.device("cuda")
    try:
        caps = {codec: decoder_caps(device, codec) for codec in sorted(GPU_CODECS)}
    except NvdecError as error:
        so = "videos are decoded on the CPU; a container needs the driver capability 'video'"
        return MachineFact(name="NVDEC", found=str(error), so=so, is_missing=True)
    takes = [codec for codec, one in caps.items() if one.is_supported]
    number = max(one.num_decoders for one in caps.values())
    return MachineFact(name="NVDEC", found=f"{number} decoders: {', '.join(takes)}", so="for dali")


def _dali() -> MachineFact:
    has_gpu = torch.cuda.is_available()
    if dali_is_installed():
        if has_gpu and caps_cache() is None:  # its warning says why
            so = "at most about 100 videos/s; more with a C compiler"
            return MachineFact(name="DALI", found="installed", so=so, is_missing=True)
        return MachineFact(name="DALI", found="installed", so="used where NVDEC takes the videos")
    so = "pip install 'timebalance[dali]'" if has_gpu else "of no use without a GPU"
    return MachineFact(name="DALI", found="not installed", so=so, is_missing=has_gpu)


def _engine() -> MachineFact:
    try:
        cpu_render_video("fused")
    except InputError as error:
        return MachineFact(name="engine", found="reference", so=str(error), is_missing=True)
    obstacle = why_not_dali("auto", frozenset({"h264"}))
    if obstacle:
        return MachineFact(name="engine", found="fused for h264", so=obstacle)
    so = "each stage measures both once; dali must be twice as fast"
    return MachineFact(name="engine", found="dali or fused for h264", so=so)


def _precision() -> MachineFact:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = precision_of(Machine(), device)
    compiled = "with" if device.type == "cuda" else "without"
    return MachineFact(
        name="training",
        found=f"on {device.type}, amp {found}",
        so=f"{compiled} torch.compile (machine.amp, machine.compile)",
    )


def _extras() -> list[MachineFact]:
    """The installed extras and the others: two facts at most."""
    there = {name: _is_installed(module) for name, (module, _) in _EXTRAS.items()}
    facts = []
    if any(there.values()):
        names = ", ".join(name for name, is_there in there.items() if is_there)
        facts.append(MachineFact(name="extras", found=names, so="installed"))
    lacking = [name for name, is_there in there.items() if not is_there]
    if lacking:
        uses = "; ".join(f"{name}: {_EXTRAS[name][1]}" for name in lacking)
        so = f"pip install 'timebalance[{','.join(lacking)}]' ({uses})"
        facts.append(
            MachineFact(name="other extras", found="not installed", so=so, is_missing=True)
        )
    return facts


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
