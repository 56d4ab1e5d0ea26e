FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/r8scan && /opt/r8scan/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE celeryconfig.py ./
COPY scanner scanner
COPY workers workers
COPY notifications notifications
RUN /opt/r8scan/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
# git reads histories on a rescan.
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/r8scan r8scan
COPY --from=build /opt/r8scan /opt/r8scan
ENV PATH=/opt/r8scan/bin:$PATH PYTHONUNBUFFERED=1 R8SCAN_STATE_DIR=/var/lib/r8scan R8SCAN_LOG_FORMAT=json R8SCAN_ALIVE_FILE=/tmp/alive
USER r8scan
WORKDIR /var/lib/r8scan
VOLUME /var/lib/r8scan
STOPSIGNAL SIGTERM
# `run` and `serve` touch the file. Commands that end by themselves are over before the first check.
HEALTHCHECK --interval=30s --timeout=20s --retries=3 --start-period=30s CMD ["python", "-m", "workers.alive"]
ENTRYPOINT ["r8scan"]
CMD ["--help"]
