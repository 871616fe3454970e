# A worker. PyPI's torch brings its CUDA libraries; the host gives the driver (NVIDIA container toolkit).
# Build from the repository's root: docker build -f docker/worker.Dockerfile .
# Without CUDA, gigabytes smaller: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ARG PIP_EXTRA_INDEX_URL
COPY Makefile pyproject.toml constraints.txt README.md LICENSE ./
COPY images images
COPY jobs jobs
COPY models models
COPY worker worker
RUN mkdir api && make install EXTRAS=worker VENV=/venv

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home refinery && install -d -o refinery /data /weights
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER refinery
ENV REFINERY_WEIGHTS_DIR=/weights
# Healthy: it is known to the store, and its device works. A step that hangs ends the process itself.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["/venv/bin/python", "-m", "worker", "status", "--self"]
ENTRYPOINT ["/venv/bin/python", "-m", "worker"]
