# The worker: supervisor, sandbox and engine. Build from the root of the repository.
# As it stands it installs the torch of the Python Package Index, which on x86-64 is the CUDA build:
#   docker build -f docker/worker.Dockerfile -t lookahead-worker:cuda .
# For a machine without a GPU, name the index of PyTorch's CPU wheels and save some gigabytes:
#   docker build -f docker/worker.Dockerfile --build-arg TORCH_INDEX_URL=… -t lookahead-worker:cpu .
FROM python:3.11-slim AS build

ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/lookahead
# Torch first, in a layer of its own that a change of our code does not rebuild.
RUN /opt/lookahead/bin/pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"
WORKDIR /src
COPY pyproject.toml README.md ./
COPY api_schemas api_schemas
COPY store store
COPY worker worker
RUN /opt/lookahead/bin/pip install ".[worker]"


FROM python:3.11-slim

ENV PATH=/opt/lookahead/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOOKAHEAD_DATA_DIR=/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# libseccomp is what the sandbox's filter is made with; libgomp is what torch and onnxruntime share work with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libseccomp2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --home-dir /data lookahead \
    && install --directory --owner=lookahead --group=lookahead --mode=0750 /data
COPY --from=build /opt/lookahead /opt/lookahead
COPY docker/worker_health.py /opt/lookahead/share/
USER lookahead
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s --retries=3 \
    CMD ["python", "/opt/lookahead/share/worker_health.py"]
ENTRYPOINT ["python", "-P", "-m", "worker"]
