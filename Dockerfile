# One image for training and serving: docker build -t cohyde:cpu .   or   docker build --build-arg EXTRA=gpu -t cohyde:gpu .
# Build it where pip finds a CPU build of torch, or name the index: --build-arg TORCH_INDEX=<index of torch's CPU wheels>.
FROM python:3.11-slim

# gcc and g++: torch and triton compile kernels as they are first used. wget: KubeRay's probes ask with it. libnuma1: vLLM's CPU build.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ gcc libc6-dev libgomp1 libnuma1 wget \
    && rm -rf /var/lib/apt/lists/*

# The user and group that Ray's own images have, so that volumes made for those fit.
RUN groupadd --gid 1000 ray && useradd --uid 1000 --gid ray --create-home ray
WORKDIR /opt/cohyde
RUN chown ray:ray /opt/cohyde
USER ray

# cpu or gpu.
ARG EXTRA=cpu
ARG TORCH_INDEX=""
# What the install reads, before the code: a change of the code then leaves the layer of the libraries as it is.
COPY --chown=ray:ray pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=ray:ray .ci/install.py .ci/install.py
RUN python .ci/install.py --no-dev --extra "${EXTRA}" --torch-index "${TORCH_INDEX}"
ENV PATH=/opt/cohyde/.venv/bin:${PATH}

COPY --chown=ray:ray actors actors
COPY --chown=ray:ray configs configs
COPY --chown=ray:ray pipelines pipelines
COPY --chown=ray:ray serve_app serve_app
# The code was not there when the libraries were installed, so it is found by its folder.
ENV PYTHONPATH=/opt/cohyde

# Every node finds the default models under the same path, and none asks the hub for another copy.
RUN python -c "from actors.models import resolve_encoder, resolve_rewriter; from configs.schema import Config; c = Config(); \
    print(resolve_encoder(c.encoder.model), resolve_rewriter(c.rewriter.model))"
ENV HF_HUB_OFFLINE=1

# A login shell, which some of KubeRay's commands run in, sets PATH anew.
USER root
RUN echo 'export PATH=/opt/cohyde/.venv/bin:$PATH' > /etc/profile.d/cohyde.sh
USER ray
CMD ["cohyde", "--help"]
