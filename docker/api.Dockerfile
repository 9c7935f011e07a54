# The API: no torch, no onnx, no numpy. Build from the root of the repository:
#   docker build -f docker/api.Dockerfile -t lookahead-api .
FROM python:3.11-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/lookahead
WORKDIR /src
COPY pyproject.toml README.md ./
COPY api_schemas api_schemas
COPY store store
COPY service service
RUN /opt/lookahead/bin/pip install ".[api]"


FROM python:3.11-slim

ENV PATH=/opt/lookahead/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOOKAHEAD_DATA_DIR=/data \
    LOOKAHEAD_HOST=0.0.0.0
RUN useradd --system --uid 10001 --no-create-home --home-dir /data lookahead \
    && install --directory --owner=lookahead --group=lookahead --mode=0750 /data
COPY --from=build /opt/lookahead /opt/lookahead
COPY docker/prepare.py docker/api_health.py /opt/lookahead/share/
USER lookahead
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=12s --start-period=30s --retries=3 \
    CMD ["python", "/opt/lookahead/share/api_health.py"]
ENTRYPOINT ["python", "-P", "-m", "service"]
