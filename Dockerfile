# The HTTP service on CPUs; docs/serve.md has the two commands. Not built yet: no Docker was at hand.
FROM python:3.12-slim

# A compiler, for the convolutions in C++, which are made for the CPU that the service runs on.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

COPY . /source
RUN pip install --no-cache-dir '/source[serve]' && rm -rf /source \
    && useradd --create-home gait && mkdir /gallery && chown gait /gallery

USER gait
VOLUME /gallery
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/health', timeout=4)"]
ENTRYPOINT ["mcl-jax", "serve", "--gallery", "/gallery", "--create", "--address", "0.0.0.0"]
