# A worker. PyPI's torch brings its CUDA libraries; the host gives the driver (NVIDIA container toolkit).
# Build from the repository's root: docker build -f docker/worker.Dockerfile .
# Without CUDA, gigabytes smaller: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ARG PIP_EXTRA_INDEX_URL
COPY Makefile pyproject.toml constraints.txt README.md LICENSE ./
COPY client client
COPY images images
COPY jobs jobs
COPY models models
COPY worker worker
RUN mkdir api && make install EXTRAS=worker VENV=/venv

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home refinery && install -d -o refinery /data /weights
COPY --from=build /venv /venv
# Triton, which torch brings where it brings CUDA, builds what starts its kernels with a C compiler.
RUN if [ -d /venv/lib/python3.12/site-packages/triton ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; fi
COPY --from=build /app /app
WORKDIR /app
USER refinery
# What Triton builds is kept beside the weights: it is loaded as a library, which /tmp may not allow.
ENV REFINERY_WEIGHTS_DIR=/weights TRITON_CACHE_DIR=/weights/triton
# Healthy: it is known to the store, and its device works. A device process that hangs or dies is replaced by the worker.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["/venv/bin/python", "-m", "worker", "status", "--self"]
ENTRYPOINT ["/venv/bin/python", "-m", "worker"]
