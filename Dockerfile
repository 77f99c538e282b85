FROM rust:1.95.0-bookworm AS build
WORKDIR /build
COPY . .
# The caches outlive a build, so that an edit compiles only what it touches. They are no part of the image: the program is
# taken out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --release --locked --bin messaging-hub \
    && cp target/release/messaging-hub /usr/local/bin/messaging-hub

FROM debian:12.11-slim
# Outgoing HTTPS needs the certificate authorities; the slim image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/messaging-hub messaging-hub
COPY --from=build /usr/local/bin/messaging-hub /usr/local/bin/messaging-hub
USER 10001:10001
WORKDIR /var/lib/messaging-hub
# Database and keys of a hub without PostgreSQL of its own. Keys and addresses are given at the start, never built in.
VOLUME ["/var/lib/messaging-hub"]
ENV HUB__SERVER__BIND=0.0.0.0:8000 \
    HUB__DATABASE__PATH=/var/lib/messaging-hub/data \
    HUB__LOG__FORMAT=json
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["messaging-hub", "health"]
ENTRYPOINT ["messaging-hub"]
CMD ["serve"]
