# The HTTP api: no torch. Build from the repository's root: docker build -f docker/api.Dockerfile .
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY Makefile pyproject.toml constraints.txt README.md LICENSE ./
COPY client client
COPY images images
COPY jobs jobs
COPY api api
COPY models models
COPY docker/slim-api.sh docker/
# What an api never uses at run time goes: Celery's shell, pip, most codecs, tests of libraries, the network's weights.
RUN mkdir worker && make install EXTRAS=service VENV=/venv \
    && /venv/bin/python -m pip uninstall --quiet --yes click-repl prompt-toolkit wcwidth pip \
    && sh docker/slim-api.sh /venv \
    && rm -r docker models/weights/*.safetensors

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home refinery && install -d -o refinery /data
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER refinery
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/venv/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["/venv/bin/python", "-m", "api"]
CMD ["--host", "0.0.0.0", "--port", "8000"]
