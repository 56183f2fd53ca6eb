# Two stages: the first installs the locked packages, the second holds them, the code, and a C compiler for the GPU.
# A mirror of Docker Hub, where the hub cannot be reached: --build-arg REGISTRY=mirror.example.com/library
ARG REGISTRY=docker.io/library

FROM ${REGISTRY}/python:3.12-slim-bookworm AS packages
# Where pip takes packages from, and where it takes torch from; empty means the usual index. torch's usual build is
# CUDA's (several GB); its CPU build: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG PIP_INDEX_URL=
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements /requirements
# Wheels only: no package is compiled. The hashes hold whatever the index is.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --only-binary=:all: --require-hashes --no-deps -r /requirements/engine.txt && \
    /opt/venv/bin/pip install --only-binary=:all: ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r /requirements/torch.txt && \
    /opt/venv/bin/pip install --only-binary=:all: --require-hashes --no-deps -r /requirements/demo.txt
# What sends traces (CHATGLM_OTLP_ENDPOINT): --build-arg TRACES=yes
ARG TRACES=
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "$TRACES" ]; then \
    /opt/venv/bin/pip install --only-binary=:all: --require-hashes --no-deps -r /requirements/otel.txt; fi

FROM ${REGISTRY}/python:3.12-slim-bookworm AS service
# The home directory is the cache: models from the hub, the converted demo model, and whatever libraries put there.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /cache --shell /usr/sbin/nologin chatglm && \
    install --directory --owner=chatglm --group=chatglm --mode=0700 /data /cache
# The engine's kernels for a GPU are compiled when it first starts, by a compiler of about 190 MB. An image for CPUs
# does without: --build-arg COMPILER=
ARG COMPILER="gcc libc6-dev"
RUN if [ -n "$COMPILER" ]; then \
    apt-get update && apt-get install --yes --no-install-recommends $COMPILER && rm -rf /var/lib/apt/lists/*; fi
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv
COPY pyproject.toml ./
COPY schemas schemas
COPY database database
COPY migrations migrations
COPY services services
COPY tools tools
COPY app app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/cache/torchinductor \
    CHATGLM_HOST=0.0.0.0 \
    CHATGLM_PORT=8888 \
    CHATGLM_DATA_DIR=/data
VOLUME ["/data", "/cache"]
EXPOSE 8888
USER 10001:10001
# Alive, not ready: loading a model takes minutes and is no fault. /readyz tells a load balancer the rest.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "tools.healthcheck"]
# The schema is migrated by a command of its own, before: python -m tools.admin database upgrade
CMD ["python", "-m", "app"]
