# One image for every part: worker, beat, Flower, the command `persona-sync`, the sandbox.
# docker-compose.yml says what each runs; there is no health check here, since each has its own.
# The base is pinned to a patch release; raise it here and in no other place.
FROM python:3.13.16-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1


FROM base AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
# Dependencies come first, so that a change of the code does not fetch them again. They are
# wheels only, hence no compiler; their versions are those of deploy/constraints.txt.
COPY pyproject.toml deploy/constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary=:all: --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY worker ./worker
COPY producer ./producer
COPY console ./console
COPY sandbox ./sandbox
RUN pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --no-deps .


FROM base
# The number, not the name, is what a cluster or a volume's owner sees; keep it.
RUN groupadd --gid 10001 persona-sync \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin persona-sync
COPY --from=build /opt/venv /opt/venv
COPY deploy/flower_config.py deploy/demo.sh /opt/persona-sync/
ENV PATH=/opt/venv/bin:$PATH
# Writable also where the root file system is read-only: `import -` leaves refused lines here.
WORKDIR /tmp
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["persona-sync", "--help"]
