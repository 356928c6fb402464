# The relay in a container: docker build -t outbox-relay .
#
# It builds with BuildKit and with the older builder of Debian's docker.io, which knows no cache mounts.

FROM rust:1.90.0-bookworm AS build

# librdkafka is built from source; compiler, make and perl are in the image.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /build

# The dependencies by themselves, with an empty program: this layer, which takes minutes, stays until they change.
# Cargo wants to see the benchmarks that the manifest names.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
RUN mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked --bin outbox-relay \
    && rm -r src

COPY sql sql
COPY src src
# Cargo goes by time, and the files may be older than the empty program.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --bin outbox-relay

# libc, libgcc_s, certificates of authorities and time zones; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot

LABEL org.opencontainers.image.title="outbox-relay" \
      org.opencontainers.image.description="Relays committed rows of a PostgreSQL outbox table to Kafka"

COPY --from=build /build/target/release/outbox-relay /usr/local/bin/outbox-relay

# Inside the container 127.0.0.1 could be reached by nobody.
ENV OUTBOX_RELAY_HTTP__LISTEN=0.0.0.0:9464
EXPOSE 9464

# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532

# The relay stops in an orderly way. Give it more than delivery.drain_timeout: docker stop --time 30.
STOPSIGNAL SIGTERM

# There is no HEALTHCHECK: probe /live on port 9464, and /ready where it matters whether events move.
ENTRYPOINT ["/usr/local/bin/outbox-relay"]
CMD ["run"]
