# The proxy as an image: `docker build -t inworld-proxy .`; how to run it is in docs/container.md.
# For a build that can be repeated, name the base by digest: --build-arg BASE=python:3.12-slim@sha256:…
# Every step but the pull of the base is tried outside a container: scripts/try_dockerfile.py.

ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /source
# The data path is translated to C, which takes a compiler here and none in the image that comes of it. COMPILE=0: not.
ARG COMPILE=1
# Whatever version of the compiler the base's Debian has: none of it is in the image.
# hadolint ignore=DL3008
RUN [ "$COMPILE" = 0 ] || { apt-get update -q && apt-get install -q -y --no-install-recommends gcc libc6-dev; }
# What is copied into the image has no pip: the other environment's installs into it.
RUN python -m venv --without-pip /opt/inworld-proxy && python -m venv /opt/build
# Wheels only: of what others wrote nothing is compiled here.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
# The files that these name by their hashes, and no others: wherever they come from, they are what was looked at. They are
# for Python 3.12; for a base with another, `make lock ARGS="--python 3.13"` first.
COPY deploy/constraints.txt deploy/constraints-build.txt deploy/
RUN /opt/build/bin/python -m pip --python /opt/inworld-proxy/bin/python install --require-hashes -r deploy/constraints.txt \
    && /opt/build/bin/python -m pip install --no-compile --require-hashes -r deploy/constraints-build.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY proxy proxy
RUN INWORLD_PROXY_COMPILE=$COMPILE /opt/build/bin/python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /opt/wheel . \
    && /opt/build/bin/python -m pip --python /opt/inworld-proxy/bin/python install --no-index --no-deps /opt/wheel/*.whl \
    && /opt/build/bin/python -m pip --python /opt/inworld-proxy/bin/python check
COPY scripts/sbom.py scripts/
RUN /opt/inworld-proxy/bin/python scripts/sbom.py --output /opt/inworld-proxy/share/sbom/inworld-proxy.cdx.json

FROM ${BASE}
COPY --from=build /opt/inworld-proxy /opt/inworld-proxy
# A number and not a name, so that Kubernetes can check runAsNonRoot. Nothing in the image belongs to this user.
USER 65532:65532
WORKDIR /
EXPOSE 8080 9464
# ProxyHandler({}): an HTTP_PROXY in the environment is not for a question to ourselves.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["/opt/inworld-proxy/bin/python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:9464/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/inworld-proxy/bin/inworld-proxy"]
CMD ["serve", "--config", "/etc/inworld-proxy/config.yaml"]
