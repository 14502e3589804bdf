# TimeBalance on a machine with NVIDIA GPUs. The machine needs Docker, NVIDIA's container toolkit, and a
# driver for CUDA 13, with which PyTorch's wheels are built.
#
#     docker build --tag timebalance .
#     docker run --rm --gpus all timebalance doctor
#     docker run --rm --gpus all --shm-size 1g --volume /data:/data --volume /runs:/runs \
#         timebalance train all --shards /data/ucf101 --out /runs/ucf101
#
# Nobody has built this image yet. docs/training.md says which of its commands have run.

FROM python:3.12-slim-bookworm AS wheel
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
# With .git, so that `tb --version` names the commit.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim-bookworm
# torch.compile and Triton call a compiler while a training runs.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
# PyTorch's and DALI's wheels bring CUDA. The driver comes from the machine.
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[dali,s3,gcs]"
# The container toolkit shows a container only the parts of the driver that it asks for; "video" is NVDEC.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
RUN tb --version
WORKDIR /runs
ENTRYPOINT ["tb"]
