# An image of Parley: the pinned packages of requirements/, the project itself, and nothing to build with.
#   docker build --build-arg EXTRAS="llm postgres" --tag parley-server .
# EXTRAS are names of locks in requirements/, separated by spaces: llm, cloud, postgres, cluster.

# Named up to the minor version, so that a build anew brings the fixes of Python and Debian.
FROM python:3.11-slim-bookworm AS build
ARG EXTRAS=""
WORKDIR /src
COPY requirements requirements
RUN python -m venv /opt/parley \
    && for lock in runtime ${EXTRAS}; do \
        /opt/parley/bin/pip install --no-cache-dir --no-input --require-hashes --no-deps \
            -r "requirements/${lock}.txt" || exit 1; \
    done
COPY pyproject.toml README.md LICENSE parley_main.py ./
COPY server server
COPY storage storage
COPY events events
COPY runtime_stub runtime_stub
RUN /opt/parley/bin/pip install --no-cache-dir --no-build-isolation --no-deps .

FROM python:3.11-slim-bookworm AS parley
RUN groupadd --gid 10001 parley \
    && useradd --uid 10001 --gid parley --no-create-home --home-dir /var/lib/parley \
        --shell /usr/sbin/nologin parley \
    && install -d -o parley -g parley -m 700 /var/lib/parley \
    && install -d /etc/parley
COPY --from=build /opt/parley /opt/parley
# The root file system may be mounted read-only, so nothing is compiled where the packages lie.
ENV PATH=/opt/parley/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PARLEY_HOST=0.0.0.0 \
    PARLEY_PORT=3000 \
    PARLEY_DATA_DIR=/var/lib/parley
# A parley.toml that is mounted here is read.
WORKDIR /etc/parley
USER 10001:10001
VOLUME ["/var/lib/parley"]
EXPOSE 3000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PARLEY_PORT'] + '/ready', timeout=4)"]
ENTRYPOINT ["parley"]
CMD ["serve"]
